"""What the demo page does with one recording, without the page.

Above this file: `page.py`. Below it: `inference/interface.py`,
the only way to separate.
"""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

from s4m_sb.audio.files import audio_info, write_audio
from s4m_sb.audio.stream import stream_audio
from s4m_sb.errors import InputError
from s4m_sb.inference.interface import S4MSeparation
from s4m_sb.inference.levels import SILENT_PEAK, normalize_voices
from s4m_sb.inference.spectrogram import plot_separation

PICTURE_WIDTH = 6.0  # inches; readable on a telephone too


@dataclass(frozen=True)
class Separated:
    """The files that the page shows, and how long they play."""

    mixture: Path
    voices: tuple[Path, ...]
    picture: Path
    duration_s: float


def check_length(path: str | os.PathLike, max_seconds: float) -> None:
    """Refuses a recording that is too long, by its header.

    Arguments
    ---------
    path : str or os.PathLike
        The recording.
    max_seconds : float
        The longest that is taken.

    Raises
    ------
    InputError
        If it is longer, empty or not audio.

    Example
    -------
    >>> path = getfixture("tmp_path") / "long.wav"
    >>> write_audio(path, torch.zeros(16000), 8000)
    >>> check_length(path, max_seconds=2)
    """
    info = audio_info(path)
    seconds = info.num_frames / info.sample_rate
    if seconds > max_seconds:
        raise InputError(
            f"{path}: lasts {_duration(seconds)}; this page takes recordings "
            f"of up to {_duration(max_seconds)}"
        )


def separate_recording(
    path: str | os.PathLike,
    model: S4MSeparation,
    folder: str | os.PathLike,
    chunk_s: float,
    overlap_s: float,
    max_seconds: float,
) -> Separated:
    """Separates a recording and draws the picture of it.

    Arguments
    ---------
    path : str or os.PathLike
        The recording: any sample rate and number of channels.
    model : S4MSeparation
        The model.
    folder : str or os.PathLike
        Gets a new folder with the results.
    chunk_s : float
        Longer recordings are separated in pieces of so many seconds.
    overlap_s : float
        Seconds that consecutive pieces share.
    max_seconds : float
        The longest recording that is taken.

    Returns
    -------
    Separated
        WAV files at the model's sample rate, and a PNG file.

    Raises
    ------
    InputError
        If the recording is not audio, empty, silent, too long, or holds NaN
        or infinite samples, or the pieces cannot overlap so. The message
        begins with ``path`` if it is the recording's fault.
    """
    check_length(path, max_seconds)
    sample_rate = model.hparams.sample_rate
    mixture = torch.cat(list(stream_audio(path, sample_rate)))  # [T]
    if mixture.abs().max() < SILENT_PEAK:
        raise InputError(f"{path}: is silent; there are no voices in it")
    voices = model.separate_file(
        path, chunk_s=chunk_s, overlap_s=overlap_s, progress=True
    ).cpu()  # [1, T, S]
    place = Path(tempfile.mkdtemp(dir=folder))
    stem = Path(path).stem
    results = Separated(
        mixture=place / f"{stem}_mix.wav",
        voices=tuple(
            place / f"{stem}_s{i + 1}.wav" for i in range(voices.shape[2])
        ),
        picture=place / f"{stem}.png",
        duration_s=len(mixture) / sample_rate,
    )
    write_audio(results.mixture, mixture, sample_rate)
    for output, voice in zip(results.voices, voices[0].unbind(1), strict=True):
        write_audio(output, voice, sample_rate)
    plot_separation(
        results.picture,
        mixture,
        normalize_voices(voices, mixture[None], "mixture")[0],
        sample_rate,
        width=PICTURE_WIDTH,
    )
    return results


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.3g} s"
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes} min" + f" {seconds} s" * (seconds > 0)
