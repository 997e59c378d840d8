"""Recordings decoded once, into a folder of WAV files.

Reading a window of an Ogg file takes longer than all else in a mixture; of a
WAV file it takes next to nothing. The copies are 32-bit float at the rate of
the recording, 230 MB an hour at 16 kHz, so a mixture drawn from them is the
same to the last bit. A copy is named after the path, the size and the time of
its recording, so one that changed is decoded again. Several processes may
fill the folder at once.
"""

import dataclasses
import hashlib
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from s4m_sb.audio.files import read_audio, write_audio
from s4m_sb.errors import InputError
from s4m_sb.mixing.corpus import Corpus, Utterance

logger = logging.getLogger(__name__)

DECODERS = 2  # threads


def decoded(corpus: Corpus, folder: str | os.PathLike) -> Corpus:
    """Decodes what the folder does not have yet.

    Arguments
    ---------
    corpus : Corpus
        The recordings.
    folder : str or os.PathLike
        For the copies; may hold those of other corpora.

    Returns
    -------
    Corpus
        The same recordings, read from the folder.

    Raises
    ------
    InputError
        If a recording is unusable, or the folder cannot be written.

    Example
    -------
    >>> import torch
    >>> from s4m_sb.mixing.corpus import read_corpus
    >>> folder = getfixture("tmp_path")
    >>> write_audio(folder / "speech" / "anna" / "1.wav", torch.ones(9), 8000)
    >>> corpus = decoded(read_corpus(folder / "speech"), folder / "decoded")
    >>> Path(corpus.speakers["anna"][0].path).parent.name
    'decoded'
    """
    place = Path(folder)
    copies = {
        utterance: place / f"{_digest(utterance)}.wav"
        for spoken in corpus.speakers.values()
        for utterance in spoken
    }
    missing = [
        (utterance, copy)
        for utterance, copy in copies.items()
        if not copy.exists()
    ]
    if missing:
        logger.info(f"{place}: decoding {len(missing)} recordings")
    try:
        with ThreadPoolExecutor(DECODERS) as pool:
            list(pool.map(lambda pair: _decode(*pair), missing))
    except OSError as error:
        raise InputError(
            f"{place}: cannot be written ({error.strerror})"
        ) from error
    return Corpus(
        corpus.root,
        {
            speaker: tuple(
                dataclasses.replace(utterance, path=str(copies[utterance]))
                for utterance in spoken
            )
            for speaker, spoken in corpus.speakers.items()
        },
    )


def _decode(utterance: Utterance, copy: Path) -> None:
    signal, rate = read_audio(utterance.path)
    write_audio(copy, signal, rate)


def _digest(utterance: Utterance) -> str:
    path = os.path.abspath(utterance.path)
    status = os.stat(path)
    text = f"{path}\n{status.st_size}\n{status.st_mtime_ns}"
    return hashlib.sha256(text.encode()).hexdigest()[:32]
