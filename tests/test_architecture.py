"""Imports point downward, name what is declared, and stay light."""

import ast
import configparser
import graphlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import s4m_sb
from s4m_sb.inference.interface import S4MSeparation

PACKAGE = Path(s4m_sb.__file__).parent
REPOSITORY = Path(__file__).resolve().parents[1]

# Top to bottom. A room imports only from rows below its own; the rooms of one
# row do not import each other.
ROOMS = (
    ("__main__",),
    ("commands",),
    ("training",),
    ("inference",),
    ("metrics", "mixing", "pretrained"),
    ("network", "audio"),
    ("system",),
    ("errors",),
    ("__init__",),
)
ROW = {room: row for row, rooms in enumerate(ROOMS) for room in rooms}
CHECKED_ALONE = "TYPE_CHECKING"


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


def room(name):
    return name.split(".")[0]


def upward(name, targets):
    """Those of the modules that a module may not import."""
    return [
        target
        for target in targets
        if room(target) != room(name) and ROW[room(target)] <= ROW[room(name)]
    ]


def test_every_module_is_in_a_room():
    assert sorted({room(name) for name in modules()} - set(ROW)) == []
    lone = {path.stem for path in PACKAGE.glob("*.py")}
    assert lone == {"__init__", "__main__", "errors"}


@pytest.mark.parametrize("name", sorted(modules()))
def test_imports_point_downward(name):
    known = modules()
    assert upward(name, imported_inside(name, known[name], known)) == []


def test_no_imports_run_in_a_circle():
    known = modules()
    graph = {
        name: set(imported_inside(name, path, known)) - {name, "__init__"}
        for name, path in known.items()
    }
    try:
        list(graphlib.TopologicalSorter(graph).static_order())
    except graphlib.CycleError as error:
        pytest.fail(f"a circle: {' > '.join(error.args[1])}")


def test_an_upward_import_is_found(tmp_path):
    source = tmp_path / "kernel.py"
    source.write_text(
        "import torch\n"
        "from s4m_sb.network.s4 import S4Layer\n"
        "from s4m_sb.audio import files\n"
        "from s4m_sb import training, __version__\n"
        "def late():\n"
        "    from ..commands import mix\n"
    )
    name = "network.kernel"
    found = list(imported_inside(name, source, modules()))
    assert found == [
        "network.s4",
        "audio.files",
        "training.__init__",
        "__init__",
        "commands.mix",
    ]
    assert upward(name, found) == [
        "audio.files",
        "training.__init__",
        "commands.mix",
    ]


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
        ("s4m_sb.commands.main", "torch torchaudio speechbrain matplotlib"),
        ("s4m_sb.network.masknet", "speechbrain matplotlib torchmetrics"),
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


def test_the_interface_is_loaded_when_it_is_asked_for():
    assert "S4MSeparation" in dir(s4m_sb)
    assert s4m_sb.S4MSeparation is S4MSeparation
    with pytest.raises(AttributeError, match="has no attribute 'S5M'"):
        s4m_sb.S5M  # noqa: B018
