"""How a long recording is cut, and how much is separated at once.

Above this file: `chunking.py`, which cuts and joins.
"""

import math
from dataclasses import dataclass

from s4m_sb.errors import InputError

OVERLAP_S = 4.0
# Seconds of audio at once. Memory grows with them: 60 s take about 2.1 GiB
# with S4M-tiny. Only an accelerator is faster with more of them.
AT_ONCE_S = 60.0
AT_ONCE_ON_CPU_S = 30.0


@dataclass(frozen=True)
class Pieces:
    """Pieces of a recording.

    Arguments
    ---------
    chunk_s : float
        Seconds of a piece.
    overlap_s : float, optional
        Seconds that consecutive pieces share, by which their voices are
        matched: at most half a piece; by default 4, and at most a quarter of
        a piece.
    batch_size : int, optional
        How many are separated at once, in memory for all of them; by default
        as many as make 60 s, or 30 s on a CPU, but at least one.

    Raises
    ------
    InputError
        If there are no such pieces.

    Example
    -------
    >>> Pieces(chunk_s=10).in_samples(8000)
    (80000, 20000)
    >>> Pieces(chunk_s=10, overlap_s=5).in_samples(8000)
    (80000, 40000)
    >>> Pieces(chunk_s=10).num_at_once("cpu"), Pieces().num_at_once("cuda:0")
    (3, 2)
    """

    chunk_s: float = 30.0
    overlap_s: float | None = None
    batch_size: int | None = None

    def __post_init__(self):
        for name in ("chunk_s", "overlap_s"):
            value = getattr(self, name)
            if name == "overlap_s" and value is None:
                continue
            if not isinstance(value, int | float):
                raise InputError(f"{name} is {value!r}; give a number")
        overlap_s = self._overlap_s
        if not 0 < overlap_s <= self.chunk_s / 2 < math.inf:
            raise InputError(
                f"pieces of {self.chunk_s:g} s that share {overlap_s:g} s: "
                "give seconds, with an overlap above 0 and up to half a piece"
            )
        if self.batch_size is None:
            return
        if not isinstance(self.batch_size, int):
            raise InputError(
                f"batch_size is {self.batch_size!r}; give a whole number"
            )
        if self.batch_size < 1:
            raise InputError(
                f"batch_size is {self.batch_size}; give at least 1"
            )

    @property
    def _overlap_s(self) -> float:
        if self.overlap_s is not None:
            return self.overlap_s
        return min(OVERLAP_S, self.chunk_s / 4)

    def in_samples(self, sample_rate: int) -> tuple[int, int]:
        """Counts the samples of a piece, and those that two of them share.

        Arguments
        ---------
        sample_rate : int
            In Hz.

        Returns
        -------
        int
            Samples of a piece.
        int
            Samples that it shares with the next one: at least 1, at most
            half of it.
        """
        chunk = max(2, round(self.chunk_s * sample_rate))
        overlap = round(self._overlap_s * sample_rate)
        return chunk, min(max(1, overlap), chunk // 2)

    def num_at_once(self, device: str) -> int:
        """Counts the pieces that are separated at once.

        Arguments
        ---------
        device : str
            Where to compute, as PyTorch names it.

        Returns
        -------
        int
            At least 1.
        """
        return self.batch_size or max(1, int(at_once_s(device) / self.chunk_s))


def at_once_s(device: str) -> float:
    """Seconds of audio to separate at once.

    Arguments
    ---------
    device : str
        Where to compute, as PyTorch names it.

    Returns
    -------
    float
        More where that is faster.
    """
    on_cpu = str(device).startswith("cpu")
    return AT_ONCE_ON_CPU_S if on_cpu else AT_ONCE_S
