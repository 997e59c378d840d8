"""Who can be drawn, how often, and who is left out."""

import logging
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from s4m_sb.errors import InputError
from s4m_sb.mixing.corpus import Corpus, Utterance
from s4m_sb.mixing.options import MixingOptions
from s4m_sb.mixing.speakers import Speakers

# Seconds of each utterance.
SAID = {"anna": [10], "ben": [3, 3], "eva": [1, 0.2], "tom": [0.3] * 4}


def make(said=SAID, num_spks=2, **keys):
    speakers = {
        name: tuple(
            Utterance(f"{name}{n}.wav", name, round(16000 * seconds), 16000)
            for n, seconds in enumerate(lengths)
        )
        for name, lengths in said.items()
    }
    options = MixingOptions(num_spks=num_spks, sample_rate=8000, **keys)
    return Speakers(Corpus(Path("speech"), speakers), options)


def names(speakers):
    return [spoken[0].speaker for spoken in speakers.spoken]


def test_short_utterances_are_left_out():
    speakers = make()
    assert names(speakers) == ["anna", "ben", "eva"]
    assert [len(spoken) for spoken in speakers.spoken] == [1, 2, 1]
    assert len(make(min_utterance_s=0).spoken) == 4


@pytest.mark.parametrize(
    "keys, expected",
    [
        ({}, ["anna", "ben"]),
        # Sped up, ben's 6 s do not last.
        ({"speed_range": (0.9, 1.25)}, ["anna"]),
        # In turns half of it is enough, unless one may speak throughout.
        ({"conversation": {}, "segment_s": 12.0}, ["anna", "ben"]),
        ({"conversation": {"solo": 0.1}, "segment_s": 6.0}, ["anna", "ben"]),
        ({"conversation": {"turns": 0.9}, "segment_s": 10.0}, ["anna"]),
    ],
)
def test_joined_who_has_said_enough(keys, expected, caplog):
    keys = {"segment_s": 5.0, "join_short": True, **keys}
    if len(expected) < 2:
        with pytest.raises(InputError, match="holds 1 speakers with .* s of"):
            make(**keys)
        return
    with caplog.at_level(logging.INFO):
        assert names(make(**keys)) == expected
    assert "2 of 4 speakers with" in caplog.text


@pytest.mark.parametrize(
    "rule, shares",
    [
        ("utterances", {"anna": 0.25, "ben": 0.5, "eva": 0.25}),
        ("duration", {"anna": 10 / 17, "ben": 6 / 17, "eva": 1 / 17}),
        ("uniform", dict.fromkeys(("anna", "ben", "eva"), 1 / 3)),
    ],
)
def test_the_first_is_drawn_by_his_weight(rule, shares):
    speakers = make(speaker_weights=rule)
    rng = np.random.default_rng(0)
    drawn = [speakers.draw(rng, []) for _ in range(1000)]
    assert all(len(set(pair)) == 2 for pair in drawn)
    counts = Counter(names(speakers)[first] for first, _ in drawn)
    for name, share in shares.items():
        # Four standard deviations of 1000 draws.
        assert counts[name] / 1000 == pytest.approx(share, abs=0.064)


def test_whoever_is_silent_is_not_drawn_and_told_of_once(caplog):
    speakers = make()
    rng = np.random.default_rng(0)
    assert all(set(speakers.draw(rng, [1])) == {0, 2} for _ in range(20))
    for _ in range(3):
        speakers.tell_of_silence(1, 50)
    assert caplog.text.count("50 windows drawn from speaker 'ben'") == 1
    with pytest.raises(InputError, match=r"2 of 3 speakers \(anna, ben\) are"):
        speakers.draw(rng, [1, 0])
