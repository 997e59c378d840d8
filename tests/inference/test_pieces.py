"""How a recording is cut: what makes no sense is refused at once."""

import math

import pytest

from s4m_sb.errors import InputError
from s4m_sb.inference.pieces import Pieces


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"chunk_s": 100, "overlap_s": 0}, "share 0 s"),
        ({"chunk_s": 100, "overlap_s": 51}, "pieces of 100 s that share 51 s"),
        ({"chunk_s": 1, "overlap_s": 1}, "pieces of 1 s"),
        ({"chunk_s": 0}, "pieces of 0 s"),
        ({"chunk_s": -1}, "pieces of -1 s"),
        ({"chunk_s": math.nan}, "pieces of nan s"),
        ({"overlap_s": math.nan}, "share nan s"),
        ({"chunk_s": math.inf, "overlap_s": 1}, "pieces of inf s"),
        ({"overlap_s": 20}, "pieces of 30 s that share 20 s"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"batch_size": -1}, "batch_size is -1"),
        ({"chunk_s": "a"}, "chunk_s is 'a'; give a number"),
        ({"chunk_s": None}, "chunk_s is None; give a number"),
        ({"overlap_s": [1]}, r"overlap_s is \[1\]; give a number"),
        ({"batch_size": 1.5}, "batch_size is 1.5; give a whole number"),
        ({"batch_size": "2"}, "batch_size is '2'; give a whole number"),
    ],
)
def test_pieces_that_make_no_sense_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        Pieces(**options)


@pytest.mark.parametrize("sample_rate", [1, 999, 8000, 44100])
@pytest.mark.parametrize("chunk_s", [1e-9, 0.001, 0.1, 30, 3601])
def test_samples_of_any_piece_can_be_joined(chunk_s, sample_rate):
    for overlap_s in (None, chunk_s / 2, chunk_s / 1000):
        chunk, overlap = Pieces(chunk_s, overlap_s).in_samples(sample_rate)
        assert 1 <= overlap <= chunk // 2
        assert abs(chunk - chunk_s * sample_rate) <= max(2, 0.5)


def test_the_overlap_is_four_seconds_or_a_quarter():
    assert Pieces().in_samples(8000) == (240000, 32000)
    assert Pieces(2).in_samples(8000) == (16000, 4000)


@pytest.mark.parametrize("device", ["cpu", "cpu:0", "cuda", "cuda:1", "mps"])
def test_more_seconds_are_separated_at_once_where_that_is_faster(device):
    seconds = 30 if device.startswith("cpu") else 60
    assert Pieces(1).num_at_once(device) == seconds
    assert Pieces(25).num_at_once(device) == seconds // 25
    assert Pieces(100).num_at_once(device) == 1
    assert Pieces(1, batch_size=7).num_at_once(device) == 7
