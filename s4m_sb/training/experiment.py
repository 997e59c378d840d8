"""What every recipe does before it has its data, and afterwards.

``train.py`` of a recipe opens its data sets in between:

    hparams, run_opts = start_experiment(argv)
    data = {"tr": ..., "cv": ..., "tt": ...}
    run_experiment(hparams, run_opts, data)

Above this file: `recipes/*/separation/train.py`. Below it: `brain.py`,
`continuing.py`, `keys.py`.
"""

import logging
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import speechbrain as sb
import torch
from hyperpyyaml import resolve_references
from speechbrain.utils.distributed import (
    MainProcessContext,
    ddp_init_group,
    if_main_process,
    infer_device,
    run_on_main,
)
from speechbrain.utils.logger import get_logger
from speechbrain.utils.run_opts import RunOptions

from s4m_sb.errors import InputError, first_line, one_line
from s4m_sb.mixing.dynamic import DynamicMixing
from s4m_sb.mixing.options import MixingOptions
from s4m_sb.pretrained.hparams import load_hparams
from s4m_sb.pretrained.loading import load_parameters
from s4m_sb.pretrained.model import load_pretrained
from s4m_sb.pretrained.model_yaml import MODULES
from s4m_sb.pretrained.shipped import shipped_names
from s4m_sb.system.devices import check_device
from s4m_sb.system.files import replacing
from s4m_sb.system.memory import keep_freed_memory
from s4m_sb.system.processes import ended_by_sigterm
from s4m_sb.training.brain import SeparationBrain
from s4m_sb.training.continuing import FIXED_KINDS, changes_of_run
from s4m_sb.training.export import best_checkpoint
from s4m_sb.training.keys import NEEDED, check_needed, with_defaults

logger = get_logger(__name__)

Hparams = dict[str, Any]


def start_experiment(
    argv: list[str], needed: Iterable[str] = ()
) -> tuple[Hparams, Any]:
    """Reads the YAML and prepares the output folder.

    Arguments
    ---------
    argv : list of str
        The command line without the script's name, in SpeechBrain's form.
    needed : iterable of str
        Keys that the YAML must have.

    Returns
    -------
    dict
        The YAML's keys with their values.
    dict
        SpeechBrain's run options.

    Raises
    ------
    InputError
        If the YAML is unusable or has not the keys, or the output folder is
        that of another training.
    """
    hparams_file, run_opts, overrides = _parse(argv)
    hparams = load_hparams(hparams_file, overrides)
    check_needed(hparams, needed, hparams_file)
    check_needed(hparams, NEEDED, hparams_file)
    with_defaults(hparams)
    _check_options(hparams, run_opts)
    try:
        ddp_init_group(run_opts)
    except (ValueError, RuntimeError) as error:
        reason = one_line(error)
        raise InputError(f"these processes do not meet: {reason}") from error
    folder = hparams["output_folder"]
    changes = []
    if if_main_process():  # the others wait in what follows
        stored = hparams["checkpointer"].recoverables.values()
        keys = [
            key
            for key in FIXED_KINDS
            if any(hparams.get(key) is value for value in stored)
        ]
        test_only = run_opts["test_only"]
        changes = changes_of_run(
            folder, hparams_file, overrides, tuple(keys), test_only
        )
        told = Path(folder) / "hyperparams.yaml"
        if not (test_only and told.is_file()):  # that of the training
            _write_hparams(told, hparams_file, overrides)
    sb.create_experiment_directory(
        experiment_directory=folder, **_log_config(run_opts)
    )
    if changes and not run_opts["test_only"]:
        logger.warning("%s: goes on with %s", folder, ", ".join(changes))
    return hparams, run_opts


def _parse(argv: list[str]) -> tuple[str, Any, str]:
    """The YAML, SpeechBrain's run options, and what replaces keys of the YAML.

    SpeechBrain's own parser would take ``--optimizer`` for the beginning of
    ``--optimizer_step_limit``, and a ``=`` in a value for a blank.
    """
    options = RunOptions().as_dict()
    theirs: list[str] = []
    overrides: list[str] = []
    part = theirs
    for word in argv:
        if not word.startswith("--"):
            part.append(word)
            continue
        name, equals, value = word[2:].partition("=")
        if name in options or name == "help":
            part = theirs
            part.append(word)
        else:
            part = overrides
            part += [f"\n{name}:", *([value] if equals else [])]
    hparams_file, run_opts, _ = sb.parse_arguments(theirs)
    return hparams_file, run_opts, " ".join(overrides).strip()


