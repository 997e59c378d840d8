"""What the demo page does with one recording, without the page.

Above this file: `page.py`. Below it: `inference/file_separator.py`, the way
in which `s4m separate` does it too.
"""

import os
import tempfile
from pathlib import Path

import torch

from s4m_sb.audio.files import audio_info, write_audio
from s4m_sb.audio.stream import stream_audio
from s4m_sb.errors import InputError
from s4m_sb.inference.file_separator import FileSeparator, Outcome
from s4m_sb.inference.interface import S4MSeparation
from s4m_sb.inference.pieces import Pieces
from s4m_sb.inference.recordings import Recording

PICTURE_WIDTH = 6.0  # inches; readable on a telephone too


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
    pieces: Pieces,
    max_seconds: float,
) -> tuple[Path, Outcome]:
    """Separates a recording and draws the picture of it.

    Arguments
    ---------
    path : str or os.PathLike
        The recording: any sample rate and number of channels.
    model : S4MSeparation
        The model.
    folder : str or os.PathLike
        Gets a new folder with the results.
    pieces : Pieces
        How to cut recordings that are longer than one of them.
    max_seconds : float
        The longest recording that is taken.

    Returns
    -------
    Path
        The mixture, as a WAV file at the model's sample rate.
    Outcome
        Its voices and its picture.

    Raises
    ------
    InputError
        If the recording is not audio, empty, silent, too long, or holds NaN
        or infinite samples. The message begins with ``path``.
    """
    check_length(path, max_seconds)
    sample_rate = model.hparams.sample_rate
    signal = torch.cat(
        list(stream_audio(path, sample_rate, partial=True))
    )  # [T]
    if (signal == signal[0]).all():
        raise InputError(f"{path}: is silent; there are no voices in it")
    place = Path(tempfile.mkdtemp(dir=folder)) / Path(path).stem
    mixture = place.with_name(f"{place.name}_mix.wav")
    write_audio(mixture, signal, sample_rate)
    separator = FileSeparator(
        model,
        pieces=pieces,
        whole_s=pieces.chunk_s,
        picture_width=PICTURE_WIDTH,
        progress=True,
    )
    (outcome,) = separator.separate([Recording(Path(path), place)])
    if outcome.error:
        raise InputError(outcome.error)
    return mixture, outcome


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.3g} s"
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes} min" + f" {seconds} s" * (seconds > 0)
