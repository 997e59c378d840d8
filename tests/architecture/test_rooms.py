"""Every file is in a room, and imports point downward."""

import configparser
import graphlib
import re
import subprocess
import sys

import pytest
from source import PACKAGE, REPOSITORY, imported, imported_inside, modules

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

# What lies on the top floors. A new name here is a decision, not an accident.
TOP_OF_THE_PACKAGE = """
    __init__.py __main__.py audio commands errors.py examples inference
    metrics mixing network pretrained py.typed system training
""".split()
TOP_OF_THE_REPOSITORY = """
    .ci .gitignore .pre-commit-config.yaml .yamllint.yaml CHANGELOG.md
    CONTRIBUTING.md LICENSE MANIFEST.in Makefile README.md benchmarks contrib
    constraints.txt examples pyproject.toml recipes s4m_sb setup.cfg
    setup.py tests
""".split()


def room(name):
    return name.split(".")[0]


def upward(name, targets):
    """Those of the modules that a module may not import."""
    return [
        target
        for target in targets
        if room(target) != room(name) and ROW[room(target)] <= ROW[room(name)]
    ]


def on_top(folder):
    """The names right below a folder, of what Git knows."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    if listed.returncode != 0:
        pytest.skip("not in a Git repository")
    lines = listed.stdout.splitlines()
    # What is deleted and not yet committed is still listed.
    return sorted({x.split("/")[0] for x in lines if (folder / x).exists()})


def test_every_module_is_in_a_room():
    assert sorted({room(name) for name in modules()} - set(ROW)) == []
    lone = {path.stem for path in PACKAGE.glob("*.py")}
    assert lone == {"__init__", "__main__", "errors"}


@pytest.mark.parametrize(
    "folder, names",
    [(PACKAGE, TOP_OF_THE_PACKAGE), (REPOSITORY, TOP_OF_THE_REPOSITORY)],
)
def test_the_top_is_a_short_list(folder, names):
    assert on_top(folder) == sorted(names)


@pytest.mark.parametrize("name", sorted(modules()))
def test_imports_point_downward(name):
    known = modules()
    assert upward(name, imported_inside(known[name], known)) == []


def test_no_imports_run_in_a_circle():
    known = modules()
    graph = {
        name: set(imported_inside(path, known)) - {name, "__init__"}
        for name, path in known.items()
    }
    try:
        list(graphlib.TopologicalSorter(graph).static_order())
    except graphlib.CycleError as error:
        pytest.fail(f"a circle: {' > '.join(error.args[1])}")


def test_an_upward_import_is_found(tmp_path, monkeypatch):
    source = tmp_path / "s4m_sb" / "network" / "kernel.py"
    source.parent.mkdir(parents=True)
    source.write_text(
        "import torch\n"
        "from s4m_sb.network.s4 import S4Layer\n"
        "from s4m_sb.audio import files\n"
        "from s4m_sb import training, __version__\n"
        "def late():\n"
        "    from ..commands import mix\n"
    )
    known = modules()
    monkeypatch.setattr("source.REPOSITORY", tmp_path)
    monkeypatch.setattr("source.PACKAGE", tmp_path / "s4m_sb")
    found = list(imported_inside(source, known))
    assert found == [
        "network.s4",
        "audio.files",
        "training.__init__",
        "__init__",
        "commands.mix",
    ]
    assert upward("network.kernel", found) == [
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
        for target in imported(path)
        if target.split(".")[0] not in allowed
    }
    assert undeclared == set()
