"""Loading the YAML of a model that may come from anybody.

HyperPyYAML runs what a file names, in two passes. The first one reads the
text, follows ``!ref`` and ``!copy``, opens what ``!include:`` names, calls
what ``!applyref:`` names, and writes a text without them. The second one reads
that text and calls what ``!new:``, ``!name:``, ``!apply:``, ``!module:`` and
YAML's own ``!!python/...`` name, the latter also inside of ``(a, b)``, its
tuples, which are strings up to then. So each pass is shown only what has been
checked: the nodes of the file before the first one (`check_text`), and in the
second one the very nodes that are built then (`load_checked`), whatever
references, overrides, anchors and quotes have made of them. What is not listed
as harmless is refused.

Protected: nothing is imported, called or read but the classes listed here,
which build networks out of numbers, strings and one another. A name is
compared as a whole: prefixes would let
``torch.nn.modules.module.os.system`` through. To add one, make sure that no
value of its arguments makes it read or write a file, import or call something
else than the classes listed. There is one exception: an ``SBRNNBlock`` calls
what its ``rnn_type`` names in ``speechbrain.nnet.RNN``, and nothing behind
that. Its other arguments fit networks alone; `tests/pretrained/
test_safe_yaml.py` lists what stands there, so that an addition is noticed.

Not protected: time and memory. A YAML may ask for a network, a reference or a
power (``!ref <a> ** <b>``) that is too large for the machine.
"""

import io
import re
from collections.abc import Callable, Iterator
from typing import Any

import ruamel.yaml
import yaml
from hyperpyyaml import load_hyperpyyaml, resolve_references

from s4m_sb.errors import InputError

CORE = "tag:yaml.org,2002:"
PLAIN = {
    CORE + kind
    for kind in "null bool int float str timestamp seq map merge".split()
}
REFERENCES = {"!ref", "!copy", "!PLACEHOLDER"}
READS_OR_RUNS = ("!include:", "!applyref:")
REFERENCE = re.compile("<([^>]*)>")
TOO_DEEP = "is nested too deeply"
HOW_TO_TRUST = (
    "if you trust whoever made it, load it with trusted=True "
    "(s4m: --trust; train.py: trust_pretrained_model: True)"
)

PRETRAINER = "speechbrain.utils.parameter_transfer.Pretrainer"

CLASSES = {
    "s4m_sb.network.filterbank": ("Encoder", "Decoder"),
    "s4m_sb.network.masknet": ("S4MMaskNet",),
    # SepFormer, DPRNN, DPT-Net and the filterbank of all of them
    "speechbrain.lobes.models.dual_path": (
        "Encoder",
        "Decoder",
        "Dual_Path_Model",
        "SBTransformerBlock",
        "SBConformerEncoderBlock",
        "SBRNNBlock",
        "PytorchTransformerBlock",
        "DPTNetBlock",
    ),
    # RE-SepFormer and SkiM
    "speechbrain.lobes.models.resepformer": (
        "ResourceEfficientSeparator",
        "SBTransformerBlock_wnormandskip",
        "SBRNNBlock",
        "SegLSTM",
        "MemLSTM",
    ),
    "speechbrain.lobes.models.conv_tasnet": ("Encoder", "Decoder", "MaskNet"),
}

NAMES = {f"{module}.{name}" for module in CLASSES for name in CLASSES[module]}
NAMES.add(PRETRAINER)

Place = tuple[str | int, ...]  # of a node: keys and positions from the root


def may_build(name: str) -> bool:
    """Whether the YAML of a model that is not trusted may name this.

    Arguments
    ---------
    name : str
        As it stands behind ``!new:`` or ``!name:``.

    Returns
    -------
    bool
        True for the names listed above and for the modules of PyTorch by
        their short name, such as ``torch.nn.ReLU``.

    Example
    -------
    >>> (
    ...     may_build("s4m_sb.network.masknet.S4MMaskNet"),
    ...     may_build("torch.nn.ReLU"),
    ... )
    (True, True)
    >>> may_build("os.system"), may_build("torch.nn.init.torch.load")
    (False, False)
    """
    if name in NAMES:
        return True
    if not name.startswith("torch.nn."):
        return False

    from torch import nn

    # One name deep, so that no attribute of an attribute is found.
    found = vars(nn).get(name.removeprefix("torch.nn."))
    return isinstance(found, type) and issubclass(found, nn.Module)


