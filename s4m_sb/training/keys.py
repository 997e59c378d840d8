"""What the training reads of a YAML: the keys that may be left out.

The others are those of SpeechBrain's WSJ0Mix recipes: ``num_spks``,
``sample_rate``, ``loss``, ``output_folder``, ``save_folder`` and
``train_logger``. All of them are read in this room as ``hparams.<key>``.

Above this file: `brain.py`. Below it: `schedule.py`.
"""

from typing import Any

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
    check_metrics(keys["test_metrics"])
    if keys["seed"] is not None and keys["seed"] < 0:
        raise InputError(f"seed must be at least 0, got {keys['seed']}")
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
