"""Long recordings in pieces, every voice in one place from end to end.

A network may give the voices of each piece in another order. Consecutive
pieces overlap, and their voices are matched by how well they correlate there:

    piece 1   ──────────────────
    piece 2                ──────────────────
                           match, cross-fade

Where nobody speaks in the overlap it tells nothing, and where little is said
it tells little. The piece is then separated again behind a stretch from
memory, the last in which all voices were heard, and matched by its voices
there: the network decides which voice goes on after the silence, as it does
within a piece. If it cannot tell them apart either, the order stays as it is.

Above this file: `interface.py`. Below it: `pieces.py`.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from s4m_sb.errors import InputError
from s4m_sb.inference.pieces import Pieces
from s4m_sb.metrics import best_permutation

# Found on real voices and their pauses: with 0.3 and 1, the order was lost for
# good in five of twenty recordings of 90 s in pieces of 8 s.
CLEAR = 0.5  # least correlation by which voices are told apart
MEMORY = 2  # how many overlaps long is what is remembered
QUIET = 1e-2  # 20 dB below what was heard before is silence
KEEP = 1e-2  # of the energy, in favour of the order there is


def separate_in_pieces(
    blocks: Iterable[torch.Tensor],
    separate: Callable[[torch.Tensor], torch.Tensor],
    pieces: Pieces,
    sample_rate: int,
    device: str = "cpu",
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Separates a recording of any length in bounded memory.

    Exact for a network that sees a quarter of the overlap on either side of
    a sample: the voices are then those of the whole recording, in whatever
    order the network gives the voices of each piece, if in every overlap at
    most one voice is silent.

    Arguments
    ---------
    blocks : Iterable
        The recording, in consecutive blocks ``[n]``.
    separate : Callable
        Gives the voices ``[B, T, S]`` of mixtures ``[B, T]``.
    pieces : Pieces
        How to cut. The last piece ends with the recording, and shares more
        with the one before than the others do.
    sample_rate : int
        Of the recording, in Hz.
    device : str
        Where ``separate`` computes.

    Yields
    ------
    torch.Tensor
        Part of the recording, ``[n]``.
    torch.Tensor
        Its voices, ``[n, S]``; all parts together are the whole.

    Raises
    ------
    InputError
        If the recording has no samples.

    Example
    -------
    >>> recording = torch.randn(1000)
    >>> def above_and_below(mixture):
    ...     return torch.stack([mixture.clamp(min=0), mixture.clamp(max=0)], 2)
    >>> parts = separate_in_pieces(
    ...     recording.split(99), above_and_below, Pieces(0.2), sample_rate=1000
    ... )
    >>> voices = torch.cat([voices for _, voices in parts])
    >>> torch.equal(voices, above_and_below(recording[None])[0])
    True
    """
    chunk, overlap = pieces.in_samples(sample_rate)
    joiner = _Joiner(separate, overlap)
    cut = _cut(blocks, chunk, overlap)
    num_at_once = pieces.num_at_once(device)
    while batch := list(itertools.islice(cut, num_at_once)):
        voices = separate(torch.stack([mixture for _, mixture in batch]))
        for (start, mixture), voice in zip(batch, voices, strict=True):
            yield joiner.add(start, mixture, voice)
    yield joiner.rest()


def _cut(
    blocks: Iterable[torch.Tensor], chunk: int, overlap: int
) -> Iterator[tuple[int, torch.Tensor]]:
    """Start and samples of each piece; only a single one may be shorter."""
    hop = chunk - overlap
    start = 0
    held = before = torch.zeros(0)
    for block in blocks:
        held = torch.cat([held.to(block), block])
        while len(held) > chunk:
            before = held[:chunk]
            yield start, before
            held = held[hop:]
            start += hop
    if len(before):  # the last one begins earlier, to be as long
        missing = chunk - len(held)
        held = torch.cat([before[hop - missing : hop], held])
        start -= missing
    if len(held):
        yield start, held


