"""Shifts and segments know where each item ends."""

import pytest
import torch

from s4m_sb.augment import change_speed, random_segment, random_shift, remix
from s4m_sb.errors import InputError

B, T, S = 6, 50, 2


@pytest.fixture
def targets():
    """Samples that are all different and padding of zeros, and lengths."""
    samples = torch.tensor([50, 1, 2, 30, 49, 7])
    values = torch.arange(1.0, B * T * S + 1).view(B, T, S)
    frame = torch.arange(T)[None, :, None]
    return values.masked_fill(frame >= samples[:, None, None], 0), samples


def test_a_shift_rotates_each_source_within_its_length(targets):
    signals, samples = targets
    shifted = random_shift(signals, samples, -60, 60)
    shifts = set()
    for before, after, length in zip(signals, shifted, samples, strict=True):
        assert not after[length:].any()
        for source in range(S):
            start = int(after[0, source] - before[0, source]) // S
            shifts.add((int(length), source, start))
            torch.testing.assert_close(
                after[:length, source],
                before[:length, source].roll(-start),
                rtol=0,
                atol=0,
            )
    assert len({start for _, _, start in shifts}) > 3  # each its own


@pytest.mark.parametrize("shift", [-3, 0, 4, 53])
def test_a_shift_goes_forward_in_time(shift):
    signal = torch.arange(10.0).view(1, 10, 1)
    shifted = random_shift(signal, torch.tensor([10]), shift, shift + 1)
    assert torch.equal(shifted, signal.roll(shift, dims=1))


def test_bounds_of_a_shift():
    signal = torch.arange(100.0).view(1, 100, 1)
    starts = {
        int(random_shift(signal, torch.tensor([100]), -2, 3)[0, 0, 0])
        for _ in range(100)
    }
    assert starts == {0, 1, 2, 98, 99}
    with pytest.raises(InputError, match="min_shift .* got 5 and 5"):
        random_shift(signal, torch.tensor([100]), 5, 5)


def test_a_segment_is_a_piece_of_each_item(targets):
    signals, samples = targets
    for _ in range(20):
        cut, lengths = random_segment(signals, samples, 20)
        assert cut.shape == (B, 20, S)
        assert lengths.tolist() == [min(20, n) for n in samples.tolist()]
        for before, after, length in zip(signals, cut, lengths, strict=True):
            start = int(after[0, 0] - before[0, 0]) // S
            assert torch.equal(
                after[:length], before[start : start + int(length)]
            )
            assert after[:length].all()  # no padding in it


def test_every_start_is_drawn():
    signal = torch.arange(8.0).view(1, 8, 1)
    starts = {
        int(random_segment(signal, torch.tensor([8]), 5)[0][0, 0, 0])
        for _ in range(100)
    }
    assert starts == {0, 1, 2, 3}


def test_a_segment_longer_than_all_items_changes_nothing(targets):
    signals, samples = targets
    cut, lengths = random_segment(signals, samples, 1000)
    assert torch.equal(cut, signals)
    assert torch.equal(lengths, samples)


def test_an_empty_segment_is_refused(targets):
    with pytest.raises(InputError, match="training_signal_len .* got 0"):
        random_segment(*targets, 0)


def test_one_seed_governs_both(targets):
    def draw():
        torch.manual_seed(3)
        return random_shift(*targets, -9, 9), random_segment(*targets, 9)[0]

    first, again = draw(), draw()
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])


def test_each_source_has_its_own_speed_and_all_one_length():
    target = torch.randn(2, 100, 2)
    lengths = iter((90, 110))
    changed = change_speed(target, lambda x: x.new_ones(2, next(lengths)))
    assert changed.shape == (2, 90, 2)


def test_a_remixed_mixture_is_the_sum_of_its_parts():
    target, noise = torch.randn(2, 100, 3), torch.randn(2, 100)
    changed = torch.randn(2, 80, 3)
    kept, mixture = remix(target, target.sum(-1) + noise, changed)
    assert torch.equal(kept, changed)
    # float32, five terms of about 1
    torch.testing.assert_close(
        mixture, changed.sum(-1) + noise[:, :80], atol=1e-6, rtol=0
    )
