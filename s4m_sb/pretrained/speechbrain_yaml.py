"""The YAML of a trained model in the names of SpeechBrain.

With it, a model folder needs no package but SpeechBrain: the network is that
of `contrib/speechbrain/s4m.py`, whose parameters have the same names, and the
decoder is SpeechBrain's own.
"""

import importlib.util
import re
from pathlib import Path

from s4m_sb.errors import InputError

UPSTREAM = "speechbrain.lobes.models.s4m"  # once it is a part of SpeechBrain
CUSTOM = "custom"  # until then: a file of the folder, SpeechBrain's name for it
CUSTOM_FILE = f"{CUSTOM}.py"
KIT = Path(__file__).resolve().parents[2] / "contrib" / "speechbrain"

OURS = {
    "Encoder": "s4m_sb.network.filterbank.Encoder",
    "S4MMaskNet": "s4m_sb.network.masknet.S4MMaskNet",
}
DECODER = "s4m_sb.network.filterbank.Decoder"
# What the names of such a YAML stand for in this package.
ALIASES = {
    f"{module}.{name}": ours
    for module in (UPSTREAM, CUSTOM)
    for name, ours in OURS.items()
}
# What the network of SpeechBrain is without asking for it.
FIXED = {"kernel": "s4", "topdown_start": "coarsest"}
FILTERS = {"num_filters": "9", "kernel_size": "16", "stride": "4"}
INTERFACE = """

# What SpeechBrain's `foreign_class` looks for in this file.
from speechbrain.inference.separation import (  # noqa: E402
    SepformerSeparation as CustomInterface,  # noqa: F401
)
"""


def has_s4m() -> bool:
    """Whether the SpeechBrain that is installed has S4M.

    Example
    -------
    >>> isinstance(has_s4m(), bool)
    True
    """
    return importlib.util.find_spec(UPSTREAM) is not None


def custom_module() -> str:
    """The network as one Python file, for SpeechBrain's ``foreign_class``.

    Returns
    -------
    str
        Python.

    Raises
    ------
    InputError
        If the package runs without its repository.
    """
    path = KIT / "s4m.py"
    if not path.is_file():
        raise InputError(
            f"{path}: no such file; --speechbrain needs a checkout of the "
            "repository, or a SpeechBrain that has S4M"
        )
    return path.read_text(encoding="utf-8") + INTERFACE


def alone_code(text: str) -> list[str]:
    """Python that separates with SpeechBrain and a folder with this YAML.

    Arguments
    ---------
    text : str
        What `speechbrain_yaml` gave.

    Returns
    -------
    list of str
        Its lines.

    Example
    -------
    >>> print(alone_code("")[0])
    from speechbrain.inference.separation import SepformerSeparation
    """
    if f"!new:{CUSTOM}." in text:
        name, module = "foreign_class", "interfaces"
        make = "foreign_class"
    else:
        name, module = "SepformerSeparation", "separation"
        make = "SepformerSeparation.from_hparams"
    return [
        f"from speechbrain.inference.{module} import {name}",
        "",
        f'model = {make}("PATH_OF_THIS_FOLDER")',
        'voices = model.separate_file("mixture.wav")  # [1, T, S]',
    ]


def speechbrain_yaml(text: str, module: str = UPSTREAM) -> str:
    """Names the networks as SpeechBrain does.

    Arguments
    ---------
    text : str
        What `model_yaml` gives.
    module : str
        Where SpeechBrain finds the network: ``UPSTREAM`` or ``CUSTOM``.

    Returns
    -------
    str
        HyperPyYAML. Networks that are SpeechBrain's already stay as they are.

    Raises
    ------
    InputError
        If SpeechBrain has no such network.

    Example
    -------
    >>> print(
    ...     speechbrain_yaml('''
    ... Decoder: !new:s4m_sb.network.filterbank.Decoder
    ...     num_filters: 128
    ...     kernel_size: 32
    ...     stride: 16
    ... ''')
    ... )
    <BLANKLINE>
    Decoder: !new:speechbrain.lobes.models.dual_path.Decoder
        in_channels: 128
        out_channels: 1
        kernel_size: 32
        stride: 16
        padding: 16
        bias: false
    <BLANKLINE>
    """
    names = {ours: f"{module}.{name}" for name, ours in OURS.items()}
    found = re.compile(r"(?m)^(\w+: )!new:(s4m_sb\.\S+)\n((?: +\S.*\n)*)")
    text = found.sub(lambda match: _network(match, names), text)
    left = re.search(r"s4m_sb\.\S+", text)
    if left:
        raise InputError(f"{left[0]}: has no counterpart in SpeechBrain")
    return text


def _network(match: re.Match, names: dict[str, str]) -> str:
    key, name, body = match.groups()
    pairs = (line.strip().split(": ", 1) for line in body.splitlines())
    arguments = {pair[0]: pair[1] for pair in pairs}
    if name == DECODER:
        name = "speechbrain.lobes.models.dual_path.Decoder"
        arguments = _of_decoder({**FILTERS, **arguments})
    elif name in names:
        for option, value in FIXED.items():
            if arguments.pop(option, value) != value:
                raise InputError(
                    f"SpeechBrain's S4M has {option}: {value} alone"
                )
        name = names[name]
    lines = [f"    {option}: {value}\n" for option, value in arguments.items()]
    return f"{key}!new:{name}\n" + "".join(lines)


def _of_decoder(filters: dict[str, str]) -> dict[str, str]:
    overlap = int(filters["kernel_size"]) - int(filters["stride"])
    return {
        "in_channels": filters["num_filters"],
        "out_channels": "1",
        "kernel_size": filters["kernel_size"],
        "stride": filters["stride"],
        "padding": str(overlap),
        "bias": "false",
    }
