"""What the training reads of a YAML: the keys that may be left out.

The others are those of SpeechBrain's WSJ0Mix recipes: ``num_spks``,
``sample_rate``, ``loss``, ``output_folder``, ``save_folder`` and
``train_logger``. All of them are read in this room as ``hparams.<key>``.

Above this file: `brain.py`. Below it: `schedule.py`.
"""

import inspect
from collections.abc import Iterable
from typing import Any

from speechbrain.utils.run_opts import RunOptions

from s4m_sb.errors import InputError
from s4m_sb.metrics import check_metrics
from s4m_sb.training.schedule import check_epochs, check_scheduler

DEFAULTS: dict[str, Any] = {
    # ------------------------------------------------------------- updates
    # At least 0. Fixes the order and augmentation of each epoch; None: both
    # come from the random state there is.
    "seed": None,
    # Norm of all gradients together; below 0, no clipping. None: SpeechBrain's
    # run option max_grad_norm.
    "clip_grad_norm": None,
    # One of SpeechBrain's schedulers; None: the rate stays.
    "lr_scheduler": None,
    # Validate, test and keep as the model an exponential moving average of the
    # weights, see averaging.py; above 0 and below 1, None for none.
    "ema_decay": None,
    # Mixtures with a loss at or above this weigh nothing in training. This
    # and the threshold may change over the epochs: [[1, -30], [50, -15]].
    "loss_upper_lim": float("inf"),
    # Whether mixtures weigh nothing that are separated to the threshold, a
    # loss in dB, or better.
    "threshold_byloss": False,
    "threshold": -30.0,
    # Counts the epochs; None: they are not known after a test.
    "epoch_counter": None,
    # -------------------------------------------------------- augmentation
    # Each source at a speed of its own, drawn by speed_perturb.
    "use_speedperturb": False,
    "speed_perturb": None,
    # Each source turned round in time by min_shift to max_shift samples.
    "use_rand_shift": False,
    "min_shift": -8000,
    "max_shift": 8000,
    # Pieces and frequencies dropped by drop_chunk and drop_freq.
    "use_wavedrop": False,
    "drop_chunk": None,
    "drop_freq": None,
    # A random segment of training_signal_len samples of each mixture.
    "limit_training_signal_len": False,
    "training_signal_len": None,
    # ---------------------------------------------------------- evaluation
    # Columns of the results, out of s4m_sb.metrics.METRICS.
    "test_metrics": ("sdr", "si-snr"),
    # Mixtures, targets and estimates as WAV, of the first items; below 0, all.
    "save_audio": False,
    "n_audio_to_save": -1,
    # Log to <output_folder>/tensorboard as well.
    "use_tensorboard": False,
    # -------------------------------------------- what stands beside numbers
    # The same data give many tasks: what is separated from what. Over any
    # mixture but mix_clean, the results say how far speech is above noise.
    "dataset": None,
    "mixture": None,
    "target": None,
    "version": None,
    "data_folder": None,
    "dynamic_mixing": None,
}
PRECISIONS = ("fp32", "fp16", "bf16")

# What a run reads before it has its data, or hands to SpeechBrain.
NEEDED = (
    "modules",
    "loss",
    "optimizer",
    "checkpointer",
    "epoch_counter",
    "train_logger",
    "dataloader_opts",
    "output_folder",
    "save_folder",
    "num_spks",
    "sample_rate",
)

# What a value must be: its types, or what it can do, and the words for that.
KINDS: tuple[tuple[str, Any, str], ...] = (
    (
        "modules dataloader_opts valid_dataloader_opts dynamic_mixing_opts",
        dict,
        "keys with values",
    ),
    (
        "loss optimizer speed_perturb drop_chunk drop_freq",
        callable,
        "a function, as by !name: or !new:",
    ),
    (
        "output_folder save_folder train_data valid_data test_data "
        "data_folder base_folder_dm noise_folder_dm rooms_folder",
        str,
        "a path",
    ),
    (
        "seed num_spks sample_rate training_signal_len min_shift max_shift "
        "n_audio_to_save num_mixtures num_rooms rooms_seed",
        int,
        "a whole number",
    ),
    ("clip_grad_norm ema_decay", (int, float), "a number"),
    (
        "threshold_byloss use_speedperturb use_rand_shift use_wavedrop "
        "limit_training_signal_len save_audio use_tensorboard dynamic_mixing "
        "skip_prep trust_pretrained_model",
        bool,
        "True or False",
    ),
    ("test_metrics", (list, tuple), "a list"),
    ("train_logger", ("log_stats",), "one of SpeechBrain's loggers"),
    ("epoch_counter", ("__next__",), "one of SpeechBrain's counters"),
    ("checkpointer", ("find_checkpoint",), "SpeechBrain's Checkpointer"),
)
AT_LEAST_1 = (
    "num_spks",
    "sample_rate",
    "training_signal_len",
    "grad_accumulation_factor",
)


