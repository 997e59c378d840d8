"""What may be left out of a YAML, and what cannot stand there."""

import math
import re
from pathlib import Path

import pytest

from s4m_sb.errors import InputError
from s4m_sb.training import keys
from s4m_sb.training.keys import DEFAULTS, with_defaults


def test_what_is_given_stays_and_the_rest_is_added():
    given = {"seed": 3, "my_own": [1], "save_audio": True}
    complete = with_defaults(given)
    assert complete == DEFAULTS | given
    assert with_defaults(None) == DEFAULTS
    assert given == {"seed": 3, "my_own": [1], "save_audio": True}


def test_every_default_is_read_and_none_is_hidden():
    room = Path(keys.__file__).parent
    text = "".join(
        (room / f"{name}.py").read_text(encoding="utf-8")
        for name in ("brain", "augment", "logs", "summary")
    )
    read = set(re.findall(r"hparams\.(\w+)", text))
    needed = {"loss", "num_spks", "sample_rate", "train_logger"}
    needed |= {"output_folder", "save_folder"}
    assert read == set(DEFAULTS) | needed
    assert not re.search(r"(get|has)attr\((self\.)?hparams", text)


@pytest.mark.parametrize(
    "given, message",
    [
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"test_metrics": ["snr"]}, "test_metrics: 'snr' is unknown"),
        ({"lr_scheduler": object()}, "lr_scheduler: object takes"),
        ({"threshold": "low"}, "threshold is low"),
        ({"loss_upper_lim": math.nan}, "loss_upper_lim is nan"),
        ({"use_speedperturb": True}, "use_speedperturb needs speed_perturb"),
        (
            {"use_wavedrop": True, "drop_chunk": abs},
            "use_wavedrop needs drop_f",
        ),
        (
            {"limit_training_signal_len": True},
            "limit_training_signal_len needs training_signal_len",
        ),
    ],
)
def test_what_cannot_be_used_is_refused_at_once(given, message):
    with pytest.raises(InputError, match=message):
        with_defaults(given)


@pytest.mark.parametrize(
    "given, message",
    [
        ({"save_audio": "no"}, "save_audio is 'no'; give True or False"),
        ({"num_spks": "two"}, "num_spks is 'two'; give a whole number"),
        ({"num_spks": True}, "num_spks is True; give a whole number"),
        ({"sample_rate": 0}, "sample_rate is 0; give at least 1"),
        ({"training_signal_len": 2.5}, "training_signal_len is 2.5; give a wh"),
        ({"ema_decay": "slow"}, "ema_decay is 'slow'; give a number"),
        ({"dataloader_opts": 5}, "dataloader_opts is 5; give keys with val"),
        ({"loss": "si-snr"}, "loss is 'si-snr'; give a function"),
        ({"loss": lambda x: x}, "loss is called as loss.target, estimate"),
        ({"optimizer": "adam"}, "optimizer is 'adam'; give a function"),
        ({"test_metrics": "sdr"}, "test_metrics is 'sdr'; give a list"),
        ({"checkpointer": "save"}, "checkpointer is 'save'; give SpeechBrain"),
        ({"data_folder": 5}, "data_folder is 5; give a path"),
        # of SpeechBrain's run options
        ({"ckpt_interval_minutes": "x"}, "ckpt_interval_minutes is 'x'; give"),
        ({"skip_nonfinite_grads": "x"}, "skip_nonfinite_grads is 'x'; give T"),
        ({"grad_accumulation_factor": 0}, "grad_accumulation_factor is 0; gi"),
        ({"precision": "fp8"}, "precision is 'fp8'; use one of fp32, fp16"),
    ],
)
def test_values_of_another_kind_are_named(given, message):
    with pytest.raises(InputError, match=message):
        with_defaults(given)


def test_values_of_their_kind_are_taken():
    """Whole numbers are numbers, and None is whoever's who reads it."""
    given = {"clip_grad_norm": 5, "ema_decay": 0.9, "loss": print}
    given |= {"ckpt_interval_minutes": 0.5, "training_signal_len": None}
    assert with_defaults(given).items() >= given.items()
