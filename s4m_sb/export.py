"""From a training run to a model folder, as SpeechBrain's Hub layout has it.

    results folder                       model folder
    hyperparams.yaml                     hyperparams.yaml (the network alone)
    save/CKPT+.../encoder.ckpt, ...  ->  encoder.ckpt, masknet.ckpt, ...
    summary.json                         README.md (the model card)

`S4MSeparation.from_hparams` and SpeechBrain's own interfaces read it.
"""

import io
import json
import os
import re
import tempfile
from pathlib import Path

import torch
import yaml
from hyperpyyaml import load_hyperpyyaml, resolve_references
from speechbrain.utils.checkpoints import Checkpoint, Checkpointer

from s4m_sb.errors import InputError
from s4m_sb.parameters import load_parameters

MODULES = ("encoder", "masknet", "decoder")
NUMBERS = ("sample_rate", "num_spks")
HEADER = "# A trained model, for S4MSeparation.from_hparams\n"
SCORE = "si-snr"  # SpeechBrain's key: the validation loss, lower is better
FILES = {"hyperparams.yaml", "README.md", *(f"{m}.ckpt" for m in MODULES)}


def export_model(
    results_dir: str | os.PathLike,
    out_dir: str | os.PathLike,
    name: str | None = None,
    card: str | os.PathLike | None = None,
    data: str | None = None,
    license: str | None = None,
    command: str | None = None,
    force: bool = False,
) -> Path:
    """Makes a model folder out of the best checkpoint of a training run.

    The folder appears whole or not at all. Its network is built and its
    parameters are loaded once before that.

    Arguments
    ---------
    results_dir : str or os.PathLike
        The run's ``output_folder``: of this package's recipes or of
        SpeechBrain's, such as ConvTasNet or SepFormer.
    out_dir : str or os.PathLike
        The folder to make.
    name : str, optional
        The model's name on its card; by default that of ``out_dir``.
    card : str or os.PathLike, optional
        A Markdown file that becomes the card, instead of a written one.
    data : str, optional
        What it was trained on, for the card.
    license : str, optional
        Its licence, for the card; best an identifier such as "apache-2.0".
    command : str, optional
        How it was trained, for the card.
    force : bool
        Replace ``out_dir`` if it is a model folder.

    Returns
    -------
    Path
        ``out_dir``.

    Raises
    ------
    InputError
        If ``results_dir`` is no finished run, ``out_dir`` is in the way, or
        the parameters do not fit the network.
    """
    results_dir, out_dir = Path(results_dir), Path(out_dir)
    _check_free(out_dir, force)
    hyperparams = results_dir / "hyperparams.yaml"
    if not hyperparams.is_file():
        raise InputError(f"{hyperparams}: no such file; is this a run?")
    text = model_yaml(hyperparams.read_text(encoding="utf-8"), hyperparams)
    model = _load(text, hyperparams)
    checkpoint = best_checkpoint(results_dir)
    if card is None:
        facts = {"Data": data, "Command": command, "License": license}
        markdown = model_card(
            name or out_dir.resolve().name,
            {key: model[key] for key in NUMBERS},
            _results(results_dir, checkpoint),
            {key: value for key, value in facts.items() if value},
        )
    elif Path(card).is_file():
        markdown = Path(card).read_text(encoding="utf-8")
    else:
        raise InputError(f"{card}: no such file")

    out_dir.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(
        prefix=f".{out_dir.name}.", dir=out_dir.parent
    ) as temporary:
        built = Path(temporary) / "new"
        built.mkdir()
        (built / "hyperparams.yaml").write_text(text, encoding="utf-8")
        (built / "README.md").write_text(markdown, encoding="utf-8")
        _copy_parameters(checkpoint, model["modules"], built)
        _move_into_place(built, out_dir, Path(temporary) / "old")
    return out_dir


def best_checkpoint(results_dir: str | os.PathLike) -> Checkpoint:
    """The checkpoint of a run with the lowest validation loss.

    Arguments
    ---------
    results_dir : str or os.PathLike
        The run's ``output_folder``, with its checkpoints in ``save``.

    Returns
    -------
    Checkpoint
        SpeechBrain's: ``path``, ``meta``, ``paramfiles``.

    Raises
    ------
    InputError
        If no checkpoint has been validated.
    """
    folder = Path(results_dir) / "save"
    if folder.is_dir():
        found = Checkpointer(folder).find_checkpoint(min_key=SCORE)
        if found is not None:
            return found
    raise InputError(
        f"{folder}: has no checkpoint with a validation score '{SCORE}'; "
        "train for one epoch at least"
    )


