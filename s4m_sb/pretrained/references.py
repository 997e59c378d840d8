"""``!ref``, ``!copy`` and ``<<`` of HyperPyYAML, resolved among nodes.

A text is parsed once, by ruamel.yaml, into nodes that know their lines; what
references mean is put in their places, and nothing is built or called.
HyperPyYAML's tuples, ``(a, b)``, are strings that it parses when all else has
been resolved. `safe_yaml.py` builds what comes out, `model_yaml.py` writes it.

A small text can mean very much: lists of aliases of lists of aliases,
``!copy`` of copies, powers of powers. The bounds below keep what it may grow
to; whatever is beyond them is refused, with its line.
"""

import ast
import copy
import io
import json
import math
import operator
import re
from collections.abc import Iterator
from typing import Any

import ruamel.yaml
import yaml

from s4m_sb.errors import InputError

CORE = "tag:yaml.org,2002:"
MERGE = CORE + "merge"
PLAIN = {
    CORE + kind
    for kind in "null bool int float str timestamp seq map merge".split()
}
KINDS = {str: "str", bool: "bool", int: "int", float: "float"}
KINDS[type(None)] = "null"
REFERENCES = ("!ref", "!copy")
REFERENCE = re.compile("<([^>]*)>")
TUPLE = re.compile(r"\(.*\)", re.DOTALL)
TOO_DEEP = "is nested too deeply"

MOST_CHARACTERS = 10**6  # of a file
MOST_VALUES = 10**5  # with what references and aliases repeat
MOST_TEXT = 10**4  # characters of a text that references make
MOST_BITS = 63  # of a power


def compose(text: str) -> Any:
    """Parses a text.

    Arguments
    ---------
    text : str
        YAML.

    Returns
    -------
    ruamel.yaml.Node or None
        Its outermost node, None if it is empty.

    Raises
    ------
    InputError
        If it is too long or nested too deeply.
    """
    if len(text) > MOST_CHARACTERS:
        raise InputError(
            f"has more than {MOST_CHARACTERS} characters, too many for a YAML"
        )
    try:
        return ruamel.yaml.YAML().compose(io.StringIO(text))
    except RecursionError as error:
        raise InputError(TOO_DEEP) from error


def check_form(root: Any) -> None:
    """Refuses a YAML that HyperPyYAML would fail at without saying why.

    Arguments
    ---------
    root : ruamel.yaml.Node or None
        Its outermost node, see `compose`.

    Raises
    ------
    InputError
        If it has no keys, one of them is no text, a reference leads to what
        it stands in, or it is nested too deeply.

    Example
    -------
    >>> check_form(compose("a: 1\\nb: !ref <c>\\nc: [!ref <b>]"))
    Traceback (most recent call last):
    s4m_sb.errors.InputError: line 2: refers to itself
    """
    if root is None or root.tag != CORE + "map":
        raise InputError("has no keys")
    for key, _ in root.value:
        if key.tag not in (CORE + "str", MERGE):
            shown = key.value if isinstance(key.value, str) else "there"
            raise InputError(f"{line_of(key)}the key {shown} is no text")
    try:
        _check_references(root, root, [], set())
    except RecursionError as error:
        raise InputError(TOO_DEEP) from error


def override(node: Any, changes: Any, must_match: bool) -> None:
    """Replaces values, in place; they get the lines of what they replace.

    Arguments
    ---------
    node : ruamel.yaml.Node
        A mapping.
    changes : ruamel.yaml.Node
        A mapping of the keys to be replaced; mappings in it change those that
        they meet, key by key.
    must_match : bool
        Refuse keys that ``node`` does not have.

    Raises
    ------
    InputError
        If a key is refused, or a mapping does not meet one.
    """
    for part in (node, changes):
        if not isinstance(part, ruamel.yaml.MappingNode):
            raise InputError("the overrides do not have its structure")
    for key, value in changes.value:
        old = _child(node, key.value)
        if old is not None and isinstance(value, ruamel.yaml.MappingNode):
            override(old, value, must_match=False)
            continue
        if old is None and must_match:
            raise InputError(f"Override '{key.value}' not found")
        for _, inner in nodes(value):
            inner.start_mark = None if old is None else old.start_mark
        rest = [pair for pair in node.value if pair[0].value != key.value]
        node.value = [*rest, (key, value)]