def load_checked(
    text: str,
    overrides: str | dict[str, Any] = "",
    overrides_must_match: bool = True,
) -> dict[str, Any]:
    """Loads HyperPyYAML, if all that it names may be built.

    Arguments
    ---------
    text : str
        The YAML of a model.
    overrides : str or dict
        Values that replace those of the text. They are the caller's, and are
        checked all the same: a string can become a tuple.
    overrides_must_match : bool
        Refuse overrides of keys that the text does not have.

    Returns
    -------
    dict
        Its keys with their values.

    Raises
    ------
    InputError
        If it names anything else, with the line; nothing has been built then.

    Example
    -------
    >>> load_checked("a: 2\\nb: !new:torch.nn.ReLU")
    {'a': 2, 'b': ReLU()}
    >>> load_checked("a: 2\\nb: !apply:os.getcwd")
    Traceback (most recent call last):
    s4m_sb.errors.InputError: line 2: !apply:os.getcwd is refused, ...
    """
    lines = check_text(text)
    if isinstance(overrides, str) and overrides:
        check_text(overrides, where="overrides, ")

    def check(root: Any) -> None:
        for place, node in nodes(root):
            tag = refused_tag(node, PLAIN | {"!tuple"})
            if tag:
                raise _refusal(tag, _line(place, lines))

    return load_hyperpyyaml(
        io.StringIO(text),
        overrides,
        overrides_must_match,
        loader=_loader_that_calls(check),
    )


def check_text(text: str, where: str = "") -> dict[Place, int]:
    """Refuses a YAML that names what a model may not build.

    Arguments
    ---------
    text : str
        HyperPyYAML, as it was written.
    where : str
        What the text is, for the message; by default nothing.

    Returns
    -------
    dict
        The line of each node of the text, by its place.

    Raises
    ------
    InputError
        If it does, with the line.
    """
    lines: dict[Place, int] = {}
    for place, line, tag in _names(text):
        lines.setdefault(place, line)
        if tag:
            raise _refusal(tag, line, where)
    return lines


def check_form(text: str) -> None:
    """Refuses a YAML that HyperPyYAML would fail at without saying why.

    Arguments
    ---------
    text : str
        HyperPyYAML, as it was written.

    Raises
    ------
    InputError
        If it has no keys, one of them is no text, a reference leads to what
        it stands in, or it is nested too deeply.

    Example
    -------
    >>> check_form("a: 1\\nb: !ref <c>\\nc: [!ref <b>]")
    Traceback (most recent call last):
    s4m_sb.errors.InputError: line 2: refers to itself
    """
    root = _compose(text)
    if root is None or root.tag != CORE + "map":
        raise InputError("has no keys")
    for key, _ in root.value:
        if key.tag not in (CORE + "str", CORE + "merge"):
            shown = key.value if isinstance(key.value, str) else "there"
            line = key.start_mark.line + 1
            raise InputError(f"line {line}: the key {shown} is no text")
    try:
        _check_references(root, root, [], set())
    except RecursionError as error:
        raise InputError(TOO_DEEP) from error


def check_part(part: str, whole: str) -> None:
    """Refuses a part of a YAML that names what a model may not build.

    Arguments
    ---------
    part : str
        HyperPyYAML of a network, made out of that of its training.
    whole : str
        HyperPyYAML of the training, which names more than that.

    Raises
    ------
    InputError
        If it does, with the line of the whole, unless references have put the
        name together.
    """
    named = [tag for _, _, tag in _names(part) if tag]
    if not named:
        return
    for _, line, tag in _names(whole):
        if tag in named:
            raise _refusal(tag, line)
    raise _refusal(named[0], None)


def resolve_checked(text: str) -> str:
    """Resolves references, in a text that may name anything but files.

    For the YAML of a training, which names more than a network. It is not
    run here: only what the first pass of HyperPyYAML does by itself, reading
    other files and calling functions, is refused.

    Arguments
    ---------
    text : str
        HyperPyYAML.

    Returns
    -------
    str
        HyperPyYAML without references. Loading it runs what it names.

    Raises
    ------
    InputError
        If it has ``!include:`` or ``!applyref:``, with the line.

    Example
    -------
    >>> print(resolve_checked("a: 1\\nb: !ref <a>"))
    a: 1
    b: 1
    >>> resolve_checked("a: !include:/etc/passwd")
    Traceback (most recent call last):
    s4m_sb.errors.InputError: line 1: !include:/etc/passwd is refused, ...
    """
    for _, node in nodes(_compose(text)):
        if node.tag.startswith(READS_OR_RUNS):
            raise _refusal(node.tag, node.start_mark.line + 1)
    return resolve_references(io.StringIO(text)).getvalue()


