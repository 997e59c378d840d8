"""Reading and writing audio files: mono float32 tensors, clear errors.

Everything that touches an audio file in this package goes through here.
Files are read by libsndfile (WAV, FLAC, Ogg, MP3, ...).
"""

import contextlib
import io
import os
import shlex
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import soundfile
import torch

from s4m_sb.audio.resampling import check_rate, resample, resampling_ratio
from s4m_sb.errors import InputError
from s4m_sb.system.files import replacing


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


CANCELLED = 1e-6  # of the energy of channels; rounding to 16 bits leaves less
OGG_PAGE_S = 4  # longer than any encoder's page
UNKNOWN = 2**63 - 1  # what libsndfile says of a length that nobody knows
BLOCK_FRAMES = 2**17
HAS_STDERR = _is_open(2)  # else an audio file may get its number
CHATTER = threading.RLock()  # held by who has turned standard error away
# Of formats that libsndfile does not read.
FOR_FFMPEG = (".m4a", ".mp4", ".aac", ".wma", ".webm", ".mkv", ".mov", ".amr")


@dataclass(frozen=True)
class AudioInfo:
    """What the header of an audio file says."""

    num_frames: int
    sample_rate: int
    num_channels: int
    format: str  # as libsndfile calls it: WAV, MP3, ...

    def num_frames_at(self, sample_rate: int) -> int:
        """Counts the samples that the file has when it is resampled.

        Arguments
        ---------
        sample_rate : int
            In Hz.

        Returns
        -------
        int
            Samples of one channel.

        Example
        -------
        >>> AudioInfo(1001, 16000, 1, "WAV").num_frames_at(8000)
        501
        """
        old, new = resampling_ratio(self.sample_rate, sample_rate)
        return -(-self.num_frames * new // old)


class SoundFile(soundfile.SoundFile):
    """An audio file, open for reading.

    Encoders that write into a pipe, such as ``flac``, cannot go back to the
    header to say how long the file became. libsndfile loses its way in such
    a file when it seeks, so that it is read from its beginning, block by
    block.

    Arguments
    ---------
    path : str or os.PathLike
        The file.

    Raises
    ------
    soundfile.LibsndfileError
        If it is no audio.
    InputError
        If it says a sample rate that no sound has.

    Example
    -------
    >>> path = getfixture("tmp_path") / "tone.flac"
    >>> soundfile.write(path, np.zeros(300), 8000)
    >>> with SoundFile(path) as file:
    ...     [len(samples) for samples in file.by_blocks(128)]
    [128, 128, 44]
    """

    def __init__(self, path: str | os.PathLike):
        # As bytes where names may hold some that are no text.
        windows = os.name == "nt"
        with open(path, "rb") as file:
            head = file.read(2)
        self._is_mpeg = head == b"ID" or head[:1] == b"\xff"
        with self._without_chatter():
            super().__init__(os.fspath(path) if windows else os.fsencode(path))
        try:
            check_rate(self.samplerate)
        except InputError as error:
            self.close()
            raise InputError(f"{path}: says {error}") from error

    def read(self, *arguments, **options) -> np.ndarray:
        """Reads samples, as in soundfile."""
        with self._without_chatter():
            return super().read(*arguments, **options)

    def seek(self, *arguments, **options) -> int:
        """Goes to a sample, as in soundfile."""
        with self._without_chatter():
            return super().seek(*arguments, **options)

    @contextlib.contextmanager
    def _without_chatter(self) -> Iterator[None]:
        """Keeps the decoder of MP3 from writing to standard error.

        It says there in several lines, whoever asked for quiet, what an
        exception tells in one.
        """
        if not (self._is_mpeg and HAS_STDERR):
            yield
            return
        with CHATTER:
            kept = os.dup(2)
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, 2)
            os.close(nothing)
            try:
                yield
            finally:
                os.dup2(kept, 2)
                os.close(kept)

    def seekable(self) -> bool:
        """Tells whether samples can be read from anywhere.

        Returns
        -------
        bool
            Only if the file says how many there are.
        """
        return super().seekable() and self.frames < UNKNOWN

    def by_blocks(
        self, num_frames: int = BLOCK_FRAMES, partial: bool = False
    ) -> Iterator[np.ndarray]:
        """Reads what is left.

        Arguments
        ---------
        num_frames : int
            Samples of a block, on each channel.
        partial : bool
            Read a FLAC file that was cut off as far as it goes, as libsndfile
            does with other formats.

        Yields
        ------
        np.ndarray
            ``[n, C]``, float32.

        Raises
        ------
        soundfile.LibsndfileError
            If the file is damaged.
        """
        while True:
            block = np.full((num_frames, self.channels), np.nan, np.float32)
            try:
                samples = self.read(out=block)
            except soundfile.LibsndfileError:
                # What was decoded stands there, before what was not touched.
                samples = block[~np.isnan(block[:, 0])]
                if not partial or self.format != "FLAC" or len(samples) == 0:
                    raise
                yield samples
                return
            if len(samples) == 0:
                return
            yield samples


