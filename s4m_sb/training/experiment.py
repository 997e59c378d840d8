"""What every recipe does before it has its data, and afterwards.

``train.py`` of a recipe opens its data sets in between:

    hparams, run_opts = start_experiment(argv)
    data = {"tr": ..., "cv": ..., "tt": ...}
    run_experiment(hparams, run_opts, data)

Above this file: `recipes/*/separation/train.py`. Below it: `brain.py`.
"""

import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import speechbrain as sb
from speechbrain.utils.distributed import (
    MainProcessContext,
    ddp_init_group,
    if_main_process,
    infer_device,
    run_on_main,
)

from s4m_sb.errors import InputError, one_line
from s4m_sb.mixing.dynamic import DynamicMixing
from s4m_sb.mixing.options import MixingOptions
from s4m_sb.pretrained.hparams import load_hparams
from s4m_sb.pretrained.loading import load_parameters
from s4m_sb.pretrained.model import load_pretrained
from s4m_sb.pretrained.model_yaml import MODULES
from s4m_sb.pretrained.shipped import shipped_names
from s4m_sb.system.memory import keep_freed_memory
from s4m_sb.training.brain import SeparationBrain
from s4m_sb.training.checkpoints import check_same_run
from s4m_sb.training.export import best_checkpoint

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
    hparams_file, run_opts, overrides = sb.parse_arguments(argv)
    hparams = load_hparams(hparams_file, overrides)
    missing = [key for key in needed if key not in hparams]
    if missing:
        raise InputError(f"{hparams_file}: has no key {', '.join(missing)}")
    ddp_init_group(run_opts)
    run_on_main(
        check_same_run, args=[hparams["output_folder"], hparams_file, overrides]
    )
    sb.create_experiment_directory(
        experiment_directory=hparams["output_folder"],
        hyperparams_to_save=hparams_file,
        overrides=overrides,
    )
    device = run_opts["device"] or infer_device()
    if device == "cpu":
        keep_freed_memory()
        if hparams.get("precision") == "fp16":
            hparams["precision"] = "bf16"  # there is no fp16 on CPUs
    return hparams, run_opts


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

    brain = brain_class(
        modules=hparams["modules"],
        opt_class=hparams["optimizer"],
        hparams=hparams,
        run_opts=run_opts,
        checkpointer=checkpointer,
    )
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
    """
    try:
        main(sys.argv[1:])
    except InputError as error:
        sys.exit(f"train.py: error: {one_line(error)}")
