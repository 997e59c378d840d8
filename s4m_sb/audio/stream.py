"""Audio files block by block, for recordings larger than memory.

What `files.py` does for whole files.
"""

import os
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO

import numpy as np
import soundfile
import torch

from s4m_sb.audio.files import BLOCK_FRAMES, Channels, SoundFile, audio_info
from s4m_sb.audio.resampling import check_rate, resample_blocks
from s4m_sb.errors import InputError

SAMPLE_BYTES = 4  # of float32
LARGEST_RIFF = 2**32 - 1


def stream_audio(
    path: str | os.PathLike,
    sample_rate: int | None = None,
    partial: bool = False,
) -> Iterator[torch.Tensor]:
    """Reads a file as one channel, a block at a time.

    Together the blocks are what `files.read_audio` gives: bit for bit at the
    file's own rate, to float32 rounding at another one and for MP3.

    Arguments
    ---------
    path : str or os.PathLike
        The file.
    sample_rate : int, optional
        Resample to this rate in Hz; by default the file's own is kept.
    partial : bool
        Read a FLAC file that was cut off as far as it goes, too.

    Yields
    ------
    torch.Tensor
        Samples, ``[n]``, float32.

    Raises
    ------
    InputError
        If the file is missing, empty, not audio, has no samples, holds NaN
        or infinite samples, or, at its end, if its channels cancel one
        another.

    Example
    -------
    >>> from s4m_sb.audio.files import write_audio
    >>> path = getfixture("tmp_path") / "long.wav"
    >>> write_audio(path, torch.zeros(300000), 16000)
    >>> sum(len(block) for block in stream_audio(path, 8000))
    150000
    """
    file_rate = audio_info(path).sample_rate
    blocks = _read_blocks(path, partial)
    if sample_rate is None or sample_rate == file_rate:
        return blocks
    return resample_blocks(blocks, file_rate, sample_rate)


def _read_blocks(
    path: str | os.PathLike, partial: bool
) -> Iterator[torch.Tensor]:
    num_read = 0
    channels = Channels(path)
    try:
        with SoundFile(path) as file:
            for samples in file.by_blocks(BLOCK_FRAMES, partial):  # [n, C]
                block = channels.average(samples)
                num_read += len(block)
                yield block
    except soundfile.LibsndfileError as error:
        raise InputError(
            f"{path}: cannot be read as audio from sample {num_read} on "
            f"({error.error_string.strip()})"
        ) from error
    if num_read == 0:
        raise InputError(f"{path}: has no samples")
    channels.check()


