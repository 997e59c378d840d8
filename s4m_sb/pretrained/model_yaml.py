"""The YAML of a trained model, out of the YAML that trained it."""

import io
import os
import re

import yaml
from hyperpyyaml import resolve_references

from s4m_sb.errors import InputError, one_line
from s4m_sb.pretrained.safe_yaml import resolve_checked

MODULES = ("encoder", "masknet", "decoder")
NUMBERS = ("sample_rate", "num_spks")
HEADER = "# A trained model, for S4MSeparation.from_hparams\n"


def model_yaml(
    text: str, name: str | os.PathLike = "YAML", trusted: bool = False
) -> str:
    """Keeps of a training YAML what the trained network needs.

    Arguments
    ---------
    text : str
        The training's HyperPyYAML: as it was written by hand, or as
        SpeechBrain saved it, with references resolved.
    name : str or os.PathLike
        Its name in error messages.
    trusted : bool
        Open and call what ``!include:`` and ``!applyref:`` name.

    Returns
    -------
    str
        HyperPyYAML with ``sample_rate``, ``num_spks``, the three networks
        and what they refer to, ``modules`` and ``pretrainer``.

    Raises
    ------
    InputError
        If a needed key is missing, or it is not trusted and has one of those.

    Example
    -------
    >>> print(
    ...     model_yaml('''
    ... sample_rate: 8000
    ... num_spks: 2
    ... lr: 0.001
    ... Encoder: !new:s4m_sb.network.filterbank.Encoder
    ... MaskNet: !new:s4m_sb.network.masknet.S4MMaskNet
    ...     num_spks: !ref <num_spks>
    ... Decoder: !new:s4m_sb.network.filterbank.Decoder
    ... modules:
    ...     encoder: !ref <Encoder>
    ...     masknet: !ref <MaskNet>
    ...     decoder: !ref <Decoder>
    ... ''')
    ... )
    # A trained model, for S4MSeparation.from_hparams
    <BLANKLINE>
    sample_rate: 8000
    <BLANKLINE>
    num_spks: 2
    <BLANKLINE>
    Encoder: !new:s4m_sb.network.filterbank.Encoder
    <BLANKLINE>
    MaskNet: !new:s4m_sb.network.masknet.S4MMaskNet
        num_spks: 2
    <BLANKLINE>
    Decoder: !new:s4m_sb.network.filterbank.Decoder
    <BLANKLINE>
    modules:
        encoder: !ref <Encoder>
        masknet: !ref <MaskNet>
        decoder: !ref <Decoder>
    <BLANKLINE>
    pretrainer: !new:speechbrain.utils.parameter_transfer.Pretrainer
        loadables:
            encoder: !ref <Encoder>
            masknet: !ref <MaskNet>
            decoder: !ref <Decoder>
    <BLANKLINE>
    """
    try:
        if trusted:
            text = resolve_references(io.StringIO(text)).getvalue()
        else:
            text = resolve_checked(text)
        root = yaml.compose(text)
    except Exception as error:  # two YAML libraries and HyperPyYAML's own
        reason = one_line(error)
        raise InputError(f"{name}: {reason}") from error
    top = _children(root)
    for key in (*NUMBERS, "modules"):
        if key not in top:
            raise InputError(f"{name}: has no '{key}'")
    modules = _children(top["modules"])
    for key in MODULES:
        if key not in modules:
            raise InputError(f"{name}: has no '{key}' in its modules")

    # Every network gets a name at the top, whatever it had before.
    keys = {
        id(node): key
        for key, node in top.items()
        if key != "modules" and not _is_plain(node)
    }
    named = {keys.get(id(modules[m]), m): modules[m] for m in MODULES}
    keys |= {id(node): key for key, node in named.items()}
    needed = {key: top[key] for key in NUMBERS}
    for key, node in named.items():
        _collect(key, node, keys, needed)
    references = {m: f"!ref <{keys[id(modules[m])]}>" for m in MODULES}

    blocks = [_block(key, node, keys) for key, node in needed.items()]
    lines = [f"    {key}: {value}\n" for key, value in references.items()]
    blocks.append("modules:\n" + "".join(lines))
    blocks.append(
        "pretrainer: !new:speechbrain.utils.parameter_transfer.Pretrainer\n"
        "    loadables:\n" + "".join(f"    {line}" for line in lines)
    )
    return "\n".join([HEADER, *blocks])


def _children(node: yaml.Node) -> dict[str, yaml.Node]:
    if not isinstance(node, yaml.MappingNode):
        return {}
    return {key.value: value for key, value in node.value}


def _is_plain(node: yaml.Node) -> bool:
    """A number or text, which needs no name to be shared."""
    return isinstance(node, yaml.ScalarNode) and not node.tag.startswith("!")


def _collect(
    key: str, node: yaml.Node, keys: dict[int, str], needed: dict
) -> None:
    """Adds what a node refers to, then the node itself."""
    for child in _inside(node):
        if id(child) in keys:
            _collect(keys[id(child)], child, keys, needed)
    needed[key] = node


def _inside(node: yaml.Node):
    """All nodes below a node."""
    if isinstance(node, yaml.MappingNode):
        children = [value for _, value in node.value]
    elif isinstance(node, yaml.SequenceNode):
        children = node.value
    else:
        children = []
    for child in children:
        yield child
        yield from _inside(child)


def _block(key: str, node: yaml.Node, keys: dict[int, str]) -> str:
    """One entry of the YAML, with ``!ref`` for what has a name."""
    name = yaml.ScalarNode("tag:yaml.org,2002:str", key)
    text = yaml.serialize(
        yaml.MappingNode(
            "tag:yaml.org,2002:map",
            [(name, _linked(node, keys))],
            flow_style=False,
        ),
        indent=4,
        width=80,
    )
    # PyYAML quotes whatever has a tag.
    return re.sub(r"(?m)(!\S+) '(|<[^'>]*>)'", _unquoted, text)


def _unquoted(match: re.Match) -> str:
    return f"{match[1]} {match[2]}".rstrip()


def _linked(node: yaml.Node, keys: dict[int, str]) -> yaml.Node:
    """A copy in which the children that have a name are references."""

    def link(child: yaml.Node) -> yaml.Node:
        if id(child) in keys:
            return yaml.ScalarNode("!ref", f"<{keys[id(child)]}>")
        return _linked(child, keys)

    if isinstance(node, yaml.MappingNode):
        pairs = [(key, link(value)) for key, value in node.value]
        return yaml.MappingNode(
            node.tag, pairs, flow_style=node.flow_style if pairs else True
        )
    if isinstance(node, yaml.SequenceNode):
        return yaml.SequenceNode(
            node.tag,
            [link(value) for value in node.value],
            flow_style=node.flow_style,
        )
    return node