def _check_options(hparams: Hparams, run_opts: Any) -> None:
    """Makes sure that what was asked for is what will be done."""
    given = run_opts.overridden_args
    device = run_opts["device"] or hparams.get("device") or infer_device()
    check_device(device)
    if "max_grad_norm" in given and hparams.get("clip_grad_norm") is not None:
        raise InputError(
            f"--max_grad_norm does nothing where clip_grad_norm is "
            f"{hparams['clip_grad_norm']}; give --clip_grad_norm"
        )
    config = run_opts["log_config"]
    if config is not None and not os.path.isfile(config):
        raise InputError(f"--log_config {config}: no such file")
    if device != "cpu":
        return
    keep_freed_memory()
    for name in ("precision", "eval_precision"):
        if run_opts[name] == "fp16" and name in given:
            raise InputError(
                f"--{name} fp16: there is none on a CPU; give bf16 or fp32"
            )
        if hparams.get(name) == "fp16":
            logger.warning("%s: bf16 in place of fp16, on a CPU", name)
            hparams[name] = "bf16"


def _write_hparams(
    path: Path, hparams_file: str | os.PathLike, overrides: str
) -> None:
    """What the training was started with: whole, whatever happens meanwhile."""
    with open(hparams_file, encoding="utf-8") as file:
        text = resolve_references(file, overrides).getvalue()
    with replacing(path) as temporary:
        temporary.write_text(
            f"# Generated {date.today()} from:\n"
            f"# {os.path.abspath(hparams_file)}\n"
            f"# yamllint disable\n{text}",
            encoding="utf-8",
        )


def _log_config(run_opts: Any) -> dict[str, Any]:
    config = run_opts["log_config"]
    return {} if config is None else {"log_config": config}


def tables_used(hparams: Hparams, run_opts: Any) -> dict[str, str]:
    """The CSV files that a run reads, by the split that they list.

    Arguments
    ---------
    hparams : dict
        ``train_data``, ``valid_data`` and ``test_data``; ``dynamic_mixing``,
        and if there are any ``dynamic_mixing_opts``.
    run_opts : dict
        SpeechBrain's run options.

    Returns
    -------
    dict[str, str]
        ``"tr"``, ``"cv"`` and ``"tt"``: the last one alone where a model is
        only tested, and no ``"tr"`` where training mixtures are drawn and
        their number is given.
    """
    tables = {
        "tr": hparams["train_data"],
        "cv": hparams["valid_data"],
        "tt": hparams["test_data"],
    }
    options = hparams.get("dynamic_mixing_opts", {})
    drawn = hparams["dynamic_mixing"] and "num_mixtures" in options
    if drawn or run_opts["test_only"]:
        del tables["tr"]
    if run_opts["test_only"]:
        del tables["cv"]
    return tables


def draw_training_data(
    hparams: Hparams, num_mixtures: int, **decided: Any
) -> DynamicMixing:
    """Training mixtures drawn on the fly from ``base_folder_dm``.

    Arguments
    ---------
    hparams : dict
        ``base_folder_dm``, ``num_spks``, ``sample_rate``, ``seed`` and
        ``training_signal_len``, the length of a mixture in samples; of
        ``dynamic_mixing_opts``, if there are any, further arguments of
        ``DynamicMixing`` and its ``MixingOptions``.
    num_mixtures : int
        In an epoch, where those options do not say it.
    **decided : dict
        Options that other keys decide, for validation and test as well.

    Returns
    -------
    DynamicMixing
        The data set.

    Raises
    ------
    InputError
        If an option is unusable, or decided by other keys; if the speech is
        unusable.
    """
    rate = hparams["sample_rate"]
    options = {
        "segment_s": hparams["training_signal_len"] / rate,
        "speaker_from": "wsj0",
        "num_mixtures": num_mixtures,
        **hparams.get("dynamic_mixing_opts", {}),
    }
    decided |= {
        "num_spks": hparams["num_spks"],
        "sample_rate": rate,
        "seed": hparams["seed"],
    }
    taken = sorted(options.keys() & decided)
    if taken:
        raise InputError(
            f"dynamic_mixing_opts: {', '.join(taken)} cannot stand there; "
            "other keys decide that"
        )
    try:
        drawing, others = MixingOptions.among(decided | options)
        return DynamicMixing(
            hparams["base_folder_dm"], options=drawing, **others
        )
    except TypeError as error:
        raise InputError(f"dynamic_mixing_opts: {error}") from error


