"""The files below a folder."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn


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
