"""The voices of many recordings: short ones together, long ones in pieces."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn.utils.rnn import pad_sequence

from s4m_sb.audio import read_audio, write_audio
from s4m_sb.batching import batches_by_length
from s4m_sb.chunking import CHUNK_S, piece_sizes
from s4m_sb.errors import InputError, one_line
from s4m_sb.inference import S4MSeparation
from s4m_sb.levels import check_normalization, normalize_voices
from s4m_sb.recordings import Recording, remove_leftovers
from s4m_sb.spectrogram import plot_separation

AT_ONCE_S = 60.0  # of audio, for which S4M takes about 4 GB


@dataclass(frozen=True)
class Outcome:
    """The files that were written for a recording, or why there are none."""

    recording: Recording
    written: tuple[Path, ...] = ()
    error: str = ""


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
        separated at once; by default as many as make 60 s.
    plot : bool
        Also draw spectrograms.
    progress : bool
        Show a progress bar for each recording that is cut.

    Raises
    ------
    InputError
        If an option makes no sense.

    Example
    -------
    >>> from s4m_sb.recordings import find_recordings
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
        check_normalization(normalize)
        batches_by_length([], batch_size)
        longest_s = AT_ONCE_S if chunk_s is None else chunk_s
        if chunk_s == 0:
            longest_s = float("inf")
        else:
            piece_sizes(self.chunk_s, overlap_s, self.sample_rate)
        self.longest = longest_s * self.sample_rate  # that is not cut

    def is_done(self, recording: Recording) -> bool:
        """Tells whether there is nothing left to do for a recording.

        Arguments
        ---------
        recording : Recording
            What to separate.

        Returns
        -------
        bool
            Whether the files it would write are there, whole.
        """
        try:
            return recording.is_done(self.num_spks, self.sample_rate, self.plot)
        except InputError:
            return False

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
        """
        remove_leftovers(recordings, self.num_spks)
        short: list[Recording] = []
        lengths: list[int] = []
        long: list[Recording] = []
        for recording in recordings:
            try:
                num_frames = recording.num_frames(self.sample_rate)
            except InputError as error:
                yield Outcome(recording, error=one_line(error))
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
            None if self.batch_size else round(AT_ONCE_S * self.sample_rate),
            # SpeechBrain's own networks see the padding.
            same_length=not getattr(
                self.model.mods.masknet, "takes_num_frames", False
            ),
        )
        for batch in batches:
            yield from self._together([short[position] for position in batch])

    def _in_pieces(self, recording: Recording) -> Outcome:
        outputs = recording.outputs(self.num_spks)
        at_once = max(1, int(AT_ONCE_S / self.chunk_s))
        try:
            self.model.separate_to_files(
                recording.path,
                outputs,
                normalize=self.normalize,
                chunk_s=self.chunk_s,
                overlap_s=self.overlap_s,
                batch_size=self.batch_size or at_once,
                progress=self.progress,
            )
        except (InputError, RuntimeError) as error:
            return Outcome(recording, error=_reason(recording, error))
        if self.plot:
            mixture, _ = read_audio(recording.path, self.sample_rate)
            voices = [read_audio(output)[0] for output in outputs]
            self._draw(recording, mixture, torch.stack(voices, dim=1))
            outputs.append(recording.picture)
        return Outcome(recording, tuple(outputs))

    def _together(self, recordings: Sequence[Recording]) -> Iterator[Outcome]:
        read, mixtures = [], []
        for recording in recordings:
            try:
                mixture, _ = read_audio(recording.path, self.sample_rate)
            except InputError as error:
                yield Outcome(recording, error=one_line(error))
            else:
                read.append(recording)
                mixtures.append(mixture)
        if not read:
            return
        batch = pad_sequence(mixtures, batch_first=True)  # [B, T]
        counts = torch.tensor([len(mixture) for mixture in mixtures])
        lengths = counts.double() / batch.shape[1]
        try:
            with torch.no_grad():
                voices = self.model.separate_batch(
                    batch, None if (lengths == 1).all() else lengths
                ).cpu()  # [B, T, S]
        except RuntimeError as error:
            for recording in read:
                yield Outcome(recording, error=_reason(recording, error))
            return
        for recording, mixture, padded in zip(
            read, mixtures, voices, strict=True
        ):
            written = self._write(recording, mixture, padded[: len(mixture)])
            yield Outcome(recording, tuple(written))

    def _write(
        self, recording: Recording, mixture: torch.Tensor, voices: torch.Tensor
    ) -> list[Path]:
        scaled = normalize_voices(voices[None], mixture[None], self.normalize)
        written = recording.outputs(self.num_spks)
        for path, voice in zip(written, scaled[0].unbind(1), strict=True):
            write_audio(path, voice, self.sample_rate)
        if self.plot:
            self._draw(recording, mixture, voices)
            written.append(recording.picture)
        return written

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


def _reason(recording: Recording, error: Exception) -> str:
    """Why it failed, if that is no fault of the program."""
    if isinstance(error, InputError):
        return one_line(error)
    if "memory" not in str(error):
        raise error
    return (
        f"{recording.path}: takes more memory than there is; give a smaller "
        "--batch-size or --chunk"
    )