def run_experiment(
    hparams: Hparams,
    run_opts: Any,
    data: Mapping[str, Any],
    brain_class: type[SeparationBrain] = SeparationBrain,
) -> None:
    """Trains, then evaluates the best checkpoint on the first rank.

    Arguments
    ---------
    hparams : dict
        From `start_experiment`.
    run_opts : dict
        From `start_experiment`.
    data : mapping of str to Dataset
        The data sets ``"tr"``, ``"cv"`` and ``"tt"``; the last one alone
        where models are only tested.
    brain_class : type
        `SeparationBrain`, or what extends it.

    Raises
    ------
    InputError
        If a value, a model or a file is unusable.
    """
    if "pretrained_separator" in hparams:
        run_on_main(hparams["pretrained_separator"].collect_files)
        hparams["pretrained_separator"].load_collected()

    checkpointer = hparams["checkpointer"]
    if hparams.get("pretrained_model") is not None:
        _load_weights(hparams)
        if run_opts["test_only"]:
            checkpointer = None  # that model is evaluated, no other

    try:
        brain = brain_class(
            modules=hparams["modules"],
            opt_class=hparams["optimizer"],
            hparams=hparams,
            run_opts=run_opts,
            checkpointer=checkpointer,
        )
    except ValueError as error:  # of options that exclude each other
        raise InputError(one_line(error)) from error
    loader_opts: dict[str, Any] = hparams["dataloader_opts"]
    valid_opts: dict[str, Any] = hparams.get(
        "valid_dataloader_opts", loader_opts
    )
    brain.fit(
        hparams["epoch_counter"],
        data.get("tr"),
        data.get("cv"),
        train_loader_kwargs=dict(loader_opts),
        valid_loader_kwargs=dict(valid_opts),
    )
    if if_main_process():
        with MainProcessContext():  # the other ranks have finished
            brain.evaluate(
                data["tt"],
                min_key="si-snr",
                test_loader_kwargs=dict(valid_opts),
            )


def _load_weights(hparams: Hparams) -> None:
    """From a model, or from the best checkpoint of a training."""
    source, modules = hparams["pretrained_model"], hparams["modules"]
    ships = source in shipped_names()
    if not ships and (Path(source) / "save").is_dir():
        checkpoint = best_checkpoint(source)
        for name in MODULES:
            load_parameters(modules[name], checkpoint.path / f"{name}.ckpt")
    else:
        load_pretrained(
            source,
            modules,
            trusted=hparams.get("trust_pretrained_model", False),
        )


def run_script(main: Callable[[list[str]], None]) -> None:
    """Runs a recipe; ends with one line if its input cannot be used.

    Arguments
    ---------
    main : callable
        Takes the command line without the script's name.

    Raises
    ------
    SystemExit
        With the exit codes of the ``s4m`` command: 2 for what cannot be used
        or written, 130 after Ctrl-C, 143 after SIGTERM.
    """
    logging.raiseExceptions = False  # no traceback for a log on a full disk
    code = 2
    try:
        with ended_by_sigterm():
            main(sys.argv[1:])
        return
    except KeyboardInterrupt:
        line, code = "interrupted", 130
    except (InputError, OSError) as error:
        line = f"error: {one_line(error)}"
    except RuntimeError as error:
        reason = first_line(error)
        on_cpu = "can't allocate memory" in reason
        if not (on_cpu or isinstance(error, torch.OutOfMemoryError)):
            raise
        line = (
            f"error: {reason.rstrip('.')}; give a smaller batch_size or "
            "training_signal_len, or checkpoint_repeats: True"
        )
    except SystemExit as error:  # SpeechBrain says so what it refuses
        if not isinstance(error.code, str):
            raise
        line = f"error: {' '.join(error.code.split())}"
    print(f"train.py: {line}", file=sys.stderr)
    sys.exit(code)
