"""The voices of many recordings: short ones together, long ones in pieces."""

import errno
import re
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn.utils.rnn import pad_sequence

from s4m_sb.audio.files import audio_info, read_audio
from s4m_sb.errors import InputError, one_line
from s4m_sb.inference.batching import batches_by_length
from s4m_sb.inference.chunking import CHUNK_S, piece_sizes
from s4m_sb.inference.interface import S4MSeparation
from s4m_sb.inference.levels import check_normalization, normalize_voices
from s4m_sb.inference.recordings import Recording, remove_leftovers
from s4m_sb.inference.spectrogram import plot_separation
from s4m_sb.inference.voice_files import write_voices

WHOLE_S = 60.0  # recordings that are longer are cut, if nothing else is said
# Seconds of audio at once. Memory grows with them: 60 s take about 2.1 GiB
# with S4M-tiny. Only an accelerator is faster with more of them.
AT_ONCE_S = 60.0
AT_ONCE_ON_CPU_S = CHUNK_S

# What PyTorch and its libraries say (oneDNN the last) when an allocation
# fails, but not when a kernel makes an illegal memory access.
NO_MEMORY = re.compile(
    "out of memory|(?:allocate|enough) memory|memory alloc|alloc_failed|"
    "could not create a primitive",
    re.IGNORECASE,
)
# What is wrong with one name, and not with the disk.
NAME_ERRORS = {errno.EISDIR, errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL}


@dataclass(frozen=True)
class Outcome:
    """What became of a recording.

    Arguments
    ---------
    recording : Recording
        What was to be separated.
    written : tuple of Path
        Its voices and, if it was drawn, its picture.
    error : str
        Why there are none.
    skipped : bool
        Whether they were there before.
    sample_rate : int, optional
        Of the voices, in Hz.
    duration_s : float, optional
        Length of the recording, if it could be read.
    elapsed_s : float, optional
        Time that it took; those separated together share theirs.
    """

    recording: Recording
    written: tuple[Path, ...] = ()
    error: str = ""
    skipped: bool = False
    sample_rate: int | None = None
    duration_s: float | None = None
    elapsed_s: float | None = None

    @property
    def status(self) -> str:
        """One of separated, skipped and failed."""
        if self.error:
            return "failed"
        return "skipped" if self.skipped else "separated"


