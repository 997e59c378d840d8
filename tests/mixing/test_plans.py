"""Plans know who speaks and where, and are values."""

import dataclasses
import pickle

import pytest

from s4m_sb.mixing.corpus import Utterance
from s4m_sb.mixing.plans import (
    MixturePlan,
    NoisePlan,
    Piece,
    Silence,
    SourcePlan,
)

WORDS = Utterance("anna/1.wav", "anna", 800, 8000)


def source(*lengths):
    """Pieces of so many samples; below 0, silence of as many."""
    pieces = [Piece(WORDS, 0, n) if n > 0 else Silence(-n) for n in lengths]
    return SourcePlan(tuple(pieces), -20.0)


@pytest.mark.parametrize(
    "lengths, spans",
    [
        ([], []),
        ([5], [(0, 5)]),
        ([5, 3], [(0, 8)]),  # without a pause it is one
        ([5, -2, 3], [(0, 5), (7, 10)]),
        ([-2, 5, 3, -4, -1, 6], [(2, 10), (15, 21)]),
        ([-7], []),
    ],
)
def test_where_somebody_speaks(lengths, spans):
    plan = source(*lengths)
    assert list(plan.spans) == spans
    assert plan.num_frames == sum(map(abs, lengths))
    assert sum(end - begin for begin, end in plan.spans) == sum(
        piece.num_frames for piece in plan.said
    )
    assert plan.speaker == ("anna" if spans else "")


def test_noise_is_as_long_as_its_pieces():
    plan = NoisePlan((Piece(WORDS, 3, 5), Piece(WORDS, 0, 800)), 6.0)
    assert plan.num_frames == 805


def test_plans_are_values():
    plan = MixturePlan((source(5, -2, 3), source(-10)), 8000)
    again = pickle.loads(pickle.dumps(plan))
    assert again == plan and again is not plan
    assert hash(again) == hash(plan)
    assert plan != dataclasses.replace(plan, sample_rate=16000)
    with pytest.raises(dataclasses.FrozenInstanceError):
        plan.sample_rate = 16000