def resolve(root: Any) -> Any:
    """Puts what is meant in the place of references, in place.

    Arguments
    ---------
    root : ruamel.yaml.Node
        The outermost node, see `compose`.

    Returns
    -------
    ruamel.yaml.Node
        The outermost node. What was one object is one node.

    Raises
    ------
    InputError
        If a reference leads nowhere, or to what it stands in, a placeholder
        is left, or there is more than the bounds allow; with the line.

    Example
    -------
    >>> root = resolve(compose("a: 2\\nb: !ref <a> * 3"))
    >>> [plain_value(value) for _, value in root.value]
    [2, 6]
    """
    root = _Resolver(root).resolve(root)
    _check_size(root, {})
    return root


def nodes(root: Any) -> Iterator[tuple[str, Any]]:
    """Every node of a document once.

    Arguments
    ---------
    root : ruamel.yaml.Node or yaml.Node or None
        The outermost one.

    Yields
    ------
    place : str
        Such as ``a[b][0]``. A key has that of its value.
    node : ruamel.yaml.Node or yaml.Node
        The node.
    """
    seen: set[int] = set()
    waiting: list[tuple[str, Any]] = [] if root is None else [("", root)]
    while waiting:
        place, node = waiting.pop()
        if id(node) in seen:  # an alias, perhaps of what it stands in
            continue
        seen.add(id(node))
        yield place, node
        if isinstance(node.value, str):
            continue
        below: list[tuple[str, Any]] = []
        for index, child in enumerate(node.value):
            key, value = child if isinstance(child, tuple) else (None, child)
            name = str(key.value) if key is not None else str(index)
            inside = f"{place}[{name}]" if place else name
            below += [(inside, key)] if key is not None else []
            below.append((inside, value))
        waiting += reversed(below)


def line_of(node: Any) -> str:
    """Of a node, for a message; nothing if it comes from elsewhere."""
    mark = node.start_mark
    return f"line {mark.line + 1}: " if mark is not None else ""


def is_tuple(node: Any) -> bool:
    """Whether HyperPyYAML makes a tuple of a node."""
    if node.tag == CORE + "str":
        return bool(TUPLE.fullmatch(node.value))
    return node.tag == "!tuple" and isinstance(node.value, str)


def tuple_inside(node: Any) -> Any:
    """The list that HyperPyYAML makes of a tuple."""
    try:
        return yaml.compose(f"[{node.value[1:-1]}]", Loader=yaml.SafeLoader)
    except RecursionError as error:
        raise InputError(TOO_DEEP) from error


def plain_value(node: Any) -> Any:
    """The value of a scalar that is no object."""
    if is_tuple(node):
        return tuple(yaml.safe_load(f"[{node.value[1:-1]}]"))
    constructor = ruamel.yaml.YAML(typ="safe", pure=True).constructor
    return constructor.construct_object(node)


def _check_references(
    node: Any, root: Any, above: list[int], done: set[int]
) -> None:
    """Refuses a node that is built of itself.

    ``above`` are the nodes that are built of this one, ``done`` those that
    are known to be good, both by their ``id``.
    """
    if id(node) in above:
        raise InputError(f"{line_of(node)}refers to itself")
    if id(node) in done:
        return
    if not isinstance(node.value, str):
        parts = [p[1] if isinstance(p, tuple) else p for p in node.value]
    elif node.tag in REFERENCES:
        parts = [_named(name, root) for name in REFERENCE.findall(node.value)]
    else:
        return
    above.append(id(node))
    for part in parts:
        if part is not None:
            _check_references(part, root, above, done)
    done.add(above.pop())


