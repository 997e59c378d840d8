"""The voices of many recordings: short ones together, long ones in pieces."""

import errno
import functools
import re
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence

from s4m_sb.audio.files import audio_info, read_audio
from s4m_sb.audio.whole import CutOffWarning, is_whole
from s4m_sb.errors import InputError, one_line
from s4m_sb.inference.interface import S4MSeparation
from s4m_sb.inference.levels import DEFAULT, Level, normalize_voices
from s4m_sb.inference.pieces import Pieces, at_once_s
from s4m_sb.inference.recordings import Recording, remove_leftovers
from s4m_sb.inference.spectrogram import plot_separation
from s4m_sb.inference.voice_files import write_voices

WHOLE_S = 60.0  # recordings that are longer are cut, if nothing else is said
PICTURE_WIDTH = 9.0  # inches
MOST_PADDING = 0.25  # of a batch

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
    voices : tuple of Path
        The files of its voices.
    picture : Path, optional
        That of its spectrograms, if they were drawn.
    error : str
        Why there are no voices.
    skipped : bool
        Whether they were there before.
    sample_rate : int, optional
        Of the voices, in Hz.
    duration_s : float, optional
        Length of the recording, if it could be read.
    elapsed_s : float, optional
        Time that it took; those separated together share theirs.
    truncated : bool
        Whether the recording was cut off, so that the voices are those of
        what there is of it; see `whole.py`.
    """

    recording: Recording
    voices: tuple[Path, ...] = ()
    picture: Path | None = None
    error: str = ""
    skipped: bool = False
    sample_rate: int | None = None
    duration_s: float | None = None
    elapsed_s: float | None = None
    truncated: bool = False

    @property
    def status(self) -> str:
        """One of separated, skipped and failed."""
        if self.error:
            return "failed"
        return "skipped" if self.skipped else "separated"

    @property
    def written(self) -> tuple[Path, ...]:
        """All its files."""
        return self.voices + ((self.picture,) if self.picture else ())


class FileSeparator:
    """Separates recordings and writes their voices.

    Arguments
    ---------
    model : S4MSeparation
        The model.
    normalize : str
        The level of the voices; see `levels.normalize_voices`.
    pieces : Pieces
        How to cut long recordings. Its ``batch_size`` counts also short ones
        of about the same length, which are separated at once.
    whole_s : float
        Recordings up to so many seconds are not cut.
    picture_width : float, optional
        Also draw spectrograms, so many inches wide.
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
        If ``normalize`` is unknown.

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
        normalize: str = DEFAULT,
        pieces: Pieces = Pieces(),  # noqa: B008  (frozen)
        whole_s: float = WHOLE_S,
        picture_width: float | None = None,
        progress: bool = False,
    ):
        self.model = model
        self.sample_rate = model.hparams.sample_rate
        self.num_spks = model.hparams.num_spks
        Level(self.num_spks, normalize)  # or it is refused
        self.normalize = normalize
        self.pieces = pieces
        self.whole_s = whole_s
        self.picture_width = picture_width
        self.progress = progress
        self.fault: Exception | None = None

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
                self.num_spks, self.sample_rate, bool(self.picture_width)
            ):
                return None
            return self._outcome(recording, skipped=True)
        except (InputError, OSError):
            return None

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
                info = audio_info(recording.path)
            except InputError as error:
                yield self._failure(recording, error)
                continue
            num_frames = info.num_frames_at(self.sample_rate)
            if num_frames > self.whole_s * self.sample_rate:
                long.append(recording)
            else:
                short.append(recording)
                lengths.append(num_frames)
        for recording in long:
            yield self._written(
                recording,
                functools.partial(
                    self.model.separate_to_files,
                    recording.path,
                    normalize=self.normalize,
                    pieces=self.pieces,
                    progress=self.progress,
                ),
            )
        max_items, max_total = self.pieces.batch_size, None
        if max_items is None:
            max_total = round(at_once_s(self.model.device) * self.sample_rate)
        batches = batches_by_length(
            lengths,
            max_items,
            max_total,
            # SpeechBrain's own networks see the padding.
            same_length=not getattr(
                self.model.mods.masknet, "takes_num_frames", False
            ),
        )
        for batch in batches:
            yield from self._together([short[position] for position in batch])

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
            write = functools.partial(
                write_voices,
                [(mixture, voices)],
                sample_rate=self.sample_rate,
                normalize=self.normalize,
            )
            yield self._written(recording, write, share_s)

    def _voices(
        self, recordings: Sequence[Recording]
    ) -> tuple[
        list[Outcome], list[tuple[Recording, torch.Tensor, torch.Tensor]]
    ]:
        """Those that cannot be read; mixture and voices of the others."""
        failures, read, mixtures = [], [], []
        for recording in recordings:
            try:
                mixture, _ = read_audio(
                    recording.path, self.sample_rate, partial=True
                )
            except InputError as error:
                failures.append(self._failure(recording, error))
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

    def _written(
        self,
        recording: Recording,
        write: Callable[[list[Path]], None],
        elapsed_s: float = 0.0,
    ) -> Outcome:
        """Has the voices written, and draws them."""
        start = time.perf_counter()
        try:
            if self.picture_width:  # never beside voices that it does not show
                recording.picture.unlink(missing_ok=True)
            with warnings.catch_warnings():  # the outcome says it
                warnings.simplefilter("ignore", CutOffWarning)
                write(recording.outputs(self.num_spks))
            if self.picture_width:
                self._draw(recording, self.picture_width)
            elapsed_s += time.perf_counter() - start
            return self._outcome(recording, elapsed_s=elapsed_s)
        except Exception as error:
            return self._failure(recording, error)

    def _draw(self, recording: Recording, width: float) -> None:
        mixture, _ = read_audio(recording.path, self.sample_rate, partial=True)
        voices = torch.stack(
            [read_audio(path)[0] for path in recording.outputs(self.num_spks)],
            dim=1,
        )
        plot_separation(
            recording.picture,
            mixture,
            normalize_voices(voices[None], mixture[None], "mixture")[0],
            self.sample_rate,
            title=Path(str(recording)).name,
            width=width,
        )

    def _outcome(self, recording: Recording, **more: Any) -> Outcome:
        """Of one whose files are there."""
        voices = tuple(recording.outputs(self.num_spks))
        # Not of the recording, whose header may promise more.
        num_frames = audio_info(voices[0]).num_frames
        duration_s = num_frames / self.sample_rate
        return Outcome(
            recording,
            voices,
            recording.picture if self.picture_width else None,
            sample_rate=self.sample_rate,
            duration_s=duration_s,
            truncated=not is_whole(recording.path, duration_s),
            **more,
        )

    def _failure(self, recording: Recording, error: Exception) -> Outcome:
        """Why one failed; a fault of the program is raised in the end.

        What is wrong with the disk is raised at once.
        """
        if isinstance(error, InputError):
            reason = one_line(error)
        elif _lacks_memory(error):
            reason = (
                f"{recording.path}: takes more memory than there is; give a "
                "smaller --batch-size or --chunk"
            )
        elif isinstance(error, OSError):
            if error.errno not in NAME_ERRORS:
                raise error
            reason = f"{error.filename or recording.path}: {error.strerror}"
        else:
            reason = f"{recording}: {type(error).__name__}: {one_line(error)}"
            if self.fault is None:
                self.fault = error
                traceback.clear_frames(error.__traceback__)  # their tensors
        reason = reason.replace(str(recording.path), str(recording))
        return Outcome(recording, error=reason)