class _Joiner:
    """Puts pieces together, one after another.

    Arguments
    ---------
    separate : Callable
        As in `separate_in_pieces`.
    overlap : int
        Samples that two pieces share at least.
    """

    def __init__(
        self, separate: Callable[[torch.Tensor], torch.Tensor], overlap: int
    ):
        self.separate = separate
        self.overlap = overlap
        self.start = 0
        # From `start` on, what later pieces may still change. [n], [n, S]
        self.mixture: torch.Tensor | None = None
        self.voices = torch.zeros(0, 0)
        self.memory: _Memory | None = None

    def add(
        self, start: int, mixture: torch.Tensor, voices: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Takes the piece from ``start`` on; gives what lies before it.

        Not as views: whoever keeps them would keep whole pieces.
        """
        if self.mixture is None:
            self.mixture, self.voices = mixture, voices
            self._remember(mixture, voices)
            return mixture[:0].clone(), voices[:0].clone()
        num_done = start - self.start
        done = self.mixture[:num_done].clone(), self.voices[:num_done].clone()
        before = self.voices[num_done:]  # [shared, S]
        voices = self._in_order(before, mixture, voices)
        shared = len(before)
        self.voices = torch.cat(
            [_cross_fade(before, voices[:shared]), voices[shared:]]
        )
        self.mixture, self.start = mixture, start
        self._remember(mixture, voices)
        return done

    def rest(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Gives what is left after the last piece."""
        if self.mixture is None:
            raise InputError("a recording without samples")
        return self.mixture, self.voices

    def _in_order(
        self, before: torch.Tensor, mixture: torch.Tensor, voices: torch.Tensor
    ) -> torch.Tensor:
        """The piece's voices, in the order of those before it."""
        shared = len(before)
        silence = 0.0 if self.memory is None else QUIET * self.memory.loudest
        order, correlation = match(before, voices[:shared], silence)
        heard = float(voices.double().square().sum()) > QUIET * silence > 0
        if correlation < CLEAR and heard and self.memory is not None:
            known = len(self.memory.mixture)
            longer = torch.cat([self.memory.mixture, mixture])
            again = self.separate(longer.unsqueeze(0))[0]
            order_again, correlation_again = match(
                torch.cat([self.memory.voices, before]),
                again[: known + shared],
                silence,
            )
            if correlation_again > correlation:
                order, voices = order_again, again[known:]
        return voices[:, order]

    def _remember(self, mixture: torch.Tensor, voices: torch.Tensor) -> None:
        """Keeps the stretch where the quietest voice is loudest."""
        length = min(MEMORY * self.overlap, len(mixture))
        hop = max(1, length // 4)
        energies = (
            voices.double().square().unfold(0, length, hop).sum(dim=2)
        )  # [N, S]
        quietest, at = energies.amin(dim=1).max(dim=0)
        if self.memory is None or quietest >= QUIET * self.memory.quietest:
            stretch = slice(hop * int(at), hop * int(at) + length)
            self.memory = _Memory(
                mixture[stretch].clone(),
                voices[stretch].clone(),
                float(quietest),
                float(energies[at].max()),
            )


@dataclass(frozen=True)
class _Memory:
    """A stretch of the recording in which all voices were heard."""

    mixture: torch.Tensor  # [n]
    voices: torch.Tensor  # [n, S]
    quietest: float  # energy of the quietest voice
    loudest: float


def match(
    before: torch.Tensor, voices: torch.Tensor, silence: float = 0.0
) -> tuple[torch.Tensor, float]:
    """Finds which voice is which of those before it.

    The order is the one with the largest sum of inner products, in which a
    voice counts by its energy; a different order has to win clearly.

    Arguments
    ---------
    before : torch.Tensor
        Voices in their order, ``[n, S]``.
    voices : torch.Tensor
        The same in an unknown order, ``[n, S]``.
    silence : float
        Energy, as a sum of squares, up to which the difference of two voices
        tells nothing.

    Returns
    -------
    torch.Tensor
        Which voice to put at each place, ``[S]``.
    float
        How sure that is, -1 to 1: for every two voices, the correlation of
        their difference before with their difference now, which exchanging
        the two would make negative; of these the smallest, where two silent
        voices have 0.

    Example
    -------
    >>> before = torch.randn(100, 3)
    >>> order, correlation = match(before, before[:, [2, 0, 1]])
    >>> order, round(correlation, 3)
    (tensor([1, 2, 0]), 1.0)
    """
    S = before.shape[1]
    before, voices = before.double(), voices.double()  # squares overflow
    scores = voices.T @ before  # [S, S]
    keep = KEEP * before.norm() * voices.norm()
    order = best_permutation((scores + keep * torch.eye(S).to(scores))[None])[0]
    voices = voices[:, order]
    correlation = 1.0
    for i, j in itertools.combinations(range(S), 2):
        old, new = before[:, i] - before[:, j], voices[:, i] - voices[:, j]
        scale = float(old.norm() * new.norm())
        told = scale > 0 and float(old.square().sum()) > silence
        pair = float(old @ new) / scale if told else 0.0
        correlation = min(correlation, pair)
    return order, correlation


def _cross_fade(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """From one piece to the next, ``[n, S]``, in the middle half.

    In the outer quarters one of the pieces, close to its end, knows less.
    """
    n = len(before)
    edge = n // 4
    ramp = torch.arange(1, n - 2 * edge + 1) / (n - 2 * edge + 1)
    weight = F.pad(F.pad(ramp, (edge, 0)), (0, edge), value=1.0).to(before)
    # Exact where both are equal.
    return torch.lerp(before, after, weight.unsqueeze(1))
