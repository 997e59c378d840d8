"""What a mixture is made from: a plan that can be written down.

From a plan ``rendering.py`` makes the same samples every time.
``drawing.py`` draws plans; ``datasets/metadata.py`` writes and reads them.
"""

from dataclasses import dataclass

from s4m_sb.mixing.corpus import Utterance
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
