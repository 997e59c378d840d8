"""The files below a folder."""

import os
from collections.abc import Iterator
from pathlib import Path


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

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> (folder / "deep").mkdir()
    >>> (folder / "deep" / "A.WAV").touch()
    >>> [path.name for path in files_below(folder, (".wav", ".flac"))]
    ['A.WAV']
    """
    seen = set()
    for place, subfolders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:  # a link back up
            subfolders.clear()
            continue
        seen.add(real)
        for name in names:
            if not name.startswith(".") and name.lower().endswith(suffixes):
                yield Path(place, name)
