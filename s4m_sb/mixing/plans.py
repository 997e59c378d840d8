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
class SourcePlan:
    """What one speaker says: pieces in a row, their level, speed and channel.

    ``filter_db`` are the gains of the channel (``coloration.py``), which comes
    before level and room; empty for none. The level is the mean absolute
    amplitude in dB before the whole mixture is scaled to its peak, so only
    the differences within a mixture count. In a room it is the level of the
    direct sound.
    """

    pieces: tuple[Piece, ...]
    level_db: float
    speed: float = 1.0
    filter_db: tuple[float, ...] = ()

    @property
    def speaker(self) -> str:
        """Who speaks."""
        return self.pieces[0].utterance.speaker

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
