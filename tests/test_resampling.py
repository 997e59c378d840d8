"""Resampling: block by block what it is at once, ratios that stay small."""

import numpy as np
import pytest
import torch

from s4m_sb.resampling import resample, resample_blocks, resampling_ratio


@pytest.mark.parametrize(
    ("old", "new"),
    [(16000, 8000), (8000, 16000), (44100, 8000), (11025, 16000)],
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
    assert len(blocks) >= (6001 // size) // 2


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
