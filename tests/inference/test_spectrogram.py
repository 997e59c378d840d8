"""The figure: levels of known signals, and a picture that can be read."""

import builtins

import matplotlib.image
import pytest
import torch

from s4m_sb.errors import InputError
from s4m_sb.inference.spectrogram import plot_separation, spectrogram_db


def sine(frequency_hz, duration_s=1.0, sample_rate=8000, amplitude=1.0):
    time = torch.arange(round(duration_s * sample_rate)) / sample_rate
    return amplitude * torch.sin(2 * torch.pi * frequency_hz * time)


@pytest.mark.parametrize("sample_rate", [8000, 16000, 44100])
@pytest.mark.parametrize("amplitude", [1.0, 0.01])
def test_a_sine_has_its_frequency_and_level(sample_rate, amplitude):
    signal = sine(1000, 1.0, sample_rate, amplitude)
    level = spectrogram_db(signal, sample_rate)
    num_bins, num_frames = level.shape
    middle = level[:, num_frames // 2]
    bin_hz = sample_rate / 2 / (num_bins - 1)
    assert int(middle.argmax()) * bin_hz == pytest.approx(1000, abs=bin_hz)
    expected_db = 20 * torch.log10(torch.tensor(amplitude))
    # between two bins a Hann window loses up to 1.4 dB
    assert float(middle.max()) == pytest.approx(float(expected_db), abs=1.5)


def test_long_signals_have_no_more_frames_than_a_picture_shows():
    level = spectrogram_db(torch.zeros(8000 * 600), 8000)
    assert level.shape[1] <= 2001
    assert (level == -200).all()


@pytest.mark.parametrize("num_voices", [1, 2, 3])
def test_the_picture_has_a_panel_for_each_signal(tmp_path, num_voices):
    voices = torch.stack(
        [sine(500.0 * (i + 1)) for i in range(num_voices)], dim=1
    )
    path = tmp_path / "deep" / "voices.png"
    plot_separation(path, voices.sum(1), voices, 8000, title="voices")
    picture = matplotlib.image.imread(path)
    height, width, _ = picture.shape
    assert width == 9 * 150
    assert height == pytest.approx((0.8 + 1.9 * (1 + num_voices)) * 150, abs=1)
    assert [p.name for p in path.parent.iterdir()] == ["voices.png"]


def dark_part(path):
    picture = matplotlib.image.imread(path)[..., :3]
    return (picture.sum(-1) < 0.1).mean()


def test_silence_is_dark_and_short_signals_are_drawn(tmp_path):
    path = tmp_path / "silence.png"
    plot_separation(path, torch.zeros(8000), torch.zeros(8000, 2), 8000)
    assert dark_part(path) > 0.5
    plot_separation(path, torch.ones(1), torch.ones(1, 2), 8000)
    assert matplotlib.image.imread(path).std() > 0


def test_all_panels_have_one_scale(tmp_path):
    loud, faint = sine(1000), sine(3000, amplitude=1e-4)
    path = tmp_path / "scale.png"
    plot_separation(path, loud, torch.stack([loud, faint], 1), 8000)
    with_faint = dark_part(path)
    plot_separation(path, loud, torch.stack([loud, 0 * faint], 1), 8000)
    # 80 dB below the loudest lies outside of the range of 70 dB
    assert with_faint == pytest.approx(dark_part(path), abs=1e-3)


def test_without_matplotlib_the_extra_is_named(tmp_path, monkeypatch):
    real_import = builtins.__import__

    def without_matplotlib(name, *args, **kwargs):
        if name.split(".")[0] == "matplotlib":
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_matplotlib)
    with pytest.raises(InputError, match=r"pip install s4m_sb\[demo\]"):
        plot_separation(tmp_path / "a.png", sine(1), sine(1)[:, None], 8000)
