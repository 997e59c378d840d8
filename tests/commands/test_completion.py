"""Completion of words, by a real bash."""

import builtins
import os
import shutil
import subprocess
import sys

import pytest

from s4m_sb.commands.main import COMMANDS, main
from s4m_sb.pretrained.shipped import shipped_names

# What bash does when TAB is pressed at the end of the line.
PRESS_TAB = """
eval "$(s4m completion bash)"
COMP_LINE="$1" COMP_POINT=${#1} COMP_TYPE=9
_python_argcomplete s4m
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def complete(tmp_path):
    """A bash that has ``s4m`` on its path and two files in its folder."""
    program = tmp_path / "bin" / "s4m"
    program.parent.mkdir()
    program.write_text(
        f"#!{sys.executable}\nimport sys\n"
        "from s4m_sb.commands.main import main\n"
        "sys.exit(main())\n"
    )
    program.chmod(0o755)
    folder = tmp_path / "here"
    (folder / "models").mkdir(parents=True)
    (folder / "meeting.wav").touch()
    package = os.path.dirname(os.path.dirname(main.__code__.co_filename))
    environment = os.environ | {
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "PYTHONPATH": package,
    }

    def press_tab(line):
        result = subprocess.run(
            ["bash", "-c", PRESS_TAB, "bash", line],
            capture_output=True,
            text=True,
            cwd=folder,
            env=environment,
        )
        assert result.stderr == ""
        return {word.strip() for word in result.stdout.splitlines()}

    return press_tab


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_bash_completes_words(complete):
    assert set(COMMANDS) <= complete("s4m ")
    assert complete("s4m sep") == {"separate"}
    assert complete("s4m separate --norm") == {"--normalize"}
    assert complete("s4m separate --normalize ") == {"peak", "mixture", "none"}
    assert complete("s4m separate mee") == {"meeting.wav"}
    words = complete("s4m separate meeting.wav --model ")
    assert words == {*shipped_names(), "models/"}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_its_code(shell, capsys):
    assert main(["completion", shell]) == 0
    assert "s4m" in capsys.readouterr().out


def test_without_argcomplete_the_extra_is_named(monkeypatch, capsys):
    real_import = builtins.__import__

    def without_argcomplete(name, *args, **kwargs):
        if name.split(".")[0] == "argcomplete":
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_argcomplete)
    assert main(["completion", "bash"]) == 2
    assert "pip install 's4m_sb[completion]'" in capsys.readouterr().err
