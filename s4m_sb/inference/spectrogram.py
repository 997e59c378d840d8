"""The picture of a separation: spectrograms of the mixture and its voices."""

import os

import torch

from s4m_sb.errors import InputError
from s4m_sb.system.files import replacing

WINDOW_S = 0.032
HOP_S = 0.008
MAX_FRAMES = 2000  # more than a picture has columns
RANGE_DB = 70
SILENCE_DB = -100  # silence stays dark


def check_matplotlib() -> None:
    """Refuses to plot without matplotlib, before any work is done.

    Raises
    ------
    InputError
        If matplotlib is not installed.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise InputError(
            "a figure needs matplotlib, which is not installed: "
            "pip install s4m_sb[demo]"
        ) from error


def spectrogram_db(signal: torch.Tensor, sample_rate: int) -> torch.Tensor:
    """Level over time and frequency.

    Windows of 32 ms every 8 ms, further apart where that would be more than
    2000 frames.

    Arguments
    ---------
    signal : torch.Tensor
        Samples, ``[T]``.
    sample_rate : int
        In Hz.

    Returns
    -------
    torch.Tensor
        ``[num_frequencies, num_frames]`` in dB, from 0 Hz to half the sample
        rate; a sine of amplitude 1 reaches 0 dB.

    Example
    -------
    >>> time = torch.arange(8000) / 8000
    >>> level = spectrogram_db(torch.sin(6.2832 * 1000 * time), 8000)
    >>> level.shape, int(level[:, 50].argmax()), round(float(level.max()))
    (torch.Size([129, 126]), 32, 0)
    """
    window_length = round(WINDOW_S * sample_rate)
    hop = max(round(HOP_S * sample_rate), -(-len(signal) // MAX_FRAMES))
    window = torch.hann_window(window_length)
    spectrum = torch.stft(
        signal.detach().cpu().float(),
        n_fft=window_length,
        hop_length=hop,
        window=window,
        pad_mode="constant",
        return_complex=True,
    )
    amplitude = 2 * spectrum.abs() / window.sum()
    return 20 * torch.log10(amplitude.clamp(min=1e-10))


def plot_separation(
    path: str | os.PathLike,
    mixture: torch.Tensor,
    voices: torch.Tensor,
    sample_rate: int,
    title: str = "",
    width: float = 9.0,
) -> None:
    """Draws the mixture above its voices, with one scale for all.

    Arguments
    ---------
    path : str or os.PathLike
        The picture to write, whole or not at all.
    mixture : torch.Tensor
        Samples, ``[T]``.
    voices : torch.Tensor
        Samples, ``[T, S]``, best at the level they have in the mixture.
    sample_rate : int
        In Hz.
    title : str
        Stands above the picture.
    width : float
        Of the picture, in inches of 150 pixels.

    Raises
    ------
    InputError
        If matplotlib is not installed.
    """
    check_matplotlib()
    from matplotlib.figure import Figure

    signals = [mixture, *voices.unbind(1)]
    names = ["mixture", *(f"voice {i + 1}" for i in range(voices.shape[1]))]
    levels = [spectrogram_db(signal, sample_rate) for signal in signals]
    top = max(SILENCE_DB, *(float(level.max()) for level in levels))
    extent = (0, len(mixture) / sample_rate, 0, sample_rate / 2000)

    figure = Figure(
        figsize=(width, 0.8 + 1.9 * len(levels)), layout="constrained"
    )
    panels = figure.subplots(len(levels), 1, sharex=True, squeeze=False)[:, 0]
    for panel, name, level in zip(panels, names, levels, strict=True):
        image = panel.imshow(
            (level - top).numpy(),
            origin="lower",
            aspect="auto",
            extent=extent,
            cmap="magma",
            vmin=-RANGE_DB,
            vmax=0,
            interpolation="nearest",
        )
        panel.set_title(name, loc="left", fontsize=10)
        panel.set_ylabel("frequency (kHz)")
    panels[-1].set_xlabel("time (s)")
    if title:
        figure.suptitle(title)
    figure.colorbar(
        image, ax=list(panels), label="level (dB, loudest = 0)", aspect=40
    )
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=150)