class FileSeparator:
    """Separates recordings and writes their voices.

    Arguments
    ---------
    model : S4MSeparation
        The model.
    normalize : str
        The level of the voices; see `levels.normalize_voices`.
    chunk_s : float, optional
        Cut recordings that are longer into pieces of so many seconds; 0
        never does. By default those above 60 s are cut into pieces of 30 s.
    overlap_s : float, optional
        Seconds that consecutive pieces share; see `chunking.piece_sizes`.
    batch_size : int, optional
        Recordings of about the same length, or pieces of one, that are
        separated at once; by default as many as make 60 s, or 30 s on a CPU.
    plot : bool
        Also draw spectrograms.
    progress : bool
        Show a progress bar for each recording that is cut.

    Attributes
    ----------
    fault : Exception or None
        The first error of the program with one of the recordings; see
        `separate`.

    Raises
    ------
    InputError
        If an option makes no sense.

    Example
    -------
    >>> from s4m_sb.inference.recordings import find_recordings
    >>> output = getfixture("tmp_path")
    >>> recordings = find_recordings([Path("a.wav"), Path("b.wav")], output)
    >>> separator = FileSeparator(S4MSeparation.from_hparams())
    >>> for outcome in separator.separate(recordings):
    ...     print(outcome.error or outcome.written)
    a.wav: no such file
    b.wav: no such file
    """

    def __init__(
        self,
        model: S4MSeparation,
        normalize: str = "peak",
        chunk_s: float | None = None,
        overlap_s: float | None = None,
        batch_size: int | None = None,
        plot: bool = False,
        progress: bool = False,
    ):
        self.model = model
        self.sample_rate = model.hparams.sample_rate
        self.num_spks = model.hparams.num_spks
        self.normalize = normalize
        self.chunk_s = CHUNK_S if chunk_s is None else chunk_s
        self.overlap_s = overlap_s
        self.batch_size = batch_size
        self.plot = plot
        self.progress = progress
        self.fault: Exception | None = None
        check_normalization(normalize)
        batches_by_length([], batch_size)
        on_cpu = torch.device(model.device).type == "cpu"
        self.at_once_s = AT_ONCE_ON_CPU_S if on_cpu else AT_ONCE_S
        longest_s = WHOLE_S if chunk_s is None else chunk_s
        if chunk_s == 0:
            longest_s = float("inf")
        else:
            piece_sizes(self.chunk_s, overlap_s, self.sample_rate)
        self.longest = longest_s * self.sample_rate  # that is not cut

    def done_before(self, recording: Recording) -> Outcome | None:
        """Tells whether there is nothing left to do for a recording.

        Arguments
        ---------
        recording : Recording
            What to separate.

        Returns
        -------
        Outcome or None
            The files it would write, if they are there, whole.
        """
        try:
            if not recording.is_done(
                self.num_spks, self.sample_rate, self.plot
            ):
                return None
            written = recording.outputs(self.num_spks)
            num_frames = audio_info(written[0]).num_frames
        except (InputError, OSError):
            return None
        written += [recording.picture] * self.plot
        return self._outcome(recording, written, num_frames, skipped=True)

    def separate(self, recordings: Sequence[Recording]) -> Iterator[Outcome]:
        """Separates recordings; one that fails does not stop the others.

        Arguments
        ---------
        recordings : sequence of Recording
            What to separate, and where to.

        Yields
        ------
        Outcome
            Of each recording, in the order in which they are done.

        Raises
        ------
        OSError
            If voices cannot be written, as on a full disk.
        Exception
            After all others are done, if the program failed with one of
            them, other than for lack of memory: the first such error, which
            is `fault`.
        """
        self.fault = None
        yield from self._separate(recordings)
        if self.fault is not None:
            raise self.fault

    def _separate(self, recordings: Sequence[Recording]) -> Iterator[Outcome]:
        remove_leftovers(recordings, self.num_spks)
        short: list[Recording] = []
        lengths: list[int] = []
        long: list[Recording] = []
        for recording in recordings:
            try:
                num_frames = recording.num_frames(self.sample_rate)
            except InputError as error:
                yield _failure(recording, error)
                continue
            if num_frames > self.longest:
                long.append(recording)
            else:
                short.append(recording)
                lengths.append(num_frames)
        for recording in long:
            yield self._in_pieces(recording)
        batches = batches_by_length(
            lengths,
            self.batch_size,
            None
            if self.batch_size
            else round(self.at_once_s * self.sample_rate),
            # SpeechBrain's own networks see the padding.
            same_length=not getattr(
                self.model.mods.masknet, "takes_num_frames", False
            ),
        )
        for batch in batches:
            yield from self._together([short[position] for position in batch])

    def _in_pieces(self, recording: Recording) -> Outcome:
        start = time.perf_counter()
        outputs = recording.outputs(self.num_spks)
        at_once = max(1, int(self.at_once_s / self.chunk_s))
        try:
            self._remove_picture(recording)
            self.model.separate_to_files(
                recording.path,
                outputs,
                normalize=self.normalize,
                chunk_s=self.chunk_s,
                overlap_s=self.overlap_s,
                batch_size=self.batch_size or at_once,
                progress=self.progress,
            )
            # Not of the recording, whose header may promise more.
            num_frames = audio_info(outputs[0]).num_frames
            if self.plot:
                mixture, _ = read_audio(recording.path, self.sample_rate)
                voices = [read_audio(output)[0] for output in outputs]
                self._draw(recording, mixture, torch.stack(voices, dim=1))
                outputs.append(recording.picture)
        except Exception as error:
            return self._failure(recording, error)
        elapsed_s = time.perf_counter() - start
        return self._outcome(recording, outputs, num_frames, elapsed_s)

    def _together(self, recordings: Sequence[Recording]) -> Iterator[Outcome]:
        """In smaller batches, if they fail together."""
        start = time.perf_counter()
        divided = False
        try:
            failures, separated = self._voices(recordings)
        except Exception as error:
            divided = len(recordings) > 1
            if not divided:
                failures = [self._failure(recordings[0], error)]
                separated = []
        if divided:  # what the error held is free by now
            half = len(recordings) // 2
            yield from self._together(recordings[:half])
            yield from self._together(recordings[half:])
            return
        yield from failures
        share_s = (time.perf_counter() - start) / max(1, len(separated))
        for recording, mixture, voices in separated:
            start = time.perf_counter()
            try:
                written = self._write(recording, mixture, voices)
            except Exception as error:
                yield self._failure(recording, error)
                continue
            elapsed_s = share_s + time.perf_counter() - start
            yield self._outcome(recording, written, len(mixture), elapsed_s)

    def _voices(
        self, recordings: Sequence[Recording]
    ) -> tuple[
        list[Outcome], list[tuple[Recording, torch.Tensor, torch.Tensor]]
    ]:
        """Those that cannot be read; mixture and voices of the others."""
        failures, read, mixtures = [], [], []
        for recording in recordings:
            try:
                mixture, _ = read_audio(recording.path, self.sample_rate)
            except InputError as error:
                failures.append(_failure(recording, error))
            else:
                read.append(recording)
                mixtures.append(mixture)
        if not read:
            return failures, []
        batch = pad_sequence(mixtures, batch_first=True)  # [B, T]
        counts = torch.tensor([len(mixture) for mixture in mixtures])
        lengths = counts.double() / batch.shape[1]
        with torch.no_grad():
            voices = self.model.separate_batch(
                batch, None if (lengths == 1).all() else lengths
            ).cpu()  # [B, T, S]
        trimmed = [
            padded[: len(mixture)]
            for padded, mixture in zip(voices, mixtures, strict=True)
        ]
        return failures, list(zip(read, mixtures, trimmed, strict=True))

    def _failure(self, recording: Recording, error: Exception) -> Outcome:
        """Why one failed; a fault of the program is raised in the end."""
        if isinstance(error, InputError | OSError) or _lacks_memory(error):
            return _failure(recording, error)
        if self.fault is None:
            self.fault = error
            traceback.clear_frames(error.__traceback__)  # and their tensors
        reason = f"{recording}: {type(error).__name__}: {one_line(error)}"
        return Outcome(recording, error=reason)

    def _outcome(
        self,
        recording: Recording,
        written: list[Path],
        num_frames: int,
        elapsed_s: float | None = None,
        skipped: bool = False,
    ) -> Outcome:
        return Outcome(
            recording,
            tuple(written),
            skipped=skipped,
            sample_rate=self.sample_rate,
            duration_s=num_frames / self.sample_rate,
            elapsed_s=elapsed_s,
        )

    def _write(
        self, recording: Recording, mixture: torch.Tensor, voices: torch.Tensor
    ) -> list[Path]:
        self._remove_picture(recording)
        scaled = normalize_voices(voices[None], mixture[None], self.normalize)
        written = recording.outputs(self.num_spks)
        write_voices([(mixture, scaled[0])], written, self.sample_rate, "none")
        if self.plot:
            self._draw(recording, mixture, voices)
            written.append(recording.picture)
        return written

    def _remove_picture(self, recording: Recording) -> None:
        """So that it never stands beside voices that it does not show."""
        if self.plot:
            recording.picture.unlink(missing_ok=True)

    def _draw(
        self, recording: Recording, mixture: torch.Tensor, voices: torch.Tensor
    ) -> None:
        plot_separation(
            recording.picture,
            mixture,
            normalize_voices(voices[None], mixture[None], "mixture")[0],
            self.sample_rate,
            title=recording.path.name,
        )


def _lacks_memory(error: Exception) -> bool:
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError) and bool(
        NO_MEMORY.search(str(error))
    )


def _failure(recording: Recording, error: Exception) -> Outcome:
    """Why it failed, if that is no fault of the program or of the disk."""
    if isinstance(error, InputError):
        reason = one_line(error)
    elif _lacks_memory(error):
        reason = (
            f"{recording.path}: takes more memory than there is; give a "
            "smaller --batch-size or --chunk"
        )
    elif isinstance(error, OSError) and error.errno in NAME_ERRORS:
        reason = f"{error.filename or recording.path}: {error.strerror}"
    else:
        raise error
    reason = reason.replace(str(recording.path), str(recording))
    return Outcome(recording, error=reason)
