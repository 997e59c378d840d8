"""Speech and noise for each split of a data set, no voice or noise in two.

``making.py`` draws from them; ``mixing/corpus.py`` reads them.
"""

import logging
import os
from collections.abc import Collection
from pathlib import Path

import numpy as np

from s4m_sb.errors import InputError
from s4m_sb.mixing.corpus import Corpus, read_corpus, source_splits
from s4m_sb.mixing.datasets.layout import SPLITS

logger = logging.getLogger(__name__)

SPLIT_NAMES = {"train": "tr", "valid": "cv", "test": "tt"}
HELD_OUT = 0.1  # share of the speakers or of the noise for cv, and for tt
DIVISION = len(SPLITS)  # seeds the division; splits are seeded by 0, 1 and 2


def speech_splits(
    speech: Path,
    speaker_from: str,
    needed: Collection[str],
    num_spks: int,
    seed: int,
) -> dict[str, Corpus]:
    """Reads the speech of every split.

    Arguments
    ---------
    speech : Path
        A folder or a manifest, see ``corpus.read_corpus``. The splits are
        those of the manifest's column ``split``, or folders ``train``,
        ``valid`` and ``test`` (or ``tr``, ``cv``, ``tt``) that hold the
        speakers' folders; where there are none, a tenth of the speakers
        goes to ``cv`` and another tenth to ``tt``.
    speaker_from : str
        ``"folder"`` or ``"wsj0"``.
    needed : collection of str
        The splits that cannot be missing, of ``SPLITS``.
    num_spks : int
        Speakers that a split must have at least where they are divided.
    seed : int
        Of the division.

    Returns
    -------
    dict[str, Corpus]
        By split; those that are not needed may be missing.

    Raises
    ------
    InputError
        If the speech is unusable or a split is missing.
    """
    corpora = _splits(speech, "speech", speaker_from, needed, num_spks, seed)
    _warn_of_shared_speakers(corpora)
    return corpora


def noise_splits(
    noise: Path, needed: Collection[str], seed: int
) -> dict[str, Corpus]:
    """Reads the noise of every split.

    Arguments
    ---------
    noise : Path
        A folder, or a manifest whose column ``kind``, if it has one, says
        ``noise``. The splits are those of the manifest's column ``split``,
        or folders ``train``, ``valid`` and ``test`` (or ``tr``, ``cv``,
        ``tt``); where there are none, a tenth of the recordings goes to
        ``cv`` and another tenth to ``tt``, at least one to each.
    needed : collection of str
        The splits that cannot be missing, of ``SPLITS``.
    seed : int
        Of the division.

    Returns
    -------
    dict[str, Corpus]
        By split; those that are not needed may be missing.

    Raises
    ------
    InputError
        If the noise is unusable, a split is missing, or a recording is in
        two splits.

    Example
    -------
    >>> import torch
    >>> from s4m_sb.audio.files import write_audio
    >>> folder = getfixture("tmp_path")
    >>> for number in range(20):
    ...     write_audio(folder / f"{number}.wav", torch.ones(80), 8000)
    >>> divided = noise_splits(folder, ["tr", "cv", "tt"], seed=0)
    >>> [(split, len(c.speakers)) for split, c in divided.items()]
    [('tr', 16), ('cv', 2), ('tt', 2)]
    """
    corpora = _splits(noise, "noise", "file", needed, 1, seed)
    _refuse_shared_recordings(noise, corpora)
    return corpora


def _splits(
    source: Path,
    kind: str,
    speaker_from: str,
    needed: Collection[str],
    least: int,
    seed: int,
) -> dict[str, Corpus]:
    names = _split_names(source, kind, needed)
    if not names:
        corpus = read_corpus(source, speaker_from=speaker_from, kind=kind)
        what = "speakers" if kind == "speech" else "recordings"
        return _divide(corpus, what, least, seed)
    corpora = {}
    for split in SPLITS:
        if split not in names:
            continue
        try:
            corpora[split] = read_corpus(
                source, names[split], speaker_from, kind
            )
        except InputError as error:
            if split in needed:
                raise
            logger.warning(f"{kind}.csv goes without {split}: {error}")
    return corpora


def _split_names(
    source: Path, kind: str, needed: Collection[str]
) -> dict[str, str]:
    """What the source calls each split; nothing where it has no splits."""
    known = {name: name for name in SPLITS} | SPLIT_NAMES
    names: dict[str, str] = {}
    there = source_splits(source, kind)
    for name in sorted(there & set(known)):
        if known[name] in names:
            raise InputError(
                f"{source}: has both {names[known[name]]!r} and {name!r}; "
                "keep one of them"
            )
        names[known[name]] = name
    others = sorted(there - set(known))
    if names and others:
        shown = ", ".join(repr(name) for name in others[:3])
        logger.warning(
            f"{source}: the {kind} of {len(others)} other splits is left out "
            f"({shown}); {', '.join(names.values())} are taken"
        )
    for split in SPLITS:
        if names and split in needed and split not in names:
            raise InputError(
                f"{source}: has the splits {', '.join(names.values())} but "
                f"none for {split}; add it, or ask for 0 mixtures of it"
            )
    return names


def _divide(
    corpus: Corpus, what: str, least: int, seed: int
) -> dict[str, Corpus]:
    speakers = list(corpus.speakers)
    held_out = max(least, round(HELD_OUT * len(speakers)))
    if len(speakers) < 2 * held_out + least:
        raise InputError(
            f"{corpus.root}: holds {len(speakers)} {what}; to divide them "
            f"into tr, cv and tt, at least {3 * least} are needed"
        )
    order = np.random.default_rng([seed, DIVISION]).permutation(len(speakers))
    bounds = {
        "cv": slice(0, held_out),
        "tt": slice(held_out, 2 * held_out),
        "tr": slice(2 * held_out, None),
    }
    return {
        split: Corpus(
            corpus.root,
            {
                speakers[i]: corpus.speakers[speakers[i]]
                for i in sorted(order[bounds[split]])
            },
        )
        for split in SPLITS
    }


def _warn_of_shared_speakers(corpora: dict[str, Corpus]) -> None:
    splits = list(corpora)
    for i, first in enumerate(splits):
        for second in splits[i + 1 :]:
            shared = sorted(
                corpora[first].speakers.keys() & corpora[second].speakers
            )
            if shared:
                logger.warning(
                    f"{first} and {second} share {len(shared)} speakers "
                    f"({', '.join(shared[:3])}, ...); scores on {second} will "
                    "not tell how unknown voices are separated"
                )


def _refuse_shared_recordings(noise: Path, corpora: dict[str, Corpus]) -> None:
    found: dict[str, str] = {}
    for split, corpus in corpora.items():
        for recordings in corpus.speakers.values():
            for recording in recordings:
                path = os.path.realpath(recording.path)
                other = found.setdefault(path, split)
                if other != split:
                    raise InputError(
                        f"{noise}: {recording.path} is in {other} and in "
                        f"{split}; keep noise in one split"
                    )
