"""What a talker says in his turns: windows of his utterances, one by one.

His utterances lie in a row, and every turn takes what comes next, so that
nothing is said twice before all is said. A turn begins and ends where it is
quiet, as far as that can be had within ``SLACK_S``, and contains speech, not
silence. ``conversation.py`` says when he speaks.
"""

from collections.abc import Sequence

import torch

from s4m_sb.audio.files import read_audio
from s4m_sb.audio.resampling import resampling_ratio
from s4m_sb.mixing.corpus import Utterance
from s4m_sb.mixing.plans import Piece, pieces_from

MAX_TRIES = 50
SLACK_S = 0.5
FRAME_S = 0.01
# A frame this far below the talker's loud ones (the 95th percentile of the
# loudest stretch so far) is a pause: speech spans about 30 dB.
PAUSE_DB = 25.0
LOUD = 0.95
LEAST_SPEECH = 0.5  # share of a turn
EDGE_WEIGHT = 0.5  # of speech at both edges, against the share of speech


class Script:
    """The words of one talker in one mixture.

    Arguments
    ---------
    utterances : sequence of Utterance
        In the order in which they are said; from the first again after the
        last.
    start : int
        Where in the first utterance he begins, counted at ``sample_rate``
        and ``speed``.
    sample_rate : int
        Of the mixture, in Hz.
    speed : float
        How much faster than recorded.
    silence_db : float
        What is below this mean absolute amplitude is never speech.
    """

    def __init__(
        self,
        utterances: Sequence[Utterance],
        start: int,
        sample_rate: int,
        speed: float,
        silence_db: float,
    ):
        self._utterances = utterances
        self._next = (0, start)  # number of an utterance, sample in it
        self._sample_rate = sample_rate
        self._speed = speed
        self._floor = 10 ** (silence_db / 20)
        self._loud = 0.0

    def take(self, num_frames: int) -> tuple[Piece, ...] | None:
        """Gives what is said in the next turn.

        Arguments
        ---------
        num_frames : int
            Samples of the turn.

        Returns
        -------
        tuple[Piece, ...] or None
            Pieces in a row, of that length; None if ``MAX_TRIES`` windows
            have too little speech.
        """
        hop = round(FRAME_S * self._sample_rate)
        slack = round(SLACK_S / FRAME_S) * hop
        for _ in range(MAX_TRIES):
            pieces, _ = self._window(self._next, num_frames + slack)
            shift, share = self._best_shift(pieces, num_frames, hop)
            _, begin = self._window(self._next, shift * hop)
            pieces, self._next = self._window(begin, num_frames)
            if share >= LEAST_SPEECH:
                return pieces
        return None

    def _best_shift(
        self, pieces: tuple[Piece, ...], num_frames: int, hop: int
    ) -> tuple[int, float]:
        signal = torch.cat([self._roughly(piece) for piece in pieces])
        frames = signal[: len(signal) // hop * hop].reshape(-1, hop)
        levels = frames.abs().mean(dim=1)  # [L]
        self._loud = max(self._loud, float(levels.quantile(LOUD)))
        least = max(self._floor, self._loud * 10 ** (-PAUSE_DB / 20))
        speaks = (levels >= least).double()
        count = max(1, num_frames // hop)
        shares = speaks.unfold(0, count, 1).mean(dim=1)
        edges = speaks[: len(shares)] + speaks[count - 1 :]
        # The first of the best: the earliest.
        best = int((shares - EDGE_WEIGHT / 2 * edges).argmax())
        return best, float(shares[best])

    def _roughly(self, piece: Piece) -> torch.Tensor:
        """The piece by its nearest samples, in which levels are the same."""
        utterance = piece.utterance
        old, new = resampling_ratio(
            utterance.sample_rate, self._sample_rate, self._speed
        )
        nearest = torch.arange(piece.start, piece.start + piece.num_frames)
        nearest = nearest * old // new
        first, last = int(nearest[0]), int(nearest[-1])
        signal, _ = read_audio(
            utterance.path, start=first, num_frames=last - first + 1
        )
        return signal[nearest - first]

    def _window(
        self, begin: tuple[int, int], num_frames: int
    ) -> tuple[tuple[Piece, ...], tuple[int, int]]:
        return pieces_from(
            self._utterances,
            begin,
            num_frames,
            self._sample_rate,
            self._speed,
        )