def audio_info(path: str | os.PathLike, counted: bool = False) -> AudioInfo:
    """Reads the header of an audio file.

    Arguments
    ---------
    path : str or os.PathLike
        The file.
    counted : bool
        Decode the file, as far as it goes, to count its samples.

    Returns
    -------
    AudioInfo
        Samples a channel, sample rate in Hz, channels, format. The header
        of an MP3 or FLAC file that was cut off promises more samples than it
        has. Where a header does not say how many there are, as in a FLAC file
        that came through a pipe, they are counted.

    Raises
    ------
    InputError
        If the file is missing, forbidden, empty or not audio.
    """
    _check_file(path)
    try:
        with SoundFile(path) as file:
            num_frames = file.frames
            if counted or not file.seekable():
                num_frames = sum(map(len, file.by_blocks(partial=True)))
            return AudioInfo(
                num_frames, file.samplerate, file.channels, file.format
            )
    except soundfile.LibsndfileError as error:
        raise InputError(_not_audio(path, error)) from error


def read_audio(
    path: str | os.PathLike,
    sample_rate: int | None = None,
    start: int = 0,
    num_frames: int = -1,
    partial: bool = False,
) -> tuple[torch.Tensor, int]:
    """Reads a file, or a window of it, as one channel.

    Several channels are averaged. Integer formats are scaled to -1..1.

    Arguments
    ---------
    path : str or os.PathLike
        The file.
    sample_rate : int, optional
        Resample to this rate in Hz; by default the file's own is kept.
    start : int
        First sample to read, counted at the file's own rate.
    num_frames : int
        Samples to read, at the file's own rate; -1 reads to the end. Only
        this window is read from disk.
    partial : bool
        Read a FLAC file that was cut off as far as it goes, too; see
        `whole.py`.

    Returns
    -------
    torch.Tensor
        Samples, ``[T]``, float32.
    int
        Their sample rate in Hz.

    Raises
    ------
    InputError
        If the file is missing, empty, not audio, has no samples in the
        window, holds NaN or infinite samples, or its channels cancel one
        another.
    """
    _check_file(path)
    try:
        with SoundFile(path) as file:
            file_rate = file.samplerate
            samples = _read_window(file, start, num_frames, partial)
    except soundfile.LibsndfileError as error:
        raise InputError(_not_audio(path, error)) from error
    if len(samples) == 0:
        where = f" to read from {start} on" if start else ""
        raise InputError(f"{path}: has no samples{where}")
    channels = Channels(path)
    signal = channels.average(samples)
    channels.check()
    if sample_rate is not None and sample_rate != file_rate:
        signal = resample(signal, file_rate, sample_rate)
        file_rate = sample_rate
    return signal, file_rate


