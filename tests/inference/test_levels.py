"""Levels of voices: to full scale, as in the mixture, and block by block."""

import numpy as np
import pytest
import torch
from speech_like import speak

from s4m_sb.errors import InputError
from s4m_sb.inference.levels import NORMALIZATIONS, Level, normalize_voices


def mixture():
    voices = np.stack([speak(0, 0, 1.0, 8000), speak(1, 0, 1.0, 8000)])
    return 0.4 * torch.from_numpy(voices.sum(0, keepdims=True))  # [1, T]


def test_peak_brings_every_voice_to_one_and_leaves_silence():
    voices = torch.randn(2, 100, 3)
    voices[0, :, 1] = 0
    voices[1, :, 2] *= 1e-6
    mix = voices.sum(2)
    scaled = normalize_voices(voices, mix, "peak")
    peaks = scaled.abs().amax(1)
    assert peaks[0].tolist() == [1, 0, 1]
    assert peaks[1, :2].tolist() == [1, 1]
    assert peaks[1, 2] < 1e-4
    silence = normalize_voices(1e-7 * voices, torch.zeros(2, 100), "peak")
    assert silence.abs().max() < 1e-5


def test_mixture_finds_the_level_and_sign_of_each_voice():
    sources = torch.from_numpy(
        np.stack([speak(i, 0, 2.0, 8000) for i in range(3)], axis=1)
    )[None]
    gains = torch.tensor([0.01, -7.0, 300.0])
    mix = sources.sum(2)
    found = normalize_voices(gains * sources, mix, "mixture")
    # the ridge of 1e-3 takes a thousandth from each gain
    error = (found - sources).norm() / sources.norm()
    assert error < 3e-3
    silent = torch.cat([sources, torch.zeros(1, 16000, 1)], dim=2)
    found = normalize_voices(silent, mix, "mixture")
    assert (found[..., 3] == 0).all()
    assert found.isfinite().all()


def test_mixture_stays_tame_when_the_voices_are_the_same():
    mix = mixture()
    voices = mix.unsqueeze(2).expand(1, 8000, 2)
    found = normalize_voices(voices, mix, "mixture")
    # half the mixture each, up to the ridge
    torch.testing.assert_close(found, 0.5 * voices, atol=1e-3, rtol=0)


def test_none_leaves_the_voices_and_others_are_refused():
    voices, mix = torch.randn(1, 9, 2), torch.randn(1, 9)
    assert torch.equal(normalize_voices(voices, mix, "none"), voices)
    with pytest.raises(InputError, match="'loud'.*peak, mixture, none"):
        normalize_voices(voices, mix, "loud")


def test_rounding_noise_of_16_bits_is_not_brought_to_full_scale():
    # An anti-phase stereo file leaves this when it is mixed down.
    dither = torch.randint(-1, 2, (1, 8000)) / 2**15
    voices = torch.stack([dither, dither.flip(1)], dim=2)
    assert normalize_voices(voices, dither, "peak").abs().max() < 1e-4


@pytest.mark.parametrize("normalize", NORMALIZATIONS)
@pytest.mark.parametrize("case", ["speech", "one silent", "silence"])
def test_levels_are_the_same_block_by_block(normalize, case):
    voices = torch.randn(8000, 3) * torch.tensor([1.0, 0.1, -7.0])
    mix = voices @ torch.tensor([0.5, 1.0, 0.01]) + torch.randn(8000)
    if case == "one silent":
        voices[:, 1] = 0
    elif case == "silence":
        mix *= 1e-6
        voices *= 1e-7
    level = Level(3, normalize)
    for block, part in zip(voices.split(999), mix.split(999), strict=True):
        level.add(block, part)
        level.add(block[:0], part[:0])
    found = voices / level.divisors()
    expected = normalize_voices(voices[None], mix[None], normalize)[0]
    if normalize == "mixture":
        # float64 sums of 8000 products in another order, rounded to float32
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)
    else:
        assert torch.equal(found, expected)


def test_an_unknown_level_is_refused_block_by_block():
    with pytest.raises(InputError, match="'loud'"):
        Level(2, "loud")
