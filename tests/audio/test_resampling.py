"""Resampling: block by block what it is at once, ratios that stay small."""

import time

import numpy as np
import pytest
import torch
import torchaudio.functional

from s4m_sb.audio.resampling import (
    MAX_COEFFICIENTS,
    resample,
    resample_blocks,
    resampling_ratio,
)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        *[(16000, 8000), (8000, 16000), (44100, 8000), (11025, 16000)],
        *[(1999, 1600), (900, 1201)],  # by filters made as needed
    ],
)
@pytest.mark.parametrize("size", [300, 4001])
def test_blocks_are_the_whole_in_parts(old, new, size):
    for num_frames in (1, 440, 882, 6001):
        signal = torch.randn(num_frames)
        blocks = list(resample_blocks(signal.split(size), old, new))
        torch.testing.assert_close(
            torch.cat(blocks),
            resample(signal, *resampling_ratio(old, new)),
            rtol=0,
            atol=2e-6,  # float32 sums over the filter, in another order
        )
    # A result waits for what its filter sees, not for the end.
    assert len(blocks) >= (6001 // max(size, old)) // 2


@pytest.mark.parametrize("sample_rate", [8000, 16000])
def test_speed_is_met_with_small_filters(sample_rate):
    # torchaudio's filters have about old * new coefficients.
    for rate in (8000, 11025, 16000, 22050, 44100, 48000):
        for speed in np.arange(0.5, 2.01, 0.01).round(2).tolist():
            if speed == 1:
                continue
            old, new = resampling_ratio(rate, sample_rate, speed)
            assert new <= 200 and old <= 2400
            exact = rate * speed / sample_rate
            if rate in (8000, 16000, 48000):
                assert old / new == pytest.approx(exact, rel=1e-12)
            # Neighbouring fractions are at most 1 / 200 apart.
            assert old / new == pytest.approx(exact, abs=0.5 / 200)


@pytest.mark.parametrize(("old", "new"), [(1601, 800), (800, 1601)])
@pytest.mark.parametrize("num_frames", [1, 5000])
def test_filters_made_as_needed_are_those_of_torchaudio(old, new, num_frames):
    signal = torch.randn(num_frames, dtype=torch.float64)
    assert old * new > MAX_COEFFICIENTS
    torch.testing.assert_close(
        resample(signal, old, new),
        torchaudio.functional.resample(signal, old, new),
        rtol=0,
        atol=1e-11,  # float64 sums, with crossings of up to a few thousand
    )


@pytest.mark.parametrize("old", [44099, 8001, 999983])
def test_odd_rates_take_little_time_and_memory(old):
    # Of filters for each phase, 44099 Hz takes 26 s and 5.5 GiB.
    tone = torch.arange(5 * old, dtype=torch.float64) / old
    tone = (2 * torch.pi * 440 * tone).sin().float()
    start = time.process_time()  # others may have the cores as well
    found = resample(tone, old, 8000)
    assert time.process_time() - start < 10
    assert found.shape == (40000,)
    expected = torch.arange(40000, dtype=torch.float64) / 8000
    expected = (2 * torch.pi * 440 * expected).sin().float()
    # away from the ends: the filter is flat to half a percent
    torch.testing.assert_close(
        found[100:-100], expected[100:-100], atol=5e-3, rtol=0
    )
