"""Noise for mixtures: which recording, which window of it, how loud.

``drawing.py`` draws it for each mixture. Noise is fitted to the speech, cut
or repeated, never the other way round.
"""

from dataclasses import dataclass

import numpy as np
import torch
from speechbrain.processing.signal_processing import compute_amplitude

from s4m_sb.errors import InputError
from s4m_sb.mixing.corpus import Corpus, Utterance, resampled_length
from s4m_sb.mixing.plans import NoisePlan, Piece, pieces_from
from s4m_sb.mixing.ranges import check_range, check_share, happens
from s4m_sb.mixing.rendering import read_pieces

SNR_RANGE_DB = (-6.0, 3.0)  # of WHAM!
SILENCE_DB = -78.0  # mean absolute amplitude below which nothing was recorded
MAX_TRIES = 50


@dataclass(frozen=True, kw_only=True)
class NoiseOptions:
    """The options of noise, among those of mixtures.

    Arguments
    ---------
    snr_range_db : tuple[float, float]
        Loudness of the loudest speaker over the noise, drawn uniformly from
        this range in dB; by default WHAM!'s.
    noise_probability : float
        How often a mixture has noise; 1 for always, and if there is none.
        What is said is the same as without.

    Raises
    ------
    InputError
        If a value is out of its range.
    """

    snr_range_db: tuple[float, float] = SNR_RANGE_DB
    noise_probability: float = 1.0

    def __post_init__(self):
        check_range("snr_range_db", self.snr_range_db, -100.0, 100.0)
        check_share("noise_probability", self.noise_probability)


class NoiseDrawer:
    """Draws windows of noise.

    Arguments
    ---------
    corpus : Corpus
        The recordings, read with ``speaker_from="file"``; long ones are
        drawn more often, in proportion to their duration.
    sample_rate : int
        Of the mixtures, in Hz.
    options : NoiseOptions
        How loud, and how often.
    """

    def __init__(
        self,
        corpus: Corpus,
        sample_rate: int,
        options: NoiseOptions = NoiseOptions(),
    ):
        self.root = corpus.root
        self.sample_rate = sample_rate
        self.options = options
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
    ) -> tuple[NoisePlan, torch.Tensor] | tuple[None, None]:
        """Draws noise for one mixture, or that it has none.

        Arguments
        ---------
        rng : numpy.random.Generator
            What is drawn depends on its state and the corpus alone.
        num_frames : int
            Samples of the mixture.

        Returns
        -------
        NoisePlan or None
            A window of a recording; a recording that is shorter than the
            mixture is repeated.
        torch.Tensor or None
            Its samples as recorded, ``[num_frames]``.

        Raises
        ------
        InputError
            If all windows drawn are silent, or a file is unusable.
        """
        if not happens(rng, self.options.noise_probability):
            return None, None
        snr_db = round(float(rng.uniform(*self.options.snr_range_db)), 4)
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
        long_enough = total >= num_frames
        start = rng.integers(total - num_frames + 1 if long_enough else total)
        pieces, _ = pieces_from(
            [recording], (0, int(start)), num_frames, self.sample_rate
        )
        return pieces
