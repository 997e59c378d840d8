"""Voices into files as they come, one level for each voice."""

import contextlib
import functools
import os
from collections.abc import Iterable, Sequence

import torch

from s4m_sb.atomic import replacing
from s4m_sb.audio_stream import WavWriter
from s4m_sb.levels import RunningLevel


def write_voices(
    blocks: Iterable[tuple[torch.Tensor, torch.Tensor]],
    outputs: Sequence[str | os.PathLike],
    sample_rate: int,
    normalize: str,
) -> None:
    """Writes voices that come in blocks, in memory for one block.

    They are written as they come, and brought to their level on disk when
    it is known. The files appear when all of them are whole, or not at all.

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
        If a file cannot be written, as on a full disk.

    Example
    -------
    >>> from s4m_sb.audio import read_audio
    >>> folder = getfixture("tmp_path")
    >>> voices = torch.tensor([[0.5, 0.1], [-0.2, 0.2]])
    >>> blocks = zip(voices.sum(1).split(1), voices.split(1))
    >>> outputs = [folder / "s1.wav", folder / "s2.wav"]
    >>> write_voices(blocks, outputs, 8000, "peak")
    >>> read_audio(outputs[1])[0]
    tensor([0.5000, 1.0000])
    """
    level = RunningLevel(len(outputs))
    with contextlib.ExitStack() as names, contextlib.ExitStack() as files:
        # The files close, whole, before the first of them gets its name.
        writers = [
            files.enter_context(
                WavWriter(names.enter_context(replacing(output)), sample_rate)
            )
            for output in outputs
        ]
        for mixture, voices in blocks:
            level.add(voices, mixture)
            for writer, voice in zip(writers, voices.unbind(1), strict=True):
                writer.write(voice)
        divisors = level.divisors(normalize).tolist()
        for writer, divisor in zip(writers, divisors, strict=True):
            if divisor != 1:
                writer.change(functools.partial(_divide, divisor=divisor))


def _divide(samples: torch.Tensor, divisor: float) -> torch.Tensor:
    return samples / divisor