def _named(name: str, root: Any) -> Any:
    """The node that a reference such as ``a[b]`` leads to, if any."""
    node = root
    for key in re.findall(r"[^\[\]]+", name.partition(".")[0]):
        node = _child(node, key)
    return node


def _child(node: Any, key: str) -> Any:
    """The value of a key, its own or one that is merged in, if any."""
    waiting, seen = [node], set()
    while waiting:
        node = waiting.pop(0)
        if not isinstance(node, ruamel.yaml.MappingNode) or id(node) in seen:
            continue
        seen.add(id(node))
        for name, value in node.value:
            if name.value == key:
                return value
            if name.tag == MERGE:
                waiting += _merged(value)
    return None


def _merged(value: Any) -> list[Any]:
    """The mappings behind ``<<``."""
    is_list = isinstance(value, ruamel.yaml.SequenceNode)
    return value.value if is_list else [value]


def _check_size(node: Any, sizes: dict[int, int], line: str = "") -> int:
    """Counts values; those that are shared count wherever they stand."""
    if id(node) not in sizes:
        size = 1
        line = line or line_of(node)
        if is_tuple(node):
            size += _check_size(tuple_inside(node), {}, line)
        elif not isinstance(node.value, str):
            parts = [p[1] if isinstance(p, tuple) else p for p in node.value]
            size += sum(_check_size(part, sizes) for part in parts)
        if size > MOST_VALUES:
            raise _too_large(line)
        sizes[id(node)] = size
    return sizes[id(node)]


def _too_large(line: str) -> InputError:
    return InputError(
        f"{line}has more than {MOST_VALUES} values when references and "
        "aliases are written out"
    )


class _Resolver:
    """Puts what is meant in the place of ``!ref``, ``!copy`` and ``<<``."""

    def __init__(self, root: Any):
        self.root = root
        self.done: dict[int, tuple[Any, Any]] = {}  # id: node, its result
        self.above: set[int] = set()  # those that are being resolved
        self.num_added = 0
        for place, node in nodes(root):
            if node.tag == "!PLACEHOLDER":
                raise InputError(
                    f"{line_of(node)}'{place}' is a !PLACEHOLDER and must be "
                    "replaced"
                )

    def resolve(self, node: Any) -> Any:
        if id(node) in self.above:
            raise InputError(f"{line_of(node)}refers to itself")
        if id(node) not in self.done:
            self.above.add(id(node))
            self.done[id(node)] = node, self._resolved(node)
            self.above.remove(id(node))
        return self.done[id(node)][1]

    def _resolved(self, node: Any) -> Any:
        if isinstance(node.value, str):
            if node.tag == CORE + "bool":
                node.value = node.value.lower()  # one spelling, when written
            return self._meant(node) if node.tag in REFERENCES else node
        if isinstance(node, ruamel.yaml.SequenceNode):
            node.value = [self.resolve(child) for child in node.value]
            return node
        own: dict[Any, tuple[Any, Any]] = {}
        merged: dict[Any, tuple[Any, Any]] = {}
        for key, value in node.value:
            value = self.resolve(value)
            name = key.value if isinstance(key.value, str) else id(key)
            if key.tag == MERGE:
                for part in _merged(value):
                    if not isinstance(part, ruamel.yaml.MappingNode):
                        raise InputError(f"{line_of(key)}merges no mapping")
                    self._add(len(part.value), node)
                    merged = {
                        k.value: (_again(k), _again(v)) for k, v in part.value
                    } | merged
            elif name in own:
                raise InputError(f"{line_of(key)}found duplicate key {name}")
            else:
                own[name] = key, value
        node.value = list((merged | own).values())
        return node

    def _meant(self, node: Any) -> Any:
        """What a ``!ref`` or ``!copy`` stands for."""
        names = REFERENCE.findall(node.value)
        if not names:
            return _scalar(node.value, node)
        if not REFERENCE.fullmatch(node.value):
            text = ""
            for index, part in enumerate(REFERENCE.split(node.value)):
                # Every second one is a name.
                text += self._text(part, node) if index % 2 else part
                if len(text) > MOST_TEXT:
                    raise InputError(
                        f"{line_of(node)}gives a text of more than {MOST_TEXT} "
                        "characters"
                    )
            return _scalar(_calculated(text, node), node)
        name, dot, attribute = names[0].partition(".")
        target = self._target(name, node)
        if node.tag == "!copy":
            target = self.resolve(target)
            self._add(_check_size(target, {}), node)
            return _copied(target, {})
        if dot:
            parts = [target, _scalar(attribute, node)]
            tag = "!apply:getattr"
            return ruamel.yaml.SequenceNode(tag, parts, node.start_mark)
        return _again(target)

    def _target(self, name: str, node: Any) -> Any:
        target = self.root
        for key in re.findall(r"[^\[\]]+", name):
            target = _child(target, key)
            if target is None:
                raise InputError(
                    f'{line_of(node)}the reference "{name}" is not valid'
                )
            if target.tag in REFERENCES:
                target = self.resolve(target)
        return target

    def _text(self, name: str, node: Any) -> str:
        target = self._target(name, node)
        if not isinstance(target.value, str) or target.tag not in PLAIN:
            raise InputError(
                f'{line_of(node)}the reference "{name}" is to no number or text'
            )
        is_text = target.tag == CORE + "str"
        return target.value if is_text else str(plain_value(target))

    def _add(self, num_values: int, node: Any) -> None:
        self.num_added += num_values
        if self.num_added > MOST_VALUES:
            raise _too_large(line_of(node))


