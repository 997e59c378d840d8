"""PESQ and STOI: what they must say, and what they cannot rate."""

import math

import pytest
import torch
from known_signals import voices

from s4m_sb import metrics
from s4m_sb.errors import InputError


def speech_like(num_frames=16000, num_sources=1, seed=0):
    """Noise in bursts of changing colour, which PESQ and STOI accept."""
    noise = voices(1, num_frames, num_sources, seed=seed)
    coloured = noise + 0.9 * noise.roll(1, 1) + 0.8 * noise.roll(2, 1)
    time = torch.arange(num_frames).view(1, -1, 1) / 8000
    return 0.1 * coloured * (1 + torch.sin(2 * math.pi * 4 * time)) ** 2


@pytest.mark.parametrize("name", ["pesq", "stoi"])
@pytest.mark.parametrize("sample_rate", [8000, 16000])
def test_perceptual_metrics_fall_with_noise(name, sample_rate):
    for library in ("torchmetrics", name if name == "pesq" else "pystoi"):
        pytest.importorskip(library)
    metric = getattr(metrics, name)
    target = speech_like(num_frames=3 * sample_rate)
    noise = 0.3 * voices(1, 3 * sample_rate, 1, seed=3)
    values = [
        float(metric(target + gain * noise, target, sample_rate))
        for gain in (0, 0.1, 1)
    ]
    assert values[0] > values[1] > values[2]
    if name == "stoi":
        assert values[0] == pytest.approx(1.0, abs=1e-4)
    silent = metric(target, torch.zeros_like(target), sample_rate)
    assert silent.isnan().all()


def test_perceptual_metrics_refuse_or_leave_out_what_they_cannot_rate():
    for library in ("torchmetrics", "pesq", "pystoi"):
        pytest.importorskip(library)
    with pytest.raises(InputError, match="44100"):
        metrics.pesq(voices(), voices(), sample_rate=44100)
    short = voices(1, 400, 1)
    assert metrics.stoi(short, short, sample_rate=8000).isnan().all()
    assert metrics.pesq(short, short, sample_rate=8000).isnan().all()


@pytest.mark.parametrize("sample_rate", [8000, 16000])
def test_pesq_of_an_estimate_that_is_no_speech(sample_rate):
    for library in ("torchmetrics", "pesq"):
        pytest.importorskip(library)
    target = speech_like(num_frames=sample_rate, num_sources=3)
    estimate = target.clone()
    estimate[..., 0] = 0
    estimate[0, 5, 1] = math.nan
    estimate[..., 2] *= 1e-12  # PESQ has a level of its own
    values = metrics.pesq(estimate, target, sample_rate)[0]
    assert values[0] == metrics.WORST_PESQ
    assert values[1].isnan()
    assert values[2] > 4.5


def test_pesq_rates_long_signals_in_pieces():
    # In one go the library writes behind its arrays: it has room for 50
    # bursts of speech.
    for library in ("torchmetrics", "pesq"):
        pytest.importorskip(library)
    burst = torch.cat([speech_like(4800), torch.zeros(1, 3200, 1)], dim=1)
    target = burst.repeat(1, 90, 1)  # 90 s at 8 kHz
    estimate = target + 0.03 * voices(*target.shape, seed=3)
    value = metrics.pesq(estimate, target, sample_rate=8000)
    pieces = [
        metrics.pesq(estimate[:, part], target[:, part], sample_rate=8000)
        for part in (slice(240000), slice(240000, 480000), slice(480000, None))
    ]
    assert float(value) == pytest.approx(
        float(torch.cat(pieces).mean()),
        abs=1e-6,  # float32
    )
    pause = torch.zeros(1, 240000, 1)  # a piece without speech
    shorter = metrics.pesq(
        torch.cat([estimate[:, :240000], pause], dim=1),
        torch.cat([target[:, :240000], pause], dim=1),
        sample_rate=8000,
    )
    assert torch.equal(shorter, pieces[0])
