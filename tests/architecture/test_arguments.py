"""Every argument of a constructor is documented once.

In the docstring of its class, under ``Arguments``, by name; several that are
explained elsewhere share an entry that says where: "See `S4Layer`". A class
that takes its constructor from a public one in its file need not repeat it.
The fields of a record may be explained beside themselves, but what is listed
must be there.
"""

import ast
import re

import pytest
from source import is_public, modules, tree

SECTION = re.compile(r"^(\w[\w ]*)\n-+$", re.M)
ENTRY = re.compile(r"^([\w*]+(?:, [\w*]+)*)(?: : .*)?$", re.M)
FIELDS = {"NamedTuple", "dataclass"}


def section(text, title):
    """What stands under a title of a docstring."""
    parts = SECTION.split(text)
    return "".join(
        body
        for head, body in zip(parts[1::2], parts[2::2], strict=True)
        if head == title
    )


def documented(text):
    """The names of the arguments that a docstring describes."""
    return [
        name.lstrip("*")
        for names in ENTRY.findall(section(text, "Arguments"))
        for name in names.split(", ")
    ]


def is_record(node):
    """Whether the fields of a class are the arguments of its constructor."""
    marks = [*node.bases, *node.decorator_list]
    return any(
        ast.unparse(mark).split("(")[0].split(".")[-1] in FIELDS
        for mark in marks
    )


def constructor(node, known):
    """The ``__init__`` of a class, and the class in its file that has it."""
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and item.name == "__init__":
            return item, node
    for base in node.bases:
        if ast.unparse(base) in known:
            return constructor(known[ast.unparse(base)], known)
    return None, None


def arguments(init):
    """The names of the arguments of a constructor, but for ``self``."""
    a = init.args
    names = [*a.posonlyargs, *a.args, *a.kwonlyargs]
    return [x.arg for x in [*names[1:], a.vararg, a.kwarg] if x is not None]


def fields(node):
    """The names of the fields of a record."""
    return [x.target.id for x in node.body if isinstance(x, ast.AnnAssign)]


def faults(node, known):
    """What is wrong with the documentation of a constructor."""
    init, owner = constructor(node, known)
    text = ast.get_docstring(node) or ""
    found = documented(text)
    if init is None:
        names = fields(node) if is_record(node) else []
        needed = []
    else:
        names = arguments(init)
        needed = names
        if owner is not node and is_public(owner.name) and not found:
            needed = []
        if "Arguments\n" in (ast.get_docstring(init) or ""):
            yield f"{node.name}: documented in __init__, not in the class"
    for name in needed:
        if found.count(name) != 1:
            yield f"{node.name}: {name} is documented {found.count(name)} times"
    for name in dict.fromkeys(found):
        if name not in names:
            yield f"{node.name}: {name} is no argument"


def classes(path):
    """The classes of a file by name."""
    return {x.name: x for x in tree(path).body if isinstance(x, ast.ClassDef)}


@pytest.mark.parametrize("name", sorted(modules()))
def test_constructor_arguments_are_documented_once(name):
    known = classes(modules()[name])
    public = [node for node in known.values() if is_public(node.name)]
    assert [x for node in public for x in faults(node, known)] == []
