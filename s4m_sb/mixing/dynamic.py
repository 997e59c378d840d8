"""Training mixtures drawn on the fly, a data set in SpeechBrain's pipeline.

The mixture is a function of (seed, epoch, index), so it is the same for any
number of workers, and ranks that take different indices take different
mixtures. Where the ranks do not divide the epoch, PyTorch's
``DistributedSampler`` gives a few indices twice. ``training/brain.py`` tells
it the epoch; ``drawing.py`` draws, over noise and in rooms if there are any.
"""

import os
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from speechbrain.dataio.dataset import DynamicItemDataset

from s4m_sb.errors import InputError
from s4m_sb.mixing.conversation import conversation as as_conversation
from s4m_sb.mixing.corpus import read_corpus
from s4m_sb.mixing.decoded import decoded
from s4m_sb.mixing.drawing import MIN_UTTERANCE_S, MixtureDrawer, Rooms
from s4m_sb.mixing.noise import SNR_RANGE_DB, NoiseDrawer
from s4m_sb.mixing.rendering import Mixture

TARGETS = ("anechoic", "reverb")


class DynamicMixing(DynamicItemDataset):
    """A data set of mixtures that are new in every epoch.

    It gives ``id``, ``mix_sig`` ``[T]`` and the targets ``s1_sig``,
    ``s2_sig``, ... ``[T]``; in rooms with anechoic targets also
    ``s1_image_sig``, ..., the sources as they are in the mixture. What they
    leave of it is the noise. The data set goes wherever a
    ``DynamicItemDataset`` goes; further dynamic items can be added. In
    distributed training SpeechBrain divides the indices over the ranks.

    Arguments
    ---------
    source : str
        A folder with one folder a speaker, or a manifest; see
        ``corpus.read_corpus``. The ``speech.csv`` of a data set made by
        ``s4m mix``, with the split ``train``, keeps to the speakers who are
        in none of its mixtures for validation and test.
    num_mixtures : int
        Mixtures in an epoch.
    num_spks : int
        Speakers in a mixture.
    sample_rate : int
        In Hz; files at other rates are resampled.
    segment_s : float, optional
        Length of a mixture in seconds; by default that of the shortest
        utterance in it.
    seed : int
        At least 0.
    split : str, optional
        Which split of the source; by default all of it.
    speaker_from : str
        ``"folder"``, or ``"wsj0"`` for the speaker codes of WSJ0's files.
    join_short : bool
        Fill ``segment_s`` with several utterances of a speaker.
    level_range_db : tuple[float, float], optional
        Relative levels, uniform in dB; by default SpeechBrain's statistics.
    speaker_weights : str
        ``"utterances"``, ``"duration"`` or ``"uniform"``.
    speed_range : tuple[float, float], optional
        Random speed of every speaker, e.g. ``[0.95, 1.05]``.
    silence_db : float
        Windows below this mean absolute amplitude are drawn again.
    min_utterance_s : float
        Shorter utterances are left out, unless they are joined.
    noise : str, optional
        A folder of noise, or a manifest; see ``corpus.read_corpus``.
    noise_split : str, optional
        Which split of the noise; by default all of it.
    snr_range_db : tuple[float, float]
        Loudness of the loudest speaker over the noise; by default WHAM!'s.
    rooms : Rooms, optional
        Puts every mixture into a room, see ``room_cache.CachedRooms``.
    target : str
        ``"anechoic"``: the direct sound of each speaker in the room;
        ``"reverb"``: all that arrives from them. The same without rooms.
    noise_probability : float
        How often a mixture has noise; 1 for always, and if ``noise`` is None.
    room_probability : float
        How often a mixture is in a room, likewise.
    filter_range_db : tuple[float, float], optional
        A random channel of every speaker: gains in dB at 125 Hz and its
        octaves, e.g. ``[-6, 6]``. The targets have come through it.
    conversation : mapping, optional
        Draws conversations: the arguments of ``conversation.Conversation`` by
        name, e.g. ``{solo: 0.2, turns: 0.4}``.
    cache : str, optional
        A folder for decoded files, see ``decoded.py``. The mixtures are the
        same, and faster drawn.

    Raises
    ------
    InputError
        If a value is out of its range, or the source is unusable.

    Example
    -------
    >>> from s4m_sb.audio.files import write_audio
    >>> folder = getfixture("tmp_path")
    >>> noise = torch.rand(2, 8000) - 0.5
    >>> write_audio(folder / "anna" / "1.wav", noise[0], 8000)
    >>> write_audio(folder / "ben" / "1.wav", noise[1], 8000)
    >>> mixtures = DynamicMixing(
    ...     folder, num_mixtures=10, num_spks=2, sample_rate=8000, segment_s=0.5
    ... )
    >>> len(mixtures), list(mixtures[0])
    (10, ['id', 'mix_sig', 's1_sig', 's2_sig'])
    >>> in_first_epoch = mixtures[0]["mix_sig"]
    >>> mixtures.set_epoch(2)
    >>> torch.equal(mixtures[0]["mix_sig"], in_first_epoch)
    False
    """

    def __init__(
        self,
        source: str | os.PathLike,
        num_mixtures: int,
        num_spks: int,
        sample_rate: int,
        segment_s: float | None = None,
        seed: int = 0,
        split: str | None = None,
        speaker_from: str = "folder",
        join_short: bool = False,
        level_range_db: tuple[float, float] | None = None,
        speaker_weights: str = "utterances",
        speed_range: tuple[float, float] | None = None,
        silence_db: float = -60.0,
        min_utterance_s: float = MIN_UTTERANCE_S,
        noise: str | os.PathLike | None = None,
        noise_split: str | None = None,
        snr_range_db: tuple[float, float] = SNR_RANGE_DB,
        rooms: Rooms | None = None,
        target: str = "anechoic",
        noise_probability: float = 1.0,
        room_probability: float = 1.0,
        filter_range_db: tuple[float, float] | None = None,
        conversation: Mapping | None = None,
        cache: str | os.PathLike | None = None,
    ):
        if num_mixtures < 1:
            raise InputError(f"num_mixtures is {num_mixtures}; give at least 1")
        if seed < 0:
            raise InputError(f"seed is {seed}; give at least 0")
        if target not in TARGETS:
            raise InputError(
                f"target is {target!r}; use one of {', '.join(TARGETS)}"
            )
        noise_drawer = None
        if noise is not None:
            corpus = read_corpus(noise, noise_split, "file", "noise")
            if cache is not None:
                corpus = decoded(corpus, cache)
            noise_drawer = NoiseDrawer(corpus, sample_rate, snr_range_db)
        speech = read_corpus(source, split, speaker_from)
        if cache is not None:
            speech = decoded(speech, cache)
        self.seed = seed
        self.target = target
        self.drawer = MixtureDrawer(
            speech,
            num_spks,
            sample_rate,
            segment_s=segment_s,
            join_short=join_short,
            level_range_db=level_range_db,
            speaker_weights=speaker_weights,
            speed_range=speed_range,
            silence_db=silence_db,
            min_utterance_s=min_utterance_s,
            noise=noise_drawer,
            rooms=rooms,
            noise_probability=noise_probability,
            room_probability=room_probability,
            filter_range_db=filter_range_db,
            conversation=as_conversation(conversation),
        )
        # Shared, because workers that live on have a copy of everything else.
        self._epoch = torch.ones(1, dtype=torch.int64).share_memory_()
        numbers = range(1, num_spks + 1)
        signals = ["mix_sig", *(f"s{number}_sig" for number in numbers)]
        self._has_images = rooms is not None and target == "anechoic"
        if self._has_images:
            signals += [f"s{number}_image_sig" for number in numbers]
        digits = len(str(num_mixtures - 1))
        super().__init__(
            {f"{i:0{digits}d}": {"index": i} for i in range(num_mixtures)},
            output_keys=["id", *signals],
        )
        self.add_dynamic_item(self._signals, takes="index", provides=signals)

    def set_epoch(self, epoch: int) -> None:
        """Makes the mixtures those of another epoch, also in the workers.

        Arguments
        ---------
        epoch : int
            From 0 on; a new data set is at 1, SpeechBrain's first epoch.

        Raises
        ------
        InputError
            If the epoch is below 0.
        """
        if epoch < 0:
            raise InputError(f"epoch is {epoch}; give at least 0")
        self._epoch.fill_(epoch)

    def draw(self, index: int) -> Mixture:
        """Draws a mixture of the present epoch, with its plan.

        Arguments
        ---------
        index : int
            From 0 to ``num_mixtures`` - 1.

        Returns
        -------
        Mixture
            Signals and where they come from.

        Raises
        ------
        InputError
            If too few speakers have more to say than silence, or a file is
            unusable.
        """
        seeds = [self.seed, int(self._epoch), index]
        return self.drawer.draw(np.random.default_rng(seeds))

    def _signals(self, index: int) -> Iterator[torch.Tensor]:
        drawn = self.draw(index)
        yield drawn.mixture
        dry = self.target == "anechoic"
        yield from (drawn.sources if dry else drawn.images).T.contiguous()
        if self._has_images:
            yield from drawn.images.T.contiguous()
