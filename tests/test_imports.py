"""Imports point downward, name what is declared, and stay light."""

import ast
import configparser
import re
import subprocess
import sys
from pathlib import Path

import pytest

import s4m_sb

PACKAGE = Path(s4m_sb.__file__).parent
REPOSITORY = Path(__file__).resolve().parents[1]

# Top to bottom. A module imports only from rows below its own.
LAYERS = (
    ("__main__",),
    ("cli",),
    ("commands.mix", "commands.separate", "commands.export"),
    ("experiment", "mix_csv", "many_files"),
    ("inference", "export", "mix_dataset", "spectrogram", "recordings"),
    ("brain",),
    ("evaluation", "mix_files", "augment", "schedule", "checkpoints"),
    ("mix_metadata", "splits", "model_card", "model_yaml"),
    ("chunking",),
    ("dynamic_mixing", "separate", "metrics", "published", "results"),
    ("score_figure",),
    ("mixtures", "layout", "masknet"),
    ("noise",),
    ("rendering",),
    ("plans", "voice_files"),
    ("corpus", "multiscale", "filterbank", "room_cache", "audio_stream"),
    ("s4",),
    ("kernel", "norm", "depthwise"),
    ("audio", "hparams", "lengths", "levels", "parameters"),
    ("resampling", "rooms"),
    ("batching", "claim", "jobs", "ranks"),
    ("allocator", "atomic", "errors", "fft", "folders"),
    ("__init__", "commands.__init__"),
)
ROW = {name: row for row, names in enumerate(LAYERS) for name in names}


def modules():
    """Every module of the package by its dotted name below ``s4m_sb``."""
    return {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
        for path in sorted(PACKAGE.rglob("*.py"))
    }


def imported(name, path):
    """The absolute dotted names that a module imports, at any depth."""
    package = ["s4m_sb", *name.split(".")[:-1]]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            up = package[: len(package) + 1 - node.level] if node.level else []
            base = ".".join([*up, *filter(None, [node.module])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def imported_inside(name, path, known):
    """The package's own modules, of those known, that a module imports."""
    for target in imported(name, path):
        first, *parts = target.split(".")
        if first != "s4m_sb":
            continue
        # The longest part of the name that is a module; the rest is inside it.
        while parts and ".".join(parts) not in known:
            if ".".join([*parts, "__init__"]) in known:
                parts = [*parts, "__init__"]
            else:
                parts = parts[:-1]
        yield ".".join(parts) or "__init__"


def test_every_module_has_its_layer():
    assert sorted(set(modules()) - set(ROW)) == []
    assert len(ROW) == sum(map(len, LAYERS)), "a module stands in two layers"


@pytest.mark.parametrize("name", sorted(modules()))
def test_imports_point_downward(name):
    upward = [
        target
        for target in imported_inside(name, modules()[name], ROW)
        if ROW[target] <= ROW[name]
    ]
    assert upward == []


def test_an_upward_import_is_found(tmp_path):
    source = tmp_path / "kernel.py"
    source.write_text(
        "import torch\n"
        "from s4m_sb.s4 import S4Layer\n"
        "from s4m_sb import brain, __version__\n"
        "def late():\n"
        "    from .commands import mix\n"
    )
    found = list(imported_inside("kernel", source, ROW))
    assert found == ["s4", "brain", "__init__", "commands.mix"]


def test_only_declared_packages_are_imported():
    # This also keeps the recipes out: `train` or `recipes` is declared nowhere.
    config = configparser.ConfigParser()
    config.read(REPOSITORY / "setup.cfg")
    lines = config["options"]["install_requires"].splitlines()
    for extra in ("eval", "demo", "reverb"):
        lines += config["options.extras_require"][extra].splitlines()
    declared = {re.split(r"[<>=~!\[; ]", line)[0] for line in lines if line}
    declared = {{"pyyaml": "yaml"}.get(name, name) for name in declared}
    allowed = declared | sys.stdlib_module_names | {"s4m_sb"}
    undeclared = {
        f"{name} imports {target}"
        for name, path in modules().items()
        for target in imported(name, path)
        if target.split(".")[0] not in allowed
    }
    assert undeclared == set()


@pytest.mark.parametrize(
    "module, unwanted",
    [
        ("s4m_sb", "numpy torch torchaudio speechbrain matplotlib"),
        ("s4m_sb.cli", "torch torchaudio speechbrain matplotlib"),
        ("s4m_sb.masknet", "speechbrain matplotlib torchmetrics"),
        ("s4m_sb.inference", "matplotlib torchmetrics pesq pystoi"),
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
