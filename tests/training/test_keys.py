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
        for name in ("brain", "augment", "summary")
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
        ({"use_wavedrop": True, "drop_chunk": 1}, "use_wavedrop needs drop_f"),
        (
            {"limit_training_signal_len": True},
            "limit_training_signal_len needs training_signal_len",
        ),
    ],
)
def test_what_cannot_be_used_is_refused_at_once(given, message):
    with pytest.raises(InputError, match=message):
        with_defaults(given)
