"""Files: written whole or not at all, found below a folder, or inside it."""

import contextlib
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NoReturn

# A local model's files may be links into the Hub's cache, where a model that
# was fetched lies: models--OWNER--NAME/blobs/HASH.
HUB_FILE = re.compile(r"/models--[^/]+/blobs/[0-9a-f]+$")


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Gives a temporary name beside ``path``; renames it on success.

    Whoever reads ``path`` meanwhile sees the old file or the new one, never
    half of either. On an exception the temporary file is removed.

    Arguments
    ---------
    path : str or os.PathLike
        The file to be written. Missing folders above it are made.

    Yields
    ------
    Path
        Where to write; the suffix is that of ``path``.

    Raises
    ------
    OSError
        If it cannot be written, as on a full disk; the error's ``filename``
        is ``path``.

    Example
    -------
    >>> target = getfixture("tmp_path") / "results" / "summary.txt"
    >>> with replacing(target) as temporary:
    ...     _ = temporary.write_text("done")
    >>> target.read_text()
    'done'
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        own = (None, os.fspath(temporary), temporary)
        if error.errno is None or error.filename not in own:
            raise  # of another file, or not of the system
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


def remove_left(paths: Iterable[Path]) -> None:
    """Removes the temporary files of processes that were killed.

    Arguments
    ---------
    paths : iterable of Path
        Names that `replacing` gave; those of a process that is running on
        this machine are left alone.
    """
    for path in paths:
        process = path.name.rpartition(".tmp")[0].rpartition(".")[2]
        if process.isdecimal() and not _is_running(int(process)):
            path.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True


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