class Channels:
    """The channels of a file, which become one, block by block.

    Arguments
    ---------
    path : str or os.PathLike
        The file, for messages.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = path
        self._averaged = self._separate = 0.0  # energies

    def average(self, samples: np.ndarray) -> torch.Tensor:
        """Averages them.

        Arguments
        ---------
        samples : np.ndarray
            ``[n, C]``.

        Returns
        -------
        torch.Tensor
            ``[n]``.

        Raises
        ------
        InputError
            If it holds NaN or infinite samples.
        """
        signal = torch.from_numpy(samples).mean(dim=1)
        if not signal.isfinite().all():
            raise InputError(f"{self.path}: holds NaN or infinite samples")
        if samples.shape[1] > 1:
            self._averaged += float(signal.double().square().sum())
            each = np.square(samples, dtype=np.float64)
            self._separate += float(each.mean(axis=1).sum())
        return signal

    def check(self) -> None:
        """Tells whether anything is left of what they hold.

        Raises
        ------
        InputError
            If they cancel one another, as when one of two is upside down.
        """
        if self._averaged < CANCELLED * self._separate:
            raise InputError(
                f"{self.path}: its channels cancel one another when they are "
                "averaged (one is upside down?); give one of them, as made by "
                "sox IN OUT remix 1"
            )


def write_audio(
    path: str | os.PathLike, signal: torch.Tensor, sample_rate: int
) -> None:
    """Writes a 32-bit float WAV file, whole or not at all.

    The bytes depend on the signal and the rate alone.

    Arguments
    ---------
    path : str or os.PathLike
        The file to write.
    signal : torch.Tensor
        Samples, ``[T]``.
    sample_rate : int
        In Hz.

    Raises
    ------
    OSError
        If it cannot be written, as on a full disk.
    InputError
        If no sound has such a sample rate.
    """
    check_rate(sample_rate)
    file = io.BytesIO()
    soundfile.write(
        file,
        signal.detach().cpu().to(torch.float32).numpy(),
        sample_rate,
        subtype="FLOAT",
        format="WAV",
    )
    _clear_peak_time(file.getbuffer())
    # Not by libsndfile, which does not tell of a full disk what it is.
    with replacing(path) as temporary:
        temporary.write_bytes(file.getbuffer())


def _read_window(
    file: SoundFile, start: int, num_frames: int, partial: bool
) -> np.ndarray:
    """The samples from one on, ``[T, C]``."""
    if not file.seekable() or (partial and file.format == "FLAC"):
        nothing = np.empty((0, file.channels), np.float32)
        blocks = file.by_blocks(partial=partial)
        samples = np.concatenate([nothing, *blocks])[start:]
        return samples if num_frames < 0 else samples[:num_frames]
    start = min(start, file.frames)
    # A seek into the last page of an Ogg file lands about a hundred samples
    # off (libsndfile 1.2), so the end is read from before that page.
    seek = start
    if file.format == "OGG":
        last_page = file.frames - OGG_PAGE_S * file.samplerate
        seek = max(0, min(start, last_page))
    file.seek(seek)
    skipped = start - seek
    if num_frames >= 0:
        num_frames += skipped
    samples = file.read(num_frames, dtype="float32", always_2d=True)
    return samples[skipped:]


def _clear_peak_time(wav: memoryview) -> None:
    # libsndfile notes the time of writing in the PEAK chunk of a float WAV
    # file: id, size, version, time, peaks.
    chunk = bytes(wav[:128]).find(b"PEAK")
    if chunk >= 0:
        wav[chunk + 12 : chunk + 16] = bytes(4)


def _check_file(path: str | os.PathLike) -> None:
    if not os.path.exists(path):
        raise InputError(f"{path}: no such file")
    if os.path.isdir(path):
        raise InputError(f"{path}: is a folder, not an audio file")
    if not os.path.isfile(path):
        raise InputError(
            f"{path}: is a pipe or a device, not a file; send it to stdin: "
            "... | s4m separate -"
        )
    if not os.access(path, os.R_OK):
        raise InputError(f"{path}: permission denied")
    if os.path.getsize(path) == 0:
        raise InputError(f"{path}: is empty")


def _not_audio(
    path: str | os.PathLike, error: soundfile.LibsndfileError
) -> str:
    reason = error.error_string.strip().rstrip(".").lower()
    if "file does not exist" in reason:  # but it was there a moment ago
        reason = "damaged"
    advice = "give a WAV, FLAC, Ogg or MP3 file"
    if os.fspath(path).lower().endswith(FOR_FFMPEG):
        name = shlex.quote(os.fspath(path))
        advice += f", or: ffmpeg -i {name} -f wav - | s4m separate -"
    return f"{path}: cannot be read as audio ({reason}); {advice}"
