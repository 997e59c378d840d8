"""Who may speak in a mixture, and how often.

Of a corpus, ``drawing.py`` draws those speakers who have said enough, by
their weights; one whose windows are all silent is told of once.
"""

import logging

import numpy as np
import torch

from s4m_sb.errors import InputError
from s4m_sb.mixing.corpus import Corpus, Utterance, resampled_length
from s4m_sb.mixing.options import MixingOptions

logger = logging.getLogger(__name__)

Spoken = tuple[Utterance, ...]


class Speakers:
    """The speakers of a corpus who can be drawn.

    Arguments
    ---------
    corpus : Corpus
        Who speaks.
    options : MixingOptions
        How much one must have said, and how often who is drawn.

    Raises
    ------
    InputError
        If there are too few.

    Example
    -------
    >>> from pathlib import Path
    >>> said = {
    ...     name: (Utterance(f"{name}.wav", name, 8000 * seconds, 8000),)
    ...     for name, seconds in (("anna", 3), ("ben", 2), ("eva", 1))
    ... }
    >>> options = MixingOptions(
    ...     num_spks=2, sample_rate=8000, segment_s=2, join_short=True
    ... )
    >>> speakers = Speakers(Corpus(Path("speech"), said), options)
    >>> [spoken[0].speaker for spoken in speakers.spoken]
    ['anna', 'ben']
    >>> sorted(speakers.draw(np.random.default_rng(0), without=[]))
    [0, 1]
    """

    def __init__(self, corpus: Corpus, options: MixingOptions):
        self.root = corpus.root
        self.options = options
        self.spoken = self._enough(corpus)
        self._weights = self._weigh()
        # Whose silence was told of; shared, so that workers tell it once.
        self._told = torch.zeros(
            len(self.spoken), dtype=torch.bool
        ).share_memory_()

    def draw(self, rng: np.random.Generator, without: list[int]) -> list[int]:
        """Draws the speakers of one mixture.

        Arguments
        ---------
        rng : numpy.random.Generator
            Decides.
        without : list[int]
            Those who have turned out to be silent.

        Returns
        -------
        list[int]
            Numbers in ``spoken``, all different.

        Raises
        ------
        InputError
            If too few are left.
        """
        weights, num_spks = self._weights, self.options.num_spks
        if without:
            if len(self.spoken) - len(without) < num_spks:
                names = [self.spoken[i][0].speaker for i in sorted(without)]
                raise InputError(
                    f"{self.root}: the windows drawn from {len(without)} of "
                    f"{len(self.spoken)} speakers ({', '.join(names)}) are "
                    f"all silent (below {self.options.silence_db:g} dB); a "
                    f"mixture of {num_spks} speakers needs as many who speak"
                )
            weights = weights.copy()
            weights[without] = 0
            weights /= weights.sum()
        return rng.choice(
            len(self.spoken), num_spks, replace=False, p=weights
        ).tolist()

    def tell_of_silence(self, speaker: int, num_windows: int) -> None:
        """Warns, the first time, of a speaker whose windows are all silent.

        Arguments
        ---------
        speaker : int
            Number in ``spoken``.
        num_windows : int
            How many were drawn.
        """
        if self._told[speaker]:
            return
        self._told[speaker] = True
        first = self.spoken[speaker][0]
        logger.warning(
            f"{first.path}: {num_windows} windows drawn from speaker "
            f"{first.speaker!r} are all silent (below "
            f"{self.options.silence_db:g} dB); other speakers are drawn instead"
        )

    def _enough(self, corpus: Corpus) -> list[Spoken]:
        options = self.options
        num_frames, rate = options.num_frames, options.sample_rate
        speakers = list(corpus.speakers.values())
        if num_frames is None or not options.join_short:
            shortest_s = options.min_utterance_s
            speakers = [
                tuple(
                    u
                    for u in said
                    if u.num_frames >= shortest_s * u.sample_rate
                )
                for said in speakers
            ]
            speakers = [said for said in speakers if said]
            enough = f" with utterances of {shortest_s:g} s or more"
        else:
            if options.conversation is not None:
                num_frames = round(
                    num_frames * options.conversation.least_share
                )
            fastest = options.speed_range[1] if options.speed_range else 1.0
            speakers = [
                said
                for said in speakers
                if sum(resampled_length(u, rate, fastest) for u in said)
                >= num_frames
            ]
            enough = f" with {num_frames / rate:g} s of speech or more"
        left_out = len(corpus.speakers) - len(speakers)
        if left_out:
            logger.info(
                f"{corpus.root}: {len(speakers)} of {len(corpus.speakers)} "
                f"speakers{enough}, the other {left_out} left out"
            )
        elif not options.join_short:
            enough = ""
        if len(speakers) < options.num_spks:
            raise InputError(
                f"{corpus.root}: holds {len(speakers)} speakers{enough}; a "
                f"mixture of {options.num_spks} speakers needs as many"
            )
        return speakers

    def _weigh(self) -> np.ndarray:
        weights = {
            "utterances": lambda said: float(len(said)),
            "duration": lambda said: sum(
                u.num_frames / u.sample_rate for u in said
            ),
            "uniform": lambda said: 1.0,
        }[self.options.speaker_weights]
        each = [weights(said) for said in self.spoken]
        return np.array(each) / sum(each)
