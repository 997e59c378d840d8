"""Where the signals of a data set lie: WSJ0-mix, WHAM! and WHAMR!.

``<root>/wav8k/min/{tr,cv,tt}/<folder>/<name>.wav``. The folders are those of

- WSJ0-mix for speech alone: ``mix``, ``s1``, ``s2``, ...;
- WHAM! with noise: ``mix_clean`` (all speakers), ``mix_both`` (all speakers
  and noise), ``mix_single`` (the first speaker and noise), ``s1``, ``s2``,
  ..., ``noise``;
- WHAMR! in rooms: the same, each but ``noise`` as ``_anechoic`` (the direct
  sound) and as ``_reverb``; without noise ``mix_clean_*`` and ``s1_*``, ...

``making.py`` writes such data sets.
"""

from typing import NamedTuple

import torch

from s4m_sb.mixing.rendering import Mixture, add

SPLITS = ("tr", "cv", "tt")


class Content(NamedTuple):
    """What the files of a folder are the sum of."""

    speakers: tuple[int, ...]  # from 0
    noise: bool = False
    reverberant: bool = False


def rate_folder(sample_rate: int) -> str:
    """Names the folder of a sample rate.

    Arguments
    ---------
    sample_rate : int
        In Hz.

    Returns
    -------
    str
        The folder's name.

    Example
    -------
    >>> rate_folder(8000), rate_folder(16000)
    ('wav8k', 'wav16k')
    """
    return f"wav{sample_rate / 1000:g}k"


def folders(
    num_spks: int, noise: bool = False, reverb: bool = False
) -> dict[str, Content]:
    """Lists the folders of a split.

    Arguments
    ---------
    num_spks : int
        Speakers in a mixture.
    noise : bool
        Whether there is noise.
    reverb : bool
        Whether the mixtures are in rooms.

    Returns
    -------
    dict[str, Content]
        What is in each.

    Example
    -------
    >>> list(folders(2))
    ['mix', 's1', 's2']
    >>> list(folders(2, noise=True))
    ['mix_clean', 'mix_both', 'mix_single', 's1', 's2', 'noise']
    >>> list(folders(1, reverb=True))
    ['mix_clean_anechoic', 'mix_clean_reverb', 's1_anechoic', 's1_reverb']
    """
    everyone = tuple(range(num_spks))
    clean = "mix_clean" if noise or reverb else "mix"
    parts = {clean: Content(everyone)}
    if noise:
        parts["mix_both"] = Content(everyone, noise=True)
        parts["mix_single"] = Content((0,), noise=True)
    for speaker in everyone:
        parts[f"s{speaker + 1}"] = Content((speaker,))
    if reverb:
        parts = {
            name + suffix: content._replace(reverberant=reverberant)
            for name, content in parts.items()
            for suffix, reverberant in (("_anechoic", False), ("_reverb", True))
        }
    if noise:
        parts["noise"] = Content((), noise=True)
    return parts


def signals(mixture: Mixture) -> dict[str, torch.Tensor]:
    """Makes the signals of a mixture for all its folders.

    Arguments
    ---------
    mixture : Mixture
        With noise and in a room, or not.

    Returns
    -------
    dict[str, torch.Tensor]
        ``[T]`` by folder. Every sum is that of ``rendering.add``, exactly.

    Raises
    ------
    ValueError
        If the noise is missing that the plan has.
    """
    plan = mixture.plan
    table = folders(
        len(plan.sources), plan.noise is not None, plan.room is not None
    )
    return {name: _signal(mixture, table[name]) for name in table}


def _signal(mixture: Mixture, content: Content) -> torch.Tensor:
    noise = None
    if content.noise:
        noise = mixture.noise
        if noise is None:
            raise ValueError("the mixture lacks the noise of its plan")
        if not content.speakers:
            return noise
    parts = mixture.images if content.reverberant else mixture.sources
    return add(parts[:, list(content.speakers)], noise)