def _again(node: Any) -> Any:
    """A node for another place: a number or text needs no name there."""
    is_plain = isinstance(node.value, str) and node.tag in PLAIN
    return copy.copy(node) if is_plain else node


def _copied(node: Any, copies: dict[int, Any]) -> Any:
    """A node and all below it anew; what was one node stays one."""
    if id(node) not in copies:
        copies[id(node)] = made = copy.copy(node)
        if not isinstance(node.value, str):
            made.value = [
                tuple(_copied(half, copies) for half in part)
                if isinstance(part, tuple)
                else _copied(part, copies)
                for part in node.value
            ]
    return copies[id(node)]


def _scalar(value: Any, node: Any) -> Any:
    """The node of a value that stands where another one did."""
    text = value if isinstance(value, str) else json.dumps(value)
    return ruamel.yaml.ScalarNode(
        CORE + KINDS[type(value)], text, node.start_mark
    )


OPERATORS: dict[type, Any] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Pow: operator.pow,
    ast.Mod: operator.mod,
}


def _calculated(text: str, node: Any) -> Any:
    """The result of arithmetic, or the text if it is none."""
    try:
        result = _result(ast.parse(text, mode="eval").body)
        if isinstance(result, float) and not math.isfinite(result):
            raise OverflowError("too large a number")
        return result if type(result) in KINDS else text
    except (SyntaxError, TypeError, KeyError, MemoryError):
        return text
    except ArithmeticError as error:
        raise InputError(f"{line_of(node)}{text} is {error}") from error


def _result(term: ast.expr) -> Any:
    if isinstance(term, ast.Constant):
        return term.value
    if not isinstance(term, ast.BinOp):
        raise TypeError(term)
    left, right = _result(term.left), _result(term.right)
    texts = (str, bytes)
    if isinstance(left, texts) or isinstance(right, texts):
        if isinstance(term.op, (ast.Mult, ast.Mod)):
            raise ArithmeticError("no arithmetic: it has text in it")
    elif isinstance(term.op, ast.Pow) and abs(left) > 1:
        if right * math.log2(abs(left)) > MOST_BITS:
            raise OverflowError("too large a number")
    return OPERATORS[type(term.op)](left, right)
