"""Training mixtures drawn on the fly, a data set in SpeechBrain's pipeline.

The mixture is a function of (seed, epoch, index), so it is the same for any
number of workers, and ranks that take different indices take different
mixtures. Where the ranks do not divide the epoch, PyTorch's
``DistributedSampler`` gives a few indices twice. ``training/brain.py`` tells
it the epoch; ``drawing.py`` draws, over noise and in rooms if there are any.
"""

import os
from collections.abc import Iterator

import numpy as np
import torch
from speechbrain.dataio.dataset import DynamicItemDataset

from s4m_sb.errors import InputError
from s4m_sb.mixing.corpus import read_corpus
from s4m_sb.mixing.decoded import decoded
from s4m_sb.mixing.drawing import MixtureDrawer, Rooms
from s4m_sb.mixing.options import MixingOptions
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
    options : MixingOptions
        What they are like.
    seed : int
        At least 0.
    split : str, optional
        Which split of the source; by default all of it.
    speaker_from : str
        ``"folder"``, or ``"wsj0"`` for the speaker codes of WSJ0's files.
    noise : str, optional
        A folder of noise, or a manifest; see ``corpus.read_corpus``.
    noise_split : str, optional
        Which split of the noise; by default all of it.
    rooms : Rooms, optional
        Puts mixtures into rooms, see ``room_cache.CachedRooms``.
    target : str
        ``"anechoic"``: the direct sound of each speaker in the room;
        ``"reverb"``: all that arrives from them. The same without rooms.
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
    >>> options = MixingOptions(num_spks=2, sample_rate=8000, segment_s=0.5)
    >>> mixtures = DynamicMixing(folder, num_mixtures=10, options=options)
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
        options: MixingOptions,
        seed: int = 0,
        split: str | None = None,
        speaker_from: str = "folder",
        noise: str | os.PathLike | None = None,
        noise_split: str | None = None,
        rooms: Rooms | None = None,
        target: str = "anechoic",
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
        speech = read_corpus(source, split, speaker_from)
        heard = None
        if noise is not None:
            heard = read_corpus(noise, noise_split, "file", "noise")
        if cache is not None:
            speech = decoded(speech, cache)
            heard = None if heard is None else decoded(heard, cache)
        self.seed = seed
        self.target = target
        self.drawer = MixtureDrawer(speech, options, heard, rooms)
        # Shared, because workers that live on have a copy of everything else.
        self._epoch = torch.ones(1, dtype=torch.int64).share_memory_()
        numbers = range(1, options.num_spks + 1)
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
