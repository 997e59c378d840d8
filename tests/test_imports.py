"""Imports point downward, name what is declared, and stay light."""

import ast
import configparser
import re
import subprocess
import sys
from pathlib import Path

import pytest

import s4m_sb
from s4m_sb.cli import COMMANDS
from s4m_sb.inference import S4MSeparation

PACKAGE = Path(s4m_sb.__file__).parent
REPOSITORY = Path(__file__).resolve().parents[1]

# Top to bottom. A module imports only from rows below its own.
LAYERS = (
    ("__main__",),
    ("cli",),
    tuple(f"commands.{name}" for name in COMMANDS),
    ("demo_server",),
    ("demo",),
    ("demo_job",),
    ("reports",),
    ("experiment", "mix_csv", "many_files"),
    ("inference", "export", "mix_dataset", "spectrogram", "recordings"),
    ("brain",),
    ("evaluation", "mix_files", "augment", "schedule", "checkpoints"),
    ("weight_averaging",),
    ("mix_metadata", "splits", "model_card", "model_yaml"),
    ("chunking", "model_files"),
    ("dynamic_mixing", "separate", "metrics", "published", "results"),
    ("score_figure",),
    ("mixtures", "layout", "masknet"),
    ("noise",),
    ("rendering",),
    ("plans", "voice_files"),
    ("corpus", "multiscale", "filterbank", "room_cache", "audio_stream"),
    ("s4",),
    ("kernel", "norm", "depthwise"),
    ("affine",),
    ("audio", "hparams", "lengths", "levels", "parameters"),
    ("resampling", "rooms", "safe_yaml"),
    ("allowed", "uncompiled"),
    (
        "batching",
        "channel",
        "claim",
        "devices",
        "jobs",
        "ranks",
        "recompute",
        "shipped_models",
        "standard_streams",
    ),
    (
        "allocator",
        "atomic",
        "errors",
        "fft",
        "folders",
        "signals",
        "sound_file",
        "wav_header",
    ),
    ("__init__", "commands.__init__"),
)
CHECKED_ALONE = "TYPE_CHECKING"
ROW = {name: row for row, names in enumerate(LAYERS) for name in names}


def modules():
    """Every module of the package by its dotted name below ``s4m_sb``."""
    return {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
        for path in sorted(PACKAGE.rglob("*.py"))
    }


def imported(name, path):
    """The absolute dotted names that a module imports, at any depth.

    Without those that only type checkers see.
    """
    package = ["s4m_sb", *name.split(".")[:-1]]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    unseen = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == CHECKED_ALONE
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if node in unseen:
            continue
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
    for extra in ("eval", "demo", "reverb", "completion"):
        lines += config["options.extras_require"][extra].splitlines()
    declared = {re.split(r"[<>=~!\[; ]", line)[0] for line in lines if line}
    imports = {"pyyaml": "yaml", "ruamel.yaml": "ruamel"}
    declared = {imports.get(name, name) for name in declared}
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


def test_the_interface_is_loaded_when_it_is_asked_for():
    assert "S4MSeparation" in dir(s4m_sb)
    assert s4m_sb.S4MSeparation is S4MSeparation
    with pytest.raises(AttributeError, match="has no attribute 'S5M'"):
        s4m_sb.S5M  # noqa: B018
