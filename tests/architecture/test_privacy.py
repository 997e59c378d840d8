"""What is made fast is used by the network alone, and as its README says."""

import ast
import re

from source import PACKAGE, REPOSITORY, imported, tree

FUSED = PACKAGE / "network" / "fused"
README = (FUSED / "README.md").read_text(encoding="utf-8")
# What the README says is for the folder alone.
ALONE = set(
    re.findall(r"`(\w+)`", re.search(r"folder alone:(.*?);", README, re.S)[1])
)


def users():
    """The files outside that import something of the folder."""
    for path in sorted(REPOSITORY.rglob("*.py")):
        place = path.relative_to(REPOSITORY).parts[0]
        if place in ("s4m_sb", "recipes", "benchmarks") and not (
            path.is_relative_to(FUSED)
        ):
            if any(".network.fused" in name for name in imported(path)):
                yield path


def is_own(node):
    return ast.unparse(node.value) == "self"


def test_the_network_alone_uses_it():
    strangers = [
        str(path) for path in users() if path.parent != PACKAGE / "network"
    ]
    assert strangers == []


def test_what_is_for_the_folder_alone_stays_there():
    assert ALONE == {"made", "value", "parts", "regained", "written"}
    for path in users():
        for node in ast.walk(tree(path)):
            # What a class calls its own parts is its own affair.
            if isinstance(node, ast.Attribute) and not is_own(node):
                assert node.attr not in ALONE | {"_stored"}, path
        last = {name.split(".")[-1] for name in imported(path)}
        assert last & ALONE == set(), path


def test_every_file_is_in_its_readme():
    listed = set(re.findall(r"^\| `(\w+\.py)` \|", README, re.M))
    files = {path.name for path in FUSED.glob("*.py")}
    assert listed == files - {"__init__.py"}