def _lacks_memory(error: Exception) -> bool:
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError) and bool(
        NO_MEMORY.search(str(error))
    )


def batches_by_length(
    lengths: Sequence[int],
    max_items: int | None = None,
    max_total: int | None = None,
    same_length: bool = False,
) -> list[list[int]]:
    """Divides items into batches, the longest first.

    Those of a batch are of about the same length, so that little is padding.

    Arguments
    ---------
    lengths : sequence of int
        Length of each item.
    max_items : int, optional
        Most items of a batch.
    max_total : int, optional
        Largest length of a batch, padding included. A longer item is a batch
        of its own.
    same_length : bool
        Take only items of one length together, so that nothing is padded.

    Returns
    -------
    list[list[int]]
        Positions in ``lengths``, each once. An item is at least three
        quarters as long as the longest of its batch.

    Example
    -------
    >>> batches_by_length([10, 40, 9, 38, 8], max_total=80)
    [[1, 3], [0, 2, 4]]
    """
    shortest = 1.0 if same_length else 1 - MOST_PADDING
    batches: list[list[int]] = []
    for position in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if batches:
            batch = batches[-1]
            longest = lengths[batch[0]]
            num_items = len(batch) + 1
            if (
                lengths[position] >= shortest * longest
                and (max_items is None or num_items <= max_items)
                and (max_total is None or num_items * longest <= max_total)
            ):
                batch.append(position)
                continue
        batches.append([position])
    return batches