class WavWriter:
    """Writes a 32-bit float WAV file of one channel, a block at a time.

    Beyond 4 GiB it becomes an RF64 file, which libsndfile reads like any
    other. To have it whole or not at all, write to what `replacing`
    gives.

    Arguments
    ---------
    path : str or os.PathLike
        The file to write.
    sample_rate : int
        In Hz.

    Raises
    ------
    OSError
        If it cannot be written, as on a full disk.
    InputError
        If no sound has such a sample rate.

    Example
    -------
    >>> from s4m_sb.audio.files import read_audio
    >>> path = getfixture("tmp_path") / "voice.wav"
    >>> with WavWriter(path, 8000) as writer:
    ...     writer.write(torch.tensor([0.1, 0.2]))
    ...     writer.write(torch.tensor([0.3]))
    ...     writer.change(lambda samples: 10 * samples)
    >>> read_audio(path)
    (tensor([1., 2., 3.]), 8000)
    """

    def __init__(self, path: str | os.PathLike, sample_rate: int):
        check_rate(sample_rate)
        self.sample_rate = sample_rate
        self.num_frames = 0
        self._file = open(path, "w+b")
        self._header_bytes = self._file.write(self._header())

    def __enter__(self) -> "WavWriter":
        return self

    def __exit__(self, error_type, error, traceback) -> None:
        try:
            if error_type is None:
                self._file.seek(0)
                self._file.write(self._header())
        finally:
            self._file.close()

    def write(self, samples: torch.Tensor) -> None:
        """Appends samples.

        Arguments
        ---------
        samples : torch.Tensor
            ``[n]``.
        """
        self._file.write(_to_bytes(samples))
        self.num_frames += len(samples)

    def change(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        """Replaces all samples written so far.

        Arguments
        ---------
        function : Callable
            Gives the new samples, ``[n]``, for old ones, ``[n]``.
        """
        for start in range(0, self.num_frames, BLOCK_FRAMES):
            place = self._header_bytes + SAMPLE_BYTES * start
            self._file.seek(place)
            count = min(BLOCK_FRAMES, self.num_frames - start)
            data = bytearray(self._file.read(SAMPLE_BYTES * count))
            samples = torch.from_numpy(np.frombuffer(data, "<f4"))
            self._file.seek(place)
            self._file.write(_to_bytes(function(samples)))

    def _header(self) -> bytes:
        return wav_header(self.num_frames, self.sample_rate)


def write_channels(
    stream: BinaryIO, paths: Sequence[str | os.PathLike]
) -> None:
    """Writes files as the channels of one 32-bit float WAV file.

    The stream need not be seekable: it may be a pipe.

    Arguments
    ---------
    stream : BinaryIO
        Where to write.
    paths : sequence of str or os.PathLike
        Files of one channel, of equal length and sample rate.

    Raises
    ------
    OSError
        If the stream cannot be written, as when its reader has gone.

    Example
    -------
    >>> import io
    >>> path = getfixture("tmp_path") / "voice.wav"
    >>> with WavWriter(path, 8000) as writer:
    ...     writer.write(torch.tensor([0.25, 0.5]))
    >>> stream = io.BytesIO()
    >>> write_channels(stream, [path, path])
    >>> soundfile.read(io.BytesIO(stream.getvalue()))[0].tolist()
    [[0.25, 0.25], [0.5, 0.5]]
    """
    info = audio_info(paths[0])
    stream.write(wav_header(info.num_frames, info.sample_rate, len(paths)))
    for blocks in zip(*map(stream_audio, paths), strict=True):
        stream.write(_to_bytes(torch.stack(blocks, dim=1)))  # [n, C]
    stream.flush()


def _to_bytes(samples: torch.Tensor) -> bytes:
    return samples.detach().cpu().float().numpy().astype("<f4").tobytes()


def wav_header(
    num_frames: int, sample_rate: int, num_channels: int = 1
) -> bytes:
    """Writes the header; it is of the same length for any number of samples.

    Beyond 4 GiB it is that of an RF64 file, which libsndfile reads like any
    other.

    Arguments
    ---------
    num_frames : int
        Samples of each channel.
    sample_rate : int
        In Hz.
    num_channels : int
        Channels, whose samples alternate.

    Returns
    -------
    bytes
        What comes before the samples.

    Example
    -------
    >>> len(wav_header(0, 8000)) == len(wav_header(10**10, 8000, 2))
    True
    """
    frame_bytes = SAMPLE_BYTES * num_channels
    data_bytes = frame_bytes * num_frames
    chunks = [
        _chunk(b"JUNK", bytes(28)),  # room for the sizes of RF64
        # float samples
        _chunk(
            b"fmt ",
            struct.pack(
                "<HHIIHHH",
                3,
                num_channels,
                sample_rate,
                frame_bytes * sample_rate,
                frame_bytes,
                8 * SAMPLE_BYTES,
                0,  # bytes that follow
            ),
        ),
        _chunk(b"fact", struct.pack("<I", num_frames & LARGEST_RIFF)),
    ]
    num_bytes = sum(map(len, chunks)) + 12 + data_bytes
    form, data_size = b"RIFF", data_bytes
    if num_bytes > LARGEST_RIFF:
        sizes = struct.pack("<QQQI", num_bytes, data_bytes, num_frames, 0)
        chunks[0] = _chunk(b"ds64", sizes)
        form, data_size, num_bytes = b"RF64", LARGEST_RIFF, LARGEST_RIFF
    return b"".join(
        [
            form,
            struct.pack("<I", num_bytes),
            b"WAVE",
            *chunks,
            b"data",
            struct.pack("<I", data_size),
        ]
    )


def _chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content
