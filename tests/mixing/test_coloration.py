"""Channels: the gains asked for, at their frequencies, and no more."""

import numpy as np
import pytest
import torch

from s4m_sb.errors import InputError
from s4m_sb.mixing.coloration import (
    LOWEST_HZ,
    channel_frequencies,
    channel_response,
    draw_gains,
)

RATES = [8000, 11025, 16000, 44100, 48000]


def gains_at(response, frequencies_hz, sample_rate):
    """The gains in dB of a filter, by its transform in float64."""
    times = np.arange(len(response)) / sample_rate
    waves = np.exp(-2j * np.pi * np.outer(frequencies_hz, times))
    return 20 * np.log10(np.abs(waves @ response.double().numpy()))


def draw(seed, sample_rate, range_db=(-6, 6)):
    return draw_gains(np.random.default_rng(seed), range_db, sample_rate)


@pytest.mark.parametrize("sample_rate", RATES)
def test_frequencies_are_octaves_up_to_half_the_rate(sample_rate):
    frequencies = np.array(channel_frequencies(sample_rate))
    assert frequencies[0] == LOWEST_HZ
    assert (frequencies[1:] == 2 * frequencies[:-1]).all()
    assert frequencies[-1] <= sample_rate / 2 < 2 * frequencies[-1]


@pytest.mark.parametrize("sample_rate", RATES)
@pytest.mark.parametrize("seed", range(4))
def test_the_response_has_the_gains_drawn(sample_rate, seed):
    gains_db = draw(seed, sample_rate)
    frequencies = channel_frequencies(sample_rate)
    assert len(gains_db) == len(frequencies)
    response = channel_response(gains_db, sample_rate)
    # dB. Exact where they are frequencies of the transform that it is made
    # with, up to float32; between those of it the corners are rounded.
    exact = sample_rate in (8000, 16000)
    assert gains_at(response, frequencies, sample_rate) == pytest.approx(
        gains_db, abs=1e-5 if exact else 0.1
    )
    # In the middle of an octave, the mean; below the first, the first.
    middles = [frequency * 2**0.5 for frequency in frequencies[:-1]]
    means = [(a + b) / 2 for a, b in zip(gains_db, gains_db[1:], strict=False)]
    assert gains_at(response, middles, sample_rate) == pytest.approx(
        means, abs=0.1
    )
    assert gains_at(response, [0, 50], sample_rate) == pytest.approx(
        [gains_db[0]] * 2, abs=0.1
    )


@pytest.mark.parametrize("sample_rate", RATES)
def test_the_phase_is_minimal(sample_rate):
    """The inverse filter is causal too, and is made from the inverse gains."""
    for seed in range(4):
        gains_db = draw(seed, sample_rate)
        there = channel_response(gains_db, sample_rate).double().numpy()
        back = channel_response([-g for g in gains_db], sample_rate)
        both = np.convolve(there, back.double().numpy())
        both[0] -= 1
        # What is left are the ends that were folded onto the beginnings.
        assert np.abs(both).max() < 1e-3


def test_it_is_over_soon():
    for seed in range(20):
        power = channel_response(draw(seed, 8000), 8000).square()
        assert power[:80].sum() > 0.99 * power.sum()  # 10 ms


def test_no_gains_change_nothing():
    response = channel_response([0.0] * 6, 8000)
    assert response[0] == 1
    assert not response[1:].any()


def test_gains_are_uniform_in_their_range():
    drawn = np.array([draw(seed, 8000, (-3, 9)) for seed in range(500)])
    assert drawn.min() >= -3 and drawn.max() <= 9
    # 3000 numbers: the quarters hold 750 each, to four deviations of 24
    counts, _ = np.histogram(drawn, bins=4, range=(-3, 9))
    assert np.abs(counts - 750).max() < 96
    # The frequencies have gains of their own: 500 pairs, 4.5 deviations.
    correlations = np.corrcoef(drawn.T) - np.eye(6)
    assert np.abs(correlations).max() < 0.2


def test_the_same_generator_draws_the_same():
    assert draw(3, 16000) == draw(3, 16000) != draw(4, 16000)
    first = channel_response(draw(3, 16000), 16000)
    assert torch.equal(first, channel_response(draw(3, 16000), 16000))


def test_bad_values_are_refused():
    with pytest.raises(InputError, match="8000 Hz has 6 gains, got 5"):
        channel_response([0.0] * 5, 8000)
    with pytest.raises(InputError, match="sample_rate is 200; a channel"):
        channel_frequencies(200)
