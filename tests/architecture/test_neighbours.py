"""The files that a docstring names above and below itself are its neighbours.

    Above this file: `s4.py`, which ... . Below it: `fft.py`.

What is named above uses the file: imports it, or names it in a YAML or in the
arguments of a process. What is named below is used by it.
"""

import ast
import re

import pytest
from source import PACKAGE, REPOSITORY, docstring, imported, modules, tree

FILES = sorted(
    path
    for folder in ("s4m_sb", "benchmarks", "recipes")
    for path in (REPOSITORY / folder).rglob("*.py")
)
CHAIN = re.compile(
    r"Above this file: (.*?)(?:Below it:\s(.*?))?(?:\n\n|\Z)", re.S
)
NAME = re.compile(r"`([\w.*/-]+(?:\.py|\.yaml|/))`")
# The way of a newcomer, from the command to the kernel.
HOPS = [
    "recipes/WSJ0Mix/separation/train.py",
    "recipes/WSJ0Mix/separation/hparams/s4m-tiny.yaml",
    "s4m_sb/network/masknet.py",
    "s4m_sb/network/multiscale.py",
    "s4m_sb/network/s4.py",
    "s4m_sb/network/kernel.py",
]


def chain(path):
    """The texts on what is above and below a file, or nothing."""
    found = CHAIN.search(docstring(path))
    return (found[1], found[2] or "") if found else ("", "")


def named(path, text):
    """The names in a text with the files or folders that each may mean."""
    places = (path.parent, PACKAGE, REPOSITORY)
    for name in NAME.findall(text):
        found = {file for place in places for file in place.glob(name)}
        if not found and "/" not in name:  # a file of every recipe
            found = {file for file in FILES if file.name == name}
        yield name, found


def dotted(path):
    """The name by which a Python file is imported."""
    if path.is_relative_to(PACKAGE):
        return ".".join(path.relative_to(REPOSITORY).with_suffix("").parts)
    return path.stem


def words(path):
    """The texts in a Python file, but for its docstring."""
    head = docstring(path)
    return [
        node.value
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and ast.get_docstring(ast.Module([ast.Expr(node)], [])) != head
    ]


def uses(upper, lower):
    """Whether a file, or one in a folder, uses another or one in a folder."""
    if upper.is_dir():
        return any(uses(file, lower) for file in upper.rglob("*.*"))
    if upper.suffix == ".yaml":
        return dotted(lower) + "." in upper.read_text(encoding="utf-8")
    if upper.suffix != ".py":
        return False
    targets = set(imported(upper))
    if lower.is_dir() and lower.is_relative_to(PACKAGE):
        name = ".".join(lower.relative_to(REPOSITORY).parts)
    elif lower.suffix == ".py":
        name = dotted(lower).removesuffix(".__init__")
    else:
        return any(lower.name in word for word in words(upper))
    return any(
        target == name or target.startswith(f"{name}.") for target in targets
    ) or any(lower.name in word.split("/") for word in words(upper))


def strangers(path):
    """What is wrong with the neighbours that a file names."""
    above, below = chain(path)
    for text, is_neighbour in (
        (above, lambda other: uses(other, path)),
        (below, lambda other: uses(path, other)),
    ):
        for name, found in named(path, text):
            if not found:
                yield f"{name}: no such file"
            elif not any(is_neighbour(other) for other in found):
                yield (
                    f"{name}: not used" if text is below else f"{name}: no user"
                )
    if "alone" in below:
        ours = set(imported(path))
        for target in sorted(ours):
            if target.startswith("s4m_sb.") and "errors" not in target:
                yield f"{target}: not alone"


@pytest.mark.parametrize(
    "path",
    [path for path in FILES if chain(path)[0]],
    ids=lambda path: str(path.relative_to(REPOSITORY)),
)
def test_neighbours_are_real(path):
    assert list(strangers(path)) == []


@pytest.mark.parametrize(
    "path", FILES, ids=lambda path: str(path.relative_to(REPOSITORY))
)
def test_files_named_in_a_docstring_exist(path):
    missing = [
        name for name, found in named(path, docstring(path)) if not found
    ]
    assert missing == []


@pytest.mark.parametrize("hop", range(len(HOPS) - 1))
def test_a_newcomer_is_led_from_the_command_to_the_kernel(hop):
    here, there = (REPOSITORY / name for name in HOPS[hop : hop + 2])
    if here.suffix == ".yaml":
        assert uses(here, there)
        return
    text = chain(here)[1] or docstring(here)
    assert there in {f for _, found in named(here, text) for f in found}


def test_files_of_the_network_name_their_neighbours():
    lost = {
        name
        for name, path in modules().items()
        if name.startswith("network.") and not chain(path)[0]
    }
    assert {name for name in lost if not name.endswith("__init__")} == set()