def model_yaml(text: str, name: str | os.PathLike = "YAML") -> str:
    """Keeps of a training YAML what the trained network needs.

    Arguments
    ---------
    text : str
        The training's HyperPyYAML: as it was written by hand, or as
        SpeechBrain saved it, with references resolved.
    name : str or os.PathLike
        Its name in error messages.

    Returns
    -------
    str
        HyperPyYAML with ``sample_rate``, ``num_spks``, the three networks
        and what they refer to, ``modules`` and ``pretrainer``.

    Raises
    ------
    InputError
        If a needed key is missing.

    Example
    -------
    >>> print(
    ...     model_yaml('''
    ... sample_rate: 8000
    ... num_spks: 2
    ... lr: 0.001
    ... Encoder: !new:s4m_sb.filterbank.Encoder
    ... MaskNet: !new:s4m_sb.masknet.S4MMaskNet
    ...     num_spks: !ref <num_spks>
    ... Decoder: !new:s4m_sb.filterbank.Decoder
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
    Encoder: !new:s4m_sb.filterbank.Encoder
    <BLANKLINE>
    MaskNet: !new:s4m_sb.masknet.S4MMaskNet
        num_spks: 2
    <BLANKLINE>
    Decoder: !new:s4m_sb.filterbank.Decoder
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
        root = yaml.compose(resolve_references(io.StringIO(text)))
    except Exception as error:  # two YAML libraries and HyperPyYAML's own
        reason = " ".join(str(error).split())
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


def model_card(
    name: str, numbers: dict, results: dict[str, float | str], facts: dict
) -> str:
    """Writes the model card, Markdown with the Hub's front matter.

    Arguments
    ---------
    name : str
        The model's name.
    numbers : dict
        ``sample_rate`` in Hz and ``num_spks``.
    results : dict
        What was measured: numbers for a table, text for a list.
    facts : dict
        What else is known: any of "Data", "Command", "License".

    Returns
    -------
    str
        The card.

    Example
    -------
    >>> card = model_card(
    ...     "s4m-8k",
    ...     {"sample_rate": 8000, "num_spks": 2},
    ...     {"si_snr_i": 9.5},
    ...     {},
    ... )
    >>> "| si_snr_i | 9.50 |" in card
    True
    """
    rate, num_spks = numbers["sample_rate"], numbers["num_spks"]
    license = facts.get("License", "")
    measured = {k: v for k, v in results.items() if not isinstance(v, str)}
    said = {k: v for k, v in results.items() if isinstance(v, str)} | facts
    said.setdefault("License", "not stated")
    lines = [
        "---",
        # The Hub takes an identifier here; other text stands below.
        f"license: {license if license and ' ' not in license else 'other'}",
        "library_name: speechbrain",
        "pipeline_tag: audio-to-audio",
        "tags: [audio-to-audio, speech-separation, speechbrain]",
        "---",
        "",
        f"# {name}",
        "",
        f"Separates {num_spks} voices at {rate} Hz.",
        "",
        "```python",
        "from s4m_sb.inference import S4MSeparation",
        "",
        'model = S4MSeparation.from_hparams("PATH_OF_THIS_FOLDER")',
        'voices = model.separate_file("mixture.wav")  # [1, T, S]',
        "```",
        "",
        "```sh",
        "s4m separate mixture.wav --output separated "
        "--model PATH_OF_THIS_FOLDER",
        "```",
        "",
    ]
    if measured:
        lines += ["| result | value |", "|---|---|"]
        lines += [f"| {k} | {_number(v)} |" for k, v in measured.items()]
        lines.append("")
    lines += [f"- {key}: {value}" for key, value in said.items()]
    return "\n".join(lines) + "\n"


def _check_free(out_dir: Path, force: bool) -> None:
    if not os.path.lexists(out_dir):
        return
    if not force:
        raise InputError(f"{out_dir}: exists; --force replaces a model folder")
    others = set(os.listdir(out_dir)) - FILES if out_dir.is_dir() else {out_dir}
    if others:
        raise InputError(
            f"{out_dir}: is no model folder (it has {sorted(others)[0]}), "
            "so it is not replaced"
        )


def _move_into_place(built: Path, out_dir: Path, old: Path) -> None:
    if out_dir.exists():
        os.rename(out_dir, old)
    try:
        os.rename(built, out_dir)
    except OSError:
        if old.exists():
            os.rename(old, out_dir)
        raise


def _load(text: str, name: str | os.PathLike) -> dict:
    try:
        return load_hyperpyyaml(text)
    except Exception as error:  # it runs what the YAML names
        reason = " ".join(str(error).split())
        raise InputError(f"{name}: {reason}") from error


def _copy_parameters(
    checkpoint: Checkpoint, network: dict, folder: Path
) -> None:
    """Loads the parameters into the network and writes them for any device."""
    for name in MODULES:
        path = checkpoint.paramfiles.get(name)
        if path is None:
            raise InputError(f"{checkpoint.path}: has no {name}.ckpt")
        state = load_parameters(network[name], path)
        torch.save(state, folder / f"{name}.ckpt")


def _results(
    results_dir: Path, checkpoint: Checkpoint
) -> dict[str, float | str]:
    """The validation score, and what ``summary.json`` holds."""
    results: dict[str, float | str] = {}
    if SCORE in checkpoint.meta:
        results["valid SI-SNR (dB)"] = -float(checkpoint.meta[SCORE])
    if "epoch" in checkpoint.meta:
        results["epoch"] = checkpoint.meta["epoch"]
    summary = results_dir / "summary.json"
    if summary.is_file():
        try:
            content = json.loads(summary.read_text(encoding="utf-8"))
        except ValueError as error:
            raise InputError(f"{summary}: is no JSON ({error})") from error
        results |= _flat(content)
    return results


def _flat(value, name: str = "") -> dict[str, float | str]:
    """Nested JSON as one level of names and values."""
    if isinstance(value, dict):
        flat: dict[str, float | str] = {}
        for key, inner in value.items():
            flat |= _flat(inner, f"{name} {key}".strip())
        return flat
    if isinstance(value, (bool, list)) or value is None:
        value = json.dumps(value)
    return {name: value}


def _number(value: float) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)


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
