"""Noise for mixtures: which recording, which window of it, how loud.

``drawing.py`` draws it for each mixture. Noise is fitted to the speech, cut
or repeated, never the other way round.
"""

import numpy as np
import torch
from speechbrain.processing.signal_processing import compute_amplitude

from s4m_sb.errors import InputError
from s4m_sb.mixing.corpus import Corpus, Utterance, resampled_length
from s4m_sb.mixing.plans import NoisePlan, Piece
from s4m_sb.mixing.rendering import read_pieces

SNR_RANGE_DB = (-6.0, 3.0)  # of WHAM!
SILENCE_DB = -78.0  # mean absolute amplitude below which nothing was recorded
MAX_TRIES = 50


class NoiseDrawer:
    """Draws windows of noise.

    Arguments
    ---------
    corpus : Corpus
        The recordings, read with ``speaker_from="file"``; long ones are
        drawn more often, in proportion to their duration.
    sample_rate : int
        Of the mixtures, in Hz.
    snr_range_db : tuple[float, float]
        Loudness of the loudest speaker over the noise, drawn uniformly from
        this range in dB; by default WHAM!'s.

    Raises
    ------
    InputError
        If the range is none.
    """

    def __init__(
        self,
        corpus: Corpus,
        sample_rate: int,
        snr_range_db: tuple[float, float] = SNR_RANGE_DB,
    ):
        low, high = snr_range_db if len(snr_range_db) == 2 else (np.nan, np.nan)
        if not -100 <= low <= high <= 100:
            raise InputError(
                f"snr_range_db is {list(snr_range_db)}; give two numbers "
                "[low, high] between -100 and 100, the lower one first"
            )
        self.root = corpus.root
        self.sample_rate = sample_rate
        self.snr_range_db = (float(low), float(high))
        self.recordings = [
            recording
            for recordings in corpus.speakers.values()
            for recording in recordings
        ]
        durations = np.array(
            [
                recording.num_frames / recording.sample_rate
                for recording in self.recordings
            ]
        )
        self._weights = durations / durations.sum()

    def draw(
        self, rng: np.random.Generator, num_frames: int
    ) -> tuple[NoisePlan, torch.Tensor]:
        """Draws noise for one mixture.

        Arguments
        ---------
        rng : numpy.random.Generator
            What is drawn depends on its state and the corpus alone.
        num_frames : int
            Samples of the mixture.

        Returns
        -------
        NoisePlan
            A window of a recording; a recording that is shorter than the
            mixture is repeated.
        torch.Tensor
            Its samples as recorded, ``[num_frames]``.

        Raises
        ------
        InputError
            If all windows drawn are silent, or a file is unusable.
        """
        snr_db = round(float(rng.uniform(*self.snr_range_db)), 4)
        for _ in range(MAX_TRIES):
            chosen = rng.choice(len(self.recordings), p=self._weights)
            pieces = self._fit(rng, self.recordings[chosen], num_frames)
            signal = read_pieces(pieces, self.sample_rate)
            if float(compute_amplitude(signal, scale="dB")) >= SILENCE_DB:
                return NoisePlan(pieces, snr_db), signal
        raise InputError(
            f"{self.root}: {MAX_TRIES} windows of noise are all silent "
            f"(below {SILENCE_DB:g} dB)"
        )

    def _fit(
        self, rng: np.random.Generator, recording: Utterance, num_frames: int
    ) -> tuple[Piece, ...]:
        total = resampled_length(recording, self.sample_rate)
        if total >= num_frames:
            start = int(rng.integers(total - num_frames + 1))
            return (Piece(recording, start, num_frames),)
        # From somewhere in it to its end, then from its beginning on.
        start = int(rng.integers(total))
        pieces = []
        while num_frames:
            taken = min(total - start, num_frames)
            pieces.append(Piece(recording, start, taken))
            num_frames -= taken
            start = 0
        return tuple(pieces)
