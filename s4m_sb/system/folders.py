"""The files below a folder."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

# A local model's files may be links into the Hub's cache, where a model that
# was fetched lies: models--OWNER--NAME/blobs/HASH.
HUB_FILE = re.compile(r"/models--[^/]+/blobs/[0-9a-f]+$")


def files_below(folder: Path, suffixes: tuple[str, ...]) -> Iterator[Path]:
    """Finds files, at any depth and behind links, each folder once.

    Arguments
    ---------
    folder : Path
        Where to look.
    suffixes : tuple[str, ...]
        How their names end, in lower case; the names may be in upper case.

    Yields
    ------
    Path
        The files, in no order, without hidden ones.

    Raises
    ------
    OSError
        If a folder cannot be read.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> (folder / "deep").mkdir()
    >>> (folder / "deep" / "A.WAV").touch()
    >>> [path.name for path in files_below(folder, (".wav", ".flac"))]
    ['A.WAV']
    """

    def fail(error: OSError) -> NoReturn:  # os.walk would leave it out
        raise error

    seen = set()
    for place, subfolders, names in os.walk(
        folder, onerror=fail, followlinks=True
    ):
        real = os.path.realpath(place)
        if real in seen:  # a link back up
            subfolders.clear()
            continue
        seen.add(real)
        for name in names:
            if not name.startswith(".") and name.lower().endswith(suffixes):
                yield Path(place, name)


def is_inside(path: Path, folder: Path) -> bool:
    """Whether a file is one of a folder's own.

    Arguments
    ---------
    path : Path
        The file; links are followed. It need not exist.
    folder : Path
        The folder.

    Returns
    -------
    bool
        True if it lies in the folder, at any depth, or if it is a link in it
        that leads into a cache of the Hugging Face Hub.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> is_inside(folder / "a.ckpt", folder)
    True
    >>> is_inside(folder / ".." / "a.ckpt", folder)
    False
    """
    real = Path(os.path.realpath(path))
    if real.is_relative_to(os.path.realpath(folder)):
        return True
    return path.parent == folder and bool(HUB_FILE.search(real.as_posix()))
