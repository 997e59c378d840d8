"""Levels of voices: to full scale, as in the mixture, and block by block."""

import numpy as np
import pytest
import torch
from speech_like import speak

from s4m_sb.errors import InputError
from s4m_sb.inference.levels import (
    LEVEL,
    NORMALIZATIONS,
    Level,
    bring_to_level,
    normalize_voices,
)


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
    silence = normalize_voices(0 * voices, torch.zeros(2, 100), "peak")
    assert not silence.any()


def test_mixture_finds_the_level_and_sign_of_each_voice():
    sources = torch.from_numpy(
        np.stack([speak(i, 0, 2.0, 8000) for i in range(3)], axis=1)
    )[None]
    gains = torch.tensor([0.01, -7.0, 300.0])
    mix = sources.sum(2)
    found = normalize_voices(gains * sources, mix, "mixture")
    # float32 rounding of voices 90 dB apart
    torch.testing.assert_close(found, sources, atol=1e-5, rtol=0)
    silent = torch.cat([sources, torch.zeros(1, 16000, 1)], dim=2)
    found = normalize_voices(silent, mix, "mixture")
    assert (found[..., 3] == 0).all()
    assert found.isfinite().all()


@pytest.mark.parametrize("leak_db", [-60, -20, 0])
def test_what_repeats_a_voice_does_not_become_one(leak_db):
    """One talker alone, who leaks into the output of nobody."""
    mix = mixture()
    leak = 10 ** (leak_db / 20) * mix
    found = normalize_voices(
        torch.stack([leak, -5 * mix], dim=2), mix, "mixture"
    )
    # float32 rounding of the leak
    torch.testing.assert_close(found[..., 1], mix, atol=1e-6, rtol=0)
    assert found[..., 0].abs().max() < 1e-6


def test_the_voices_sum_to_the_mixture_as_well_as_may_be():
    voices = torch.randn(1, 8000, 3)
    voices[..., 1] += voices[..., 0]  # correlated by 0.7
    mix = voices @ torch.tensor([1.0, -0.5, 0.3]) + 0.1 * torch.randn(1, 8000)
    found = normalize_voices(voices, mix, "mixture")
    voices, mix = voices[0].double(), mix[0].double()
    best = voices @ torch.linalg.lstsq(voices, mix[:, None]).solution  # [T, 1]
    # float32 rounding, and a mean of 0.001
    assert float((mix - found[0].sum(1)).norm()) == pytest.approx(
        float((mix - best[:, 0]).norm()), rel=1e-4
    )


@pytest.mark.parametrize("offset", [0.02, -3.0])
@pytest.mark.parametrize("normalize", NORMALIZATIONS)
def test_a_mean_of_the_mixture_is_no_level(normalize, offset):
    voices = torch.randn(1, 8000, 2) + 0.01
    mix = voices.sum(2)
    expected = normalize_voices(voices, mix, normalize)
    found = normalize_voices(voices, mix + offset, normalize)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("normalize", ["mixture", "peak"])
@pytest.mark.parametrize("level", [1e-38, 1e-6, 1e6, 1e30])
def test_levels_are_found_at_any_level(normalize, level):
    voices = torch.randn(1, 8000, 2)
    expected = normalize_voices(voices, voices.sum(2), normalize)
    voices = level * voices
    found = normalize_voices(voices, voices.sum(2), normalize)
    if normalize == "mixture":
        found = found / level
    # below 1e-38 float32 has fewer digits
    atol = 1e-3 if level < 1e-37 else 1e-5
    torch.testing.assert_close(found, expected, atol=atol, rtol=1e-5)


# Before the network


@pytest.mark.parametrize("offset", [0.0, 3.0])
@pytest.mark.parametrize("gain", [1e-38, 1e-20, 1e-6, 1.0, 1e6, 1e20, 1e37])
def test_every_mixture_comes_to_one_level(gain, offset):
    mix = torch.randn(2, 8000)
    mix -= mix.mean(1, keepdim=True)
    levelled, scale = bring_to_level(gain * (mix + offset))
    # below 1e-38 float32 has fewer digits
    tolerance = 1e-3 if gain < 1e-37 else 1e-5
    rms = levelled.square().mean(1).sqrt()
    torch.testing.assert_close(rms, torch.full((2,), LEVEL))
    assert levelled.mean(1).abs().max() < 1e-6
    back = levelled.double() * scale[..., 0].double() / gain
    torch.testing.assert_close(
        back, mix.double(), atol=tolerance, rtol=tolerance
    )


def test_padding_has_no_level():
    mix = torch.randn(2, 8000) + 1
    mask = torch.arange(8000) < torch.tensor([[8000], [3000]])
    levelled, scale = bring_to_level(mix.masked_fill(~mask, 0), mask)
    alone, alone_scale = bring_to_level(mix[1:, :3000])
    torch.testing.assert_close(levelled[1:, :3000], alone)
    torch.testing.assert_close(scale[1:], alone_scale)
    assert not levelled[1, 3000:].any()


def test_only_digital_silence_is_silence():
    levelled, scale = bring_to_level(torch.zeros(1, 99))
    assert not levelled.any() and not scale.any()
    _, scale = bring_to_level(torch.tensor([[0.0, 1e-38, 0.0]]))
    assert scale > 0


def test_none_leaves_the_voices_and_others_are_refused():
    voices, mix = torch.randn(1, 9, 2), torch.randn(1, 9)
    assert torch.equal(normalize_voices(voices, mix, "none"), voices)
    with pytest.raises(InputError, match="'loud'.*mixture, peak, none"):
        normalize_voices(voices, mix, "loud")


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