def nodes(root: Any) -> Iterator[tuple[Place, Any]]:
    """Every node of a YAML document once, keys of mappings too.

    Arguments
    ---------
    root : ruamel.yaml.Node or yaml.Node or None
        The outermost one; None for an empty document.

    Yields
    ------
    place : tuple
        Keys and positions that lead to it. A key has that of its value.
    node : ruamel.yaml.Node or yaml.Node
        The node.
    """
    seen: set[int] = set()
    waiting: list[tuple[Place, Any]] = [] if root is None else [((), root)]
    while waiting:
        place, node = waiting.pop()
        if id(node) in seen:  # an alias, perhaps of what it stands in
            continue
        seen.add(id(node))
        yield place, node
        if isinstance(node.value, str):
            continue
        for index, child in reversed(list(enumerate(node.value))):
            if isinstance(child, tuple):
                key, value = child
                below = (*place, str(key.value))
                waiting += [(below, value), (below, key)]
            else:
                waiting.append(((*place, index), child))


def refused_tag(node: Any, harmless: set[str]) -> str | None:
    """The tag in a node, or in the tuple that it is, that is not allowed.

    Arguments
    ---------
    node : ruamel.yaml.Node or yaml.Node
        The node, without those below it.
    harmless : set of str
        Tags that build nothing.

    Returns
    -------
    str or None
        None if everything is.
    """
    kind, colon, name = node.tag.partition(":")
    if kind in ("!new", "!name") and colon and may_build(name):
        return None
    if node.tag not in harmless:
        return node.tag
    if node.tag != "!tuple":
        return None
    if not isinstance(node.value, str):
        return node.tag
    # HyperPyYAML loads its inside by a loader that runs everything.
    try:
        inside = yaml.compose(f"[{node.value[1:-1]}]", Loader=yaml.Loader)
    except RecursionError as error:
        raise InputError(TOO_DEEP) from error
    for _, part in nodes(inside):
        if part.tag not in PLAIN:
            return part.tag
    return None


def _compose(text: str) -> Any:
    """The outermost node of a text, None if there is none."""
    try:
        return ruamel.yaml.YAML().compose(io.StringIO(text))
    except RecursionError as error:
        raise InputError(TOO_DEEP) from error


def _check_references(
    node: Any, root: Any, above: list[int], done: set[int]
) -> None:
    """Refuses a node that is built of itself.

    ``above`` are the nodes that are built of this one, ``done`` those that
    are known to be good, both by their ``id``.
    """
    if id(node) in above:
        raise InputError(f"line {node.start_mark.line + 1}: refers to itself")
    if id(node) in done:
        return
    if not isinstance(node.value, str):
        parts = [p[1] if isinstance(p, tuple) else p for p in node.value]
    elif node.tag in ("!ref", "!copy"):
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
        if not isinstance(node, ruamel.yaml.MappingNode):
            return None
        found = [value for name_, value in node.value if name_.value == key]
        node = found[0] if found else None
    return node


def _names(text: str) -> Iterator[tuple[Place, int, str | None]]:
    """The place and line of all nodes, and their tag where it is refused."""
    for place, node in nodes(_compose(text)):
        tag = refused_tag(node, PLAIN | REFERENCES | {"!tuple"})
        yield place, node.start_mark.line + 1, tag


def _loader_that_calls(check: Callable[[Any], None]) -> type:
    """A loader for the second pass that checks what it is about to build."""

    class CheckingLoader(ruamel.yaml.SafeLoader):
        def get_single_node(self) -> Any:
            root = super().get_single_node()
            check(root)
            return root

    return CheckingLoader


def _line(place: Place, lines: dict[Place, int]) -> int | None:
    """Of a node, or of what references or overrides have put it into."""
    while place and place not in lines:
        place = place[:-1]
    return lines[place] if place else None


def _refusal(tag: str, line: int | None, where: str = "") -> InputError:
    if line is not None:
        where += f"line {line}: "
    return InputError(
        f"{where}{tag.replace(CORE, '!!')} is refused, since it may run code "
        f"or read files; {HOW_TO_TRUST}"
    )
