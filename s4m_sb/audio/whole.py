"""Whether a recording was cut off, as by a full disk or a broken download.

libsndfile reads such a file as far as it goes without a word; of FLAC it
complains, see ``partial`` in `files.py`.
"""

import os
import re
import struct

import soundfile

from s4m_sb.audio.files import SoundFile

# libsndfile's log, where a chunk says that it is longer than the file.
TOO_SHORT = re.compile(
    r"^ *(data|SSND|riff|Riff size|Data Size) *: (\d+) \(should be (\d+)\)",
    re.MULTILINE,
)
# What programs write for a length when they write into a pipe: about 2 or
# 4 GiB, to the header's length.
PIPE_BYTES = (2**31, 2**32)
PIPE_MARGIN = 2**16
OGG_PAGE_BYTES = 2**16  # a page is shorter
XING_WITHIN = 2**12
ROUNDING_S = 1e-9  # far less than a sample


class CutOffWarning(UserWarning):
    """Of a recording that was cut off, and separated as far as it goes."""


def is_whole(path: str | os.PathLike, seconds: float | None = None) -> bool:
    """Tells whether a file holds all that it says it does.

    Arguments
    ---------
    path : str or os.PathLike
        An audio file.
    seconds : float, optional
        How much of it could be read, if that is known. A FLAC file that says
        how long it is need not be decoded then; others never are.

    Returns
    -------
    bool
        False if it was cut off: the data are shorter than the header says
        (WAV, RF64, W64, AIFF, AU, and MP3 with a Xing header, as encoders
        write it), the last page of an Ogg file is none, or a FLAC file cannot
        be decoded to its end. Of other formats nothing is known: True.

    Raises
    ------
    soundfile.LibsndfileError
        If it is no audio.

    Example
    -------
    >>> import numpy as np
    >>> path = getfixture("tmp_path") / "tone.wav"
    >>> soundfile.write(path, np.zeros(300), 8000)
    >>> is_whole(path)
    True
    >>> _ = path.write_bytes(path.read_bytes()[:-20])
    >>> is_whole(path)
    False
    """
    with SoundFile(path) as file:
        if file.format == "FLAC":
            if seconds is not None and file.seekable():
                return seconds >= file.frames / file.samplerate - ROUNDING_S
            return _can_be_decoded(file)
        log = file.extra_info
    with open(path, "rb") as raw:
        if file.format == "OGG":
            return _has_last_page(raw)
        if file.format in ("MP3", "MPEG"):
            return _has_all_frames(raw)
    return not any(_is_cut(*found) for found in TOO_SHORT.findall(log))


def _can_be_decoded(file: SoundFile) -> bool:
    try:
        return sum(map(len, file.by_blocks())) > 0
    except soundfile.LibsndfileError:
        return False


def _is_cut(chunk: str, said: str, found: str) -> bool:
    missing = int(said) - int(found)
    from_pipe = chunk == "data" and any(
        abs(int(said) - size) <= PIPE_MARGIN for size in PIPE_BYTES
    )
    return missing > 1 and not from_pipe  # 1: a byte that makes it even


def _has_last_page(raw) -> bool:
    size = raw.seek(0, os.SEEK_END)
    raw.seek(max(0, size - OGG_PAGE_BYTES))
    end = raw.read()
    start = end.rfind(b"OggS")
    page = end[start:]
    if start < 0 or len(page) < 27:
        return False
    lengths = page[27 : 27 + page[26]]
    complete = len(page) >= 27 + page[26] + sum(lengths)
    return complete and bool(page[5] & 4)


def _has_all_frames(raw) -> bool:
    size = raw.seek(0, os.SEEK_END)
    raw.seek(0)
    tag = raw.read(10)
    start = 0
    if tag.startswith(b"ID3"):
        length = 0
        for byte in tag[6:10]:  # seven bits each
            length = 128 * length + (byte & 127)
        start = 10 + length
    raw.seek(start)
    head = raw.read(XING_WITHIN)
    places = [head.find(name) for name in (b"Xing", b"Info")]
    place = max(places)
    if place < 0 or not head[place + 7] & 2:
        return True
    place += 8 + 4 * (head[place + 7] & 1)
    (num_bytes,) = struct.unpack(">I", head[place : place + 4])
    return size >= start + num_bytes
