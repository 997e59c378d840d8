"""What a mixture is made from: a plan that can be written down.

From a plan ``rendering.py`` makes the same samples every time.
``drawing.py`` draws plans; ``datasets/metadata.py`` writes and reads them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from s4m_sb.mixing.corpus import Utterance, resampled_length
from s4m_sb.mixing.rooms import Room


@dataclass(frozen=True)
class Piece:
    """A window of a recording, in samples of the mixture."""

    utterance: Utterance
    start: int
    num_frames: int


@dataclass(frozen=True)
class Silence:
    """Samples of the mixture in which a speaker does not speak."""

    num_frames: int


@dataclass(frozen=True)
class SourcePlan:
    """What one speaker says: pieces in a row, their level, speed and channel.

    Between them there may be silence; who never speaks has nothing else, and
    the level 0.

    ``filter_db`` are the gains of the channel (``coloration.py``), which comes
    before level and room; empty for none. The level is the mean absolute
    amplitude in dB, where he speaks, before the whole mixture is scaled to
    its peak, so only the differences within a mixture count. In a room it is
    the level of the direct sound.
    """

    pieces: tuple[Piece | Silence, ...]
    level_db: float
    speed: float = 1.0
    filter_db: tuple[float, ...] = ()

    @property
    def said(self) -> tuple[Piece, ...]:
        """The pieces that are not silence."""
        return tuple(x for x in self.pieces if isinstance(x, Piece))

    @property
    def speaker(self) -> str:
        """Who speaks; the empty word for nobody."""
        return self.said[0].utterance.speaker if self.said else ""

    @property
    def spans(self) -> tuple[tuple[int, int], ...]:
        """Where he speaks: first samples, and those after the last."""
        spans: list[tuple[int, int]] = []
        at = 0
        for piece in self.pieces:
            begin, at = at, at + piece.num_frames
            if isinstance(piece, Silence):
                continue
            if spans and spans[-1][1] == begin:
                begin = spans.pop()[0]
            spans.append((begin, at))
        return tuple(spans)

    @property
    def num_frames(self) -> int:
        """Samples of all pieces."""
        return sum(piece.num_frames for piece in self.pieces)


@dataclass(frozen=True)
class NoisePlan:
    """Pieces of noise in a row and their level.

    ``snr_db`` is the loudness (ITU-R BS.1770) of the loudest source, direct
    sound alone, over that of the noise.
    """

    pieces: tuple[Piece, ...]
    snr_db: float

    @property
    def num_frames(self) -> int:
        """Samples of all pieces."""
        return sum(piece.num_frames for piece in self.pieces)


@dataclass(frozen=True)
class MixturePlan:
    """All that a mixture is made from."""

    sources: tuple[SourcePlan, ...]
    sample_rate: int
    noise: NoisePlan | None = None
    room: Room | None = None


def pieces_from(
    utterances: Sequence[Utterance],
    begin: tuple[int, int],
    num_frames: int,
    sample_rate: int,
    speed: float = 1.0,
) -> tuple[tuple[Piece, ...], tuple[int, int]]:
    """Goes along utterances in a row; after the last comes the first again.

    Arguments
    ---------
    utterances : sequence of Utterance
        The row.
    begin : tuple[int, int]
        Number of an utterance, and a sample in it.
    num_frames : int
        How far to go.
    sample_rate : int
        At which samples are counted, in Hz.
    speed : float
        How much faster than recorded.

    Returns
    -------
    tuple[Piece, ...]
        That many samples.
    tuple[int, int]
        Where they end, like ``begin``.

    Example
    -------
    >>> row = [Utterance(f"{n}.wav", "anna", 80, 8000) for n in range(2)]
    >>> pieces, end = pieces_from(row, (1, 50), 100, 8000)
    >>> [(p.utterance.path, p.start, p.num_frames) for p in pieces], end
    ([('1.wav', 50, 30), ('0.wav', 0, 70)], (0, 70))
    """
    number, start = begin
    pieces = []
    while num_frames:
        total = resampled_length(utterances[number], sample_rate, speed)
        taken = min(total - start, num_frames)
        if taken:
            pieces.append(Piece(utterances[number], start, taken))
        num_frames -= taken
        start += taken
        if start == total:
            number, start = (number + 1) % len(utterances), 0
    return tuple(pieces), (number, start)
