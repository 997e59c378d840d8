"""Importing a part loads no more than the part needs."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "module, unwanted",
    [
        ("s4m_sb", "numpy torch torchaudio speechbrain matplotlib"),
        ("s4m_sb.commands.main", "torch torchaudio speechbrain matplotlib"),
        (
            "s4m_sb.network.masknet",
            "speechbrain soundfile torchaudio matplotlib torchmetrics",
        ),
        ("s4m_sb.inference.interface", "matplotlib torchmetrics pesq pystoi"),
    ],
)
def test_import_is_light(module, unwanted):
    program = (
        f"import sys, {module}; "
        f"print(*sorted(set({unwanted.split()}) & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == []
