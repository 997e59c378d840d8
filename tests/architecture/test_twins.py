"""Every fast operation has been compared with a plain one.

An operation is a public function, class or method in ``network/fused/``. A
test in ``tests/network/fused/`` compares it if it uses it, compares values and
compares gradients, itself or by what it calls. What operations use inside
that folder is compared with them.
"""

import ast

from source import PACKAGE, REPOSITORY, is_public, tree

FUSED = PACKAGE / "network" / "fused"
TESTS = REPOSITORY / "tests" / "network" / "fused"
VALUES = {"assert_close", "equal", "allclose", "gradcheck"}
GRADIENTS = {"grad", "gradcheck", "backward"}


def used(node):
    """All names in a piece of code, attributes and arguments as well."""
    for inner in ast.walk(node):
        if isinstance(inner, ast.Name):
            yield inner.id
        elif isinstance(inner, ast.Attribute):
            yield inner.attr
        elif isinstance(inner, ast.arg):  # a fixture
            yield inner.arg


def definitions(folder):
    """What is defined in a folder's files, by name.

    Methods have names of their own, ``.name``, and a class the rest of it.
    """
    found = {}
    for path in sorted(folder.glob("*.py")):
        for node in tree(path).body:
            if isinstance(node, ast.FunctionDef):
                found[node.name] = set(used(node))
            elif isinstance(node, ast.ClassDef):
                rest = set()
                for item in node.body:
                    names = set(used(item))
                    is_method = isinstance(item, ast.FunctionDef)
                    if is_method and is_public(item.name):
                        # Methods of one name share what they use.
                        found.setdefault(f".{item.name}", set()).update(names)
                    else:
                        rest |= names
                if not is_public(node.name) or is_module(node):
                    rest |= {item.name for item in methods(node)}
                found[node.name] = rest
    return found


def methods(node):
    """The public methods of a class, without properties."""
    return [
        item
        for item in node.body
        if isinstance(item, ast.FunctionDef)
        and is_public(item.name)
        and "property" not in map(ast.unparse, item.decorator_list)
    ]


def is_module(node):
    """Whether a class is called for what it does: a layer."""
    return any(ast.unparse(base).endswith("Module") for base in node.bases)


def operations(folder):
    """The public names of a folder: functions, layers, records' methods."""
    for path in sorted(folder.glob("*.py")):
        for node in tree(path).body:
            if not isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                continue
            if is_public(node.name):
                yield node.name
                if isinstance(node, ast.ClassDef) and not is_module(node):
                    yield from (f".{item.name}" for item in methods(node))


def reached(names, known):
    """The names and, of those that are known, all that they use."""
    found, left = set(), set(names)
    while left:
        name = left.pop()
        if name in found:
            continue
        found.add(name)
        for key in (name, f".{name}"):
            if key in known:
                found.add(key)
                left |= known[key] - found
    return found


def compared(folder, tests):
    """What the tests compare with a plain twin, values and gradients."""
    known = definitions(folder)
    found = set()
    for path in sorted(tests.glob("test_*.py")):
        helpers = {
            node.name: set(used(node))
            for node in tree(path).body
            if isinstance(node, (ast.FunctionDef, ast.ClassDef))
        }
        for name in helpers:
            if name.startswith("test_"):
                names = reached([name], helpers)
                if names & VALUES and names & GRADIENTS:
                    found |= reached(names, known)
    return found


def test_every_operation_has_a_plain_twin():
    missing = set(operations(FUSED)) - compared(FUSED, TESTS)
    assert sorted(missing) == []


def test_an_operation_without_a_twin_is_found(tmp_path):
    fused, tests = tmp_path / "fused", tmp_path / "tests"
    fused.mkdir()
    tests.mkdir()
    (fused / "twice.py").write_text(
        "def twice(x):\n    return _Twice.apply(x)\n"
        "class _Twice:\n    def forward(ctx, x):\n        return inner(x)\n"
        "def inner(x):\n    return 2 * x\n"
        "def thrice(x):\n    return 3 * x\n"
        "class Kept:\n    def half(self):\n        return 1\n"
    )
    (tests / "test_twice.py").write_text(
        "def agree(x, y):\n    assert_close(x, y)\n    grad(x)\n"
        "def test_twice():\n    agree(twice(x), x + x)\n"
        "def test_thrice():\n    assert_close(thrice(x), x + x + x)\n"
        "def test_kept():\n    agree(Kept(), 1)\n"
    )
    names = set(operations(fused))
    assert names == {"twice", "inner", "thrice", "Kept", ".half"}
    assert names - compared(fused, tests) == {"thrice", ".half"}