def check_needed(
    hparams: dict[str, Any], needed: Iterable[str], name: str
) -> None:
    """Names the keys that are missing.

    Arguments
    ---------
    hparams : dict
        The YAML's keys with their values.
    needed : iterable of str
        Keys without which nothing can be done.
    name : str
        Of the YAML.

    Raises
    ------
    InputError
        If there are any.
    """
    missing = [key for key in needed if hparams.get(key) is None]
    if missing:
        raise InputError(f"{name}: has no key {', '.join(missing)}")


def check_kinds(hparams: dict[str, Any]) -> None:
    """Refuses values that are not of the kind that a key needs.

    Arguments
    ---------
    hparams : dict
        The YAML's keys with their values; None is left to whoever reads it.

    Raises
    ------
    InputError
        If there is one, such as a word where True or False is meant.

    Example
    -------
    >>> check_kinds({"save_audio": "no"})
    Traceback (most recent call last):
    s4m_sb.errors.InputError: save_audio is 'no'; give True or False
    """
    for names, kind, words in KINDS:
        for name in names.split():
            value = hparams.get(name)
            if value is not None and not _is_of(value, kind):
                raise InputError(f"{name} is {value!r:.60}; give {words}")
    for name, default in RunOptions().as_dict().items():
        value = hparams.get(name)
        if value is None or default is None:
            continue
        if isinstance(default, bool):
            kind, words = bool, "True or False"
        elif isinstance(default, (int, float)):
            kind, words = (int, float), "a number"
        else:
            continue
        if not _is_of(value, kind):
            raise InputError(f"{name} is {value!r:.60}; give {words}")
    for name in ("precision", "eval_precision"):
        if hparams.get(name, "fp32") not in PRECISIONS:
            raise InputError(
                f"{name} is {hparams[name]!r:.60}; use one of "
                f"{', '.join(PRECISIONS)}"
            )
    for name in AT_LEAST_1:
        value = hparams.get(name)
        if value is not None and value < 1:
            raise InputError(f"{name} is {value}; give at least 1")


def _is_of(value: Any, kind: Any) -> bool:
    if kind is callable:
        return callable(value)
    if isinstance(kind, tuple) and isinstance(kind[0], str):
        return all(hasattr(value, name) for name in kind)
    if isinstance(value, bool):  # which is an int to Python
        return kind is bool
    return isinstance(value, kind)


def with_defaults(hparams: dict[str, Any] | None) -> dict[str, Any]:
    """The keys of a YAML, those that were left out included.

    Arguments
    ---------
    hparams : dict, optional
        The YAML's keys with their values.

    Returns
    -------
    dict
        All keys that the training reads, and whatever else there was.

    Raises
    ------
    InputError
        If a value cannot be used: now, not when training has ended.

    Example
    -------
    >>> with_defaults({"seed": 5})["save_audio"]
    False
    >>> with_defaults({"seed": -1})
    Traceback (most recent call last):
    s4m_sb.errors.InputError: seed must be at least 0, got -1
    """
    keys = DEFAULTS | (hparams or {})
    check_kinds(keys)
    check_metrics(keys["test_metrics"])
    if keys["seed"] is not None and keys["seed"] < 0:
        raise InputError(f"seed must be at least 0, got {keys['seed']}")
    if keys.get("loss") is not None:
        _check_loss(keys["loss"])
    if keys["lr_scheduler"] is not None:
        check_scheduler(keys["lr_scheduler"])
    for name in ("threshold", "loss_upper_lim"):
        check_epochs(name, keys[name])
    for use, needed in (
        ("use_speedperturb", ("speed_perturb",)),
        ("use_wavedrop", ("drop_chunk", "drop_freq")),
        ("limit_training_signal_len", ("training_signal_len",)),
    ):
        for name in needed:
            if keys[use] and keys[name] is None:
                raise InputError(f"{use} needs {name}, which is not there")
    return keys


def _check_loss(loss: Any) -> None:
    try:
        signature = inspect.signature(loss)
        context = {"mixture", "lengths"} & set(signature.parameters)
        signature.bind("target", "estimate", **dict.fromkeys(context))
    except (TypeError, ValueError) as error:
        raise InputError(
            f"loss is called as loss(target, estimate): {error}"
        ) from error
