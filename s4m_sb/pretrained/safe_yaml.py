"""Loading the YAML of a model that may come from anybody.

HyperPyYAML runs whatever a file names. This reads its language as far as
networks are described in it, and can do nothing else: `references.py` makes
nodes of the text, what has come out is compared with what is listed here, and
only then built. What is not listed is refused, with its line.

Protected: nothing is imported, called or read but the classes listed here,
which build networks out of numbers, strings and one another. A name is
compared as a whole: prefixes would let
``torch.nn.modules.module.os.system`` through. To add one, make sure that no
value of its arguments makes it read or write a file, import or call something
else than the classes listed. There is one exception: an ``SBRNNBlock`` calls
what its ``rnn_type`` names in ``speechbrain.nnet.RNN``, and nothing behind
that. Its other arguments fit networks alone; a test lists what stands there,
so that an addition is noticed.

Protected as well is memory, by the bounds here and in `references.py`. Not
protected is time: a network within them may still be slow.
"""

import io
import pydoc
from collections.abc import Iterator
from functools import partial
from typing import Any

import ruamel.yaml

from s4m_sb.errors import InputError
from s4m_sb.pretrained.references import (
    CORE,
    MERGE,
    PLAIN,
    REFERENCES,
    check_form,
    compose,
    is_tuple,
    line_of,
    nodes,
    override,
    plain_value,
    resolve,
    tuple_inside,
)
from s4m_sb.pretrained.speechbrain_yaml import ALIASES

READS_OR_RUNS = ("!include:", "!applyref:")
HOW_TO_TRUST = (
    "if you trust whoever made it, load it with trusted=True "
    "(s4m: --trust; train.py: trust_pretrained_model: True)"
)

LARGEST_NUMBER = 10**6  # whole, in what a network is built with
MOST_BYTES = 2**32  # that a network takes

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
    if name in NAMES or name in ALIASES:  # which is built as what it names
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
    """Loads the YAML of a model, if all that it names may be built.

    Arguments
    ---------
    text : str
        HyperPyYAML.
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
        If it, or a network in it, is larger than the bounds allow.

    Example
    -------
    >>> load_checked("a: 2\\nb: !new:torch.nn.ReLU")
    {'a': 2, 'b': ReLU()}
    >>> load_checked("a: 2\\nb: !apply:os.getcwd")
    Traceback (most recent call last):
    s4m_sb.errors.InputError: line 2: !apply:os.getcwd is refused, ...
    """
    root = compose(text)
    _refuse(root)
    if overrides:
        if not isinstance(overrides, str):
            stream = io.StringIO()
            ruamel.yaml.YAML(typ="safe", pure=True).dump(overrides, stream)
            overrides = stream.getvalue()
        changes = compose(overrides)
        for node, tag in _refused(changes):
            if tag == node.tag:  # not of what is in a tuple
                raise _refusal(tag, line_of(node), "overrides, ")
        override(root, changes, overrides_must_match)
    check_form(root)
    root = resolve(root)
    _refuse(root)

    from s4m_sb.pretrained.memory_bound import MemoryBound

    with MemoryBound(MOST_BYTES):
        values = _build(root, {})
    return {k: v for k, v in values.items() if not k.startswith("__")}


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
    named = [tag for _, tag in _refused(compose(part))]
    for node, tag in _refused(compose(whole)) if named else ():
        if tag in named:
            raise _refusal(tag, line_of(node))
    if named:
        raise _refusal(named[0])


def resolve_checked(text: str) -> str:
    """Resolves references, in a text that may name anything but files.

    For the YAML of a training, which names more than a network. It is not
    run: what HyperPyYAML does before it builds anything, reading other files
    and calling functions, is refused.

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
        If it has ``!include:`` or ``!applyref:``, with the line, or is larger
        than the bounds allow.

    Example
    -------
    >>> print(resolve_checked("a: 1\\nb: !ref <a>"))
    a: 1
    b: 1
    >>> resolve_checked("a: !include:/etc/passwd")
    Traceback (most recent call last):
    s4m_sb.errors.InputError: line 1: !include:/etc/passwd is refused, ...
    """
    root = compose(text)
    for _, node in nodes(root):
        if node.tag.startswith(READS_OR_RUNS):
            raise _refusal(node.tag, line_of(node))
    if root is not None:
        root = resolve(root)
    stream = io.StringIO()
    ruamel.yaml.YAML().serialize(root, stream)
    return stream.getvalue()


def _refused(root: Any) -> Iterator[tuple[Any, str]]:
    """The nodes that a model may not have, and the tag that they have."""
    for _, node in nodes(root):
        kind, colon, name = node.tag.partition(":")
        if kind in ("!new", "!name") and colon and may_build(name):
            continue
        if isinstance(node.value, str):
            if node.tag == "!PLACEHOLDER" or node.tag in REFERENCES:
                continue
            if is_tuple(node):
                yield from ((node, tag) for tag in _refused_in_tuple(node))
                continue
        if node.tag not in PLAIN:
            yield node, node.tag


def _refused_in_tuple(node: Any) -> list[str]:
    # No merging there: it doubles what it merges.
    allowed = PLAIN - {MERGE}
    parts = nodes(tuple_inside(node))
    return [part.tag for _, part in parts if part.tag not in allowed]


def _refuse(root: Any) -> None:
    for node, tag in _refused(root):
        raise _refusal(tag, line_of(node))


def _refusal(tag: str, line: str = "", where: str = "") -> InputError:
    return InputError(
        f"{where}{line}{tag.replace(CORE, '!!')} is refused, since it may run "
        f"code or read files; {HOW_TO_TRUST}"
    )


def _build(node: Any, built: dict[int, Any]) -> Any:
    """The value of a node, one object for all that refer to it."""
    if id(node) not in built:
        built[id(node)] = _built(node, built)
    return built[id(node)]


def _built(node: Any, built: dict[int, Any]) -> Any:
    kind, _, name = node.tag.partition(":")
    value: Any
    if isinstance(node, ruamel.yaml.MappingNode):
        value = {_build(k, built): _build(v, built) for k, v in node.value}
    elif isinstance(node, ruamel.yaml.SequenceNode):
        value = [_build(child, built) for child in node.value]
    elif kind in ("!new", "!name"):
        value = []
    else:
        return plain_value(node)
    if kind not in ("!new", "!name"):
        return value
    options = value if isinstance(value, dict) else {}
    arguments = value if isinstance(value, list) else []
    for place, argument in [*options.items(), *enumerate(arguments, 1)]:
        _check_number(argument, place, node)
    found: Any = pydoc.locate(ALIASES.get(name, name))
    if kind == "!name":
        return partial(found, *arguments, **options) if value else found
    try:
        return found(*arguments, **options)
    except TypeError as error:
        error.args = (f"Invalid argument to class {name}", *error.args)
        raise


def _check_number(value: Any, place: Any, node: Any) -> None:
    """Refuses what makes networks larger than any machine."""
    if isinstance(value, (list, tuple)):
        for part in value:
            _check_number(part, place, node)
    elif isinstance(value, dict):
        for key, part in value.items():
            _check_number(part, key, node)
    elif isinstance(value, int) and abs(value) > LARGEST_NUMBER:
        raise InputError(
            f"{line_of(node)}{place} is {value}; the largest whole number in a "
            f"network is {LARGEST_NUMBER}"
        )
