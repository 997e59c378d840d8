"""The source of the package, read without running it."""

import ast
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = REPOSITORY / "s4m_sb"
CHECKED_ALONE = "TYPE_CHECKING"


def modules():
    """Every module of the package by its dotted name below ``s4m_sb``."""
    return {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
        for path in sorted(PACKAGE.rglob("*.py"))
    }


def tree(path):
    """The syntax of a Python file."""
    return ast.parse(path.read_text(encoding="utf-8"))


def docstring(path):
    """What a Python file says at its head."""
    return ast.get_docstring(tree(path)) or ""


def imported(path):
    """The absolute dotted names that a file imports, at any depth.

    Without those that only type checkers see.
    """
    package = []
    if path.is_relative_to(PACKAGE):
        package = list(path.relative_to(REPOSITORY).parent.parts)
    nodes = list(ast.walk(tree(path)))
    unseen = {
        inner
        for node in nodes
        if isinstance(node, ast.If) and ast.unparse(node.test) == CHECKED_ALONE
        for inner in ast.walk(node)
    }
    for node in nodes:
        if node in unseen:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            up = package[: len(package) + 1 - node.level] if node.level else []
            base = ".".join([*up, *filter(None, [node.module])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def imported_inside(path, known):
    """The package's own modules, of those known, that a file imports."""
    for target in imported(path):
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


def is_public(name):
    """Whether a name is there for others."""
    return not name.startswith("_")
