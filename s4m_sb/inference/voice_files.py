"""Voices into files as they come, one level for each voice."""

import contextlib
import errno
import functools
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch

from s4m_sb.audio.stream import WavWriter
from s4m_sb.inference.levels import Level
from s4m_sb.system.files import replacing


def write_voices(
    blocks: Iterable[tuple[torch.Tensor, torch.Tensor]],
    outputs: Sequence[str | os.PathLike],
    sample_rate: int,
    normalize: str,
) -> None:
    """Writes voices that come in blocks, in memory for one block.

    They are written as they come, and brought to their level on disk when
    it is known. The files appear when all of them are whole, or not at all,
    and old ones go just before: a process that is killed at that moment
    leaves fewer voices, never new ones beside old ones.

    Arguments
    ---------
    blocks : Iterable
        Mixture ``[n]`` and voices ``[n, S]`` of consecutive blocks.
    outputs : sequence of str or os.PathLike
        The 32-bit float WAV files to write, one a voice.
    sample_rate : int
        In Hz.
    normalize : str
        The level of the voices; see `levels.normalize_voices`.

    Raises
    ------
    InputError
        If ``normalize`` is unknown.
    OSError
        If a file cannot be written, as on a full disk, or is a folder.

    Example
    -------
    >>> from s4m_sb.audio.files import read_audio
    >>> folder = getfixture("tmp_path")
    >>> voices = torch.tensor([[0.5, 0.1], [-0.2, 0.2]])
    >>> blocks = zip(voices.sum(1).split(1), voices.split(1))
    >>> outputs = [folder / "s1.wav", folder / "s2.wav"]
    >>> write_voices(blocks, outputs, 8000, "peak")
    >>> read_audio(outputs[1])[0]
    tensor([0.5000, 1.0000])
    """
    for output in outputs:
        if os.path.isdir(output):
            raise IsADirectoryError(
                errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(output)
            )
    level = Level(len(outputs), normalize)
    with contextlib.ExitStack() as names:
        temporaries = [names.enter_context(replacing(o)) for o in outputs]
        with contextlib.ExitStack() as files:
            writers = [
                files.enter_context(WavWriter(temporary, sample_rate))
                for temporary in temporaries
            ]
            for mixture, voices in blocks:
                level.add(voices, mixture)
                for writer, voice in zip(
                    writers, voices.unbind(1), strict=True
                ):
                    writer.write(voice)
            divisors = level.divisors().tolist()
            for writer, divisor in zip(writers, divisors, strict=True):
                if divisor != 1:
                    writer.change(functools.partial(_divide, divisor=divisor))
        # All are whole; now they get their names, one after another.
        for output in outputs:
            Path(output).unlink(missing_ok=True)


def _divide(samples: torch.Tensor, divisor: float) -> torch.Tensor:
    return samples / divisor
