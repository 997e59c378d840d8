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
import tempfile
from pathlib import Path

import torch
from hyperpyyaml import load_hyperpyyaml
from speechbrain.utils.checkpoints import Checkpoint, Checkpointer

from s4m_sb.errors import InputError, one_line
from s4m_sb.metrics import card_titles
from s4m_sb.pretrained.card import model_card
from s4m_sb.pretrained.loading import load_parameters
from s4m_sb.pretrained.model_yaml import MODULES, NUMBERS, model_yaml
from s4m_sb.pretrained.safe_yaml import check_part, load_checked
from s4m_sb.pretrained.speechbrain_yaml import (
    CUSTOM,
    CUSTOM_FILE,
    UPSTREAM,
    alone_code,
    custom_module,
    has_s4m,
    speechbrain_yaml,
)
from s4m_sb.system.files import replacing
from s4m_sb.training.checkpoints import SCORE, check_meta, is_whole

OBJECTIVE = "objective"  # what kind of loss that is; SI-SNR where it is missing
FILES = {"hyperparams.yaml", "README.md", *(f"{m}.ckpt" for m in MODULES)}


def export_model(
    results_dir: str | os.PathLike,
    out_dir: str | os.PathLike,
    name: str | None = None,
    card: str | os.PathLike | None = None,
    data: str | None = None,
    license: str | None = None,
    command: str | None = None,
    time: str | None = None,
    force: bool = False,
    trusted: bool = False,
    speechbrain: bool = False,
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
    time : str, optional
        How long that took, and on what, for the card.
    force : bool
        Replace ``out_dir`` if it is a model folder.
    trusted : bool
        Run whatever the run's YAML names as its network, such as one of one's
        own; `S4MSeparation` will have to trust the model, too. Otherwise the
        run may come from anybody.
    speechbrain : bool
        Write the networks in SpeechBrain's names, so that the folder needs
        SpeechBrain alone: its own class, or where the installed SpeechBrain
        does not have it, a file ``custom.py`` for its ``foreign_class``.

    Returns
    -------
    Path
        ``out_dir``.

    Raises
    ------
    InputError
        If ``results_dir`` is no finished run, ``out_dir`` is in the way, the
        parameters do not fit the network, or the run is not trusted and names
        something else as its network than `pretrained/safe_yaml.py` has.
    """
    results_dir, out_dir = Path(results_dir), Path(out_dir)
    _check_free(out_dir, force)
    hyperparams = results_dir / "hyperparams.yaml"
    if not hyperparams.is_file():
        raise InputError(f"{hyperparams}: no such file; is this a run?")
    training = _read(hyperparams)
    text = model_yaml(training, hyperparams, trusted)
    model = _load(text, training, hyperparams, trusted)
    custom = None
    if speechbrain:
        text = speechbrain_yaml(text, UPSTREAM if has_s4m() else CUSTOM)
        if f"!new:{CUSTOM}." in text:
            custom = custom_module()
    checkpoint = best_checkpoint(results_dir)
    if card is None:
        facts = {
            "Data": data,
            "Command": command,
            "Training time": time,
            "License": license,
        }
        markdown = model_card(
            name or out_dir.resolve().name,
            {
                **{key: model[key] for key in NUMBERS},
                "num_parameters": _num_parameters(model["modules"]),
            },
            _results(results_dir, checkpoint),
            {key: value for key, value in facts.items() if value},
            card_titles(),
            alone_code(text) if speechbrain else (),
        )
    elif Path(card).is_file():
        markdown = _read(Path(card))
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
        if custom is not None:
            (built / CUSTOM_FILE).write_text(custom, encoding="utf-8")
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
        If no checkpoint has been validated, or what is said of one cannot be
        read.
    """
    folder = Path(results_dir) / "save"
    for path in folder.glob("CKPT*"):
        if not is_whole(path):
            raise InputError(
                f"{path}: has not been written to its end; wait if a training "
                "is running, else start it again or remove this folder"
            )
        check_meta(path / "CKPT.yaml")
    if folder.is_dir():
        found = Checkpointer(folder).find_checkpoint(min_key=SCORE)
        if found is not None:
            return found
    raise InputError(
        f"{folder}: has no checkpoint with a validation score '{SCORE}'; "
        "train for one epoch at least"
    )


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is no UTF-8 text") from error


def _check_free(out_dir: Path, force: bool) -> None:
    if not os.path.lexists(out_dir):
        return
    if not force:
        raise InputError(f"{out_dir}: exists; --force replaces a model folder")
    known = FILES | {CUSTOM_FILE}
    others = set(os.listdir(out_dir)) - known if out_dir.is_dir() else {out_dir}
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


def _load(
    text: str, training: str, name: str | os.PathLike, trusted: bool
) -> dict:
    try:
        if trusted:
            return load_hyperpyyaml(text)
        check_part(text, training)
        return load_checked(text)
    except Exception as error:  # it runs what the YAML names
        reason = one_line(error)
        raise InputError(f"{name}: {reason}") from error


def _num_parameters(modules: dict) -> int:
    return sum(
        parameter.numel()
        for name in MODULES
        for parameter in modules[name].parameters()
    )


def _copy_parameters(
    checkpoint: Checkpoint, network: dict, folder: Path
) -> None:
    """Loads the parameters into the network and writes them for any device."""
    for name in MODULES:
        path = checkpoint.paramfiles.get(name)
        if path is None:
            raise InputError(f"{checkpoint.path}: has no {name}.ckpt")
        state = load_parameters(network[name], path)
        # Not to the file itself: PyTorch does not say that a disk is full.
        written = io.BytesIO()
        torch.save(state, written)
        with replacing(folder / f"{name}.ckpt") as temporary:
            temporary.write_bytes(written.getbuffer())


def _results(
    results_dir: Path, checkpoint: Checkpoint
) -> dict[str, float | str]:
    """The validation score, and what ``summary.json`` says of it."""
    results: dict[str, float | str] = {}
    if SCORE in checkpoint.meta:
        loss = float(checkpoint.meta[SCORE])
        objective = checkpoint.meta.get(OBJECTIVE, "si_snr")
        if "si_snr" in objective:
            results["valid SI-SNR (dB)"] = -loss
        else:
            results[f"valid {objective} (dB)"] = loss
    if "epoch" in checkpoint.meta:
        results["epoch"] = checkpoint.meta["epoch"]
    summary = results_dir / "summary.json"
    if summary.is_file():
        text = _read(summary)
        try:
            content = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{summary}: is no JSON ({error})") from error
        if not isinstance(content, dict):
            raise InputError(f"{summary}: is no JSON object")
        # Of another checkpoint, if training went on after the evaluation.
        if content.get("epoch") == checkpoint.meta.get("epoch"):
            results |= _flat(content)
    return results


def _flat(value, name: str = "") -> dict[str, float | str]:
    """Nested JSON as one level of names and values, without its tables."""
    if isinstance(value, dict):
        flat: dict[str, float | str] = {}
        for key, inner in value.items():
            flat |= _flat(inner, f"{name} {key}".strip())
        return flat
    if isinstance(value, list) and any(isinstance(x, dict) for x in value):
        return {}
    if isinstance(value, (bool, list)) or value is None:
        value = json.dumps(value)
    return {name: value}
