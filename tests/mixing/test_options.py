"""The options of mixtures: what is refused, and where they stand in a YAML."""

import dataclasses

import pytest

from s4m_sb.errors import InputError
from s4m_sb.mixing.conversation import Conversation
from s4m_sb.mixing.options import MixingOptions

NEEDED = {"num_spks": 2, "sample_rate": 8000}


@pytest.mark.parametrize(
    "keys, message",
    [
        ({"num_spks": 0}, "num_spks is 0; give at least 1"),
        ({"sample_rate": 0}, "sample_rate is 0"),
        ({"sample_rate": 10**12}, "sample_rate is 1000000000000; give Hz"),
        ({"segment_s": 0}, "segment_s is 0"),
        ({"segment_s": -1.0}, "segment_s is -1.0"),
        ({"segment_s": float("nan")}, "segment_s is nan"),
        ({"segment_s": float("inf")}, "segment_s is inf"),
        ({"min_utterance_s": -1}, "min_utterance_s is -1"),
        ({"join_short": True}, "join_short needs segment_s"),
        ({"level_range_db": (5, -5)}, r"level_range_db is \[5, -5\]"),
        ({"level_range_db": (1,)}, r"level_range_db is \[1\]"),
        ({"speed_range": (0, 1)}, r"speed_range is \[0, 1\]"),
        ({"speed_range": (1.1, 0.9)}, r"speed_range is \[1.1, 0.9\]"),
        ({"speed_range": 1.1}, "speed_range is 1.1; give two numbers"),
        ({"speaker_weights": "none"}, "speaker_weights is 'none'"),
        ({"room_probability": 1.1}, "room_probability is 1.1"),
        ({"noise_probability": -1}, "noise_probability is -1"),
        ({"snr_range_db": (3, 1)}, r"snr_range_db is \[3, 1\]"),
        ({"filter_range_db": (-200, 0)}, r"filter_range_db is \[-200, 0\]"),
        ({"filter_range_db": (0, 1), "sample_rate": 200}, "sample_rate is 200"),
        ({"conversation": {}}, "conversation needs join_short and segment_s"),
        ({"conversation": {"talk": 1}}, "conversation has no 'talk'"),
    ],
)
def test_bad_values_are_refused(keys, message):
    with pytest.raises(InputError, match=message):
        MixingOptions(**{**NEEDED, **keys})


def test_a_conversation_may_be_given_by_names():
    keys = {**NEEDED, "segment_s": 4, "join_short": True}
    named = MixingOptions(**keys, conversation={"solo": 0.2, "turns": 0.4})
    given = MixingOptions(**keys, conversation=Conversation(0.2, 0.4))
    assert named == given
    assert named.conversation == Conversation(solo=0.2, turns=0.4)


def test_keys_are_divided():
    options, others = MixingOptions.among(
        {**NEEDED, "snr_range_db": [0, 5], "seed": 3, "split": None}
    )
    assert options == MixingOptions(**NEEDED, snr_range_db=[0, 5])
    assert others == {"seed": 3, "split": None}
    with pytest.raises(TypeError, match="sample_rate"):
        MixingOptions.among({"num_spks": 2})


def test_options_without_a_length_have_no_frames():
    options = MixingOptions(**NEEDED)
    assert options.num_frames is None
    assert dataclasses.replace(options, segment_s=0.25).num_frames == 2000
