"""Files: written whole or not at all, found below a folder, or inside it."""

import contextlib
import os
import re
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NoReturn

fcntl: Any
try:
    import fcntl
except ImportError:  # Windows: nothing that was left is removed there
    fcntl = None

TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}\.tmp(\..*)?")

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
    temporary, held = path, None
    try:
        temporary, held = _begin(path)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        own = (None, os.fspath(temporary), temporary)
        if error.errno is None or error.filename not in own:
            raise  # of another file, or not of the system
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error
    finally:
        if held is not None:
            os.close(held)
        if temporary != path:
            temporary.unlink(missing_ok=True)


def remove_left(paths: Iterable[Path]) -> None:
    """Removes the temporary files of processes that were killed.

    Arguments
    ---------
    paths : iterable of Path
        Names that `replacing` gave, among others, which are left alone as
        are those that are being written, on whatever machine or in whatever
        container.
    """
    for path in paths:
        if fcntl is None or not TEMPORARY.fullmatch(path.name):
            continue
        # Gone, somebody else's, locked, or where no locks are.
        with contextlib.suppress(OSError):
            file = os.open(path, os.O_RDWR)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
            finally:
                os.close(file)


def _begin(path: Path) -> tuple[Path, int | None]:
    """Makes a temporary file, which is locked as long as it is written.

    Its name is drawn: the number of a process is that of another one in
    another container. The lock ends with the process, however that ends.
    """
    while True:
        name = f".{path.stem}.{secrets.token_hex(4)}.tmp{path.suffix}"
        temporary = path.with_name(name)
        try:
            file = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            continue
        except OSError as error:  # of a name that nobody has given
            raise OSError(error.errno, error.strerror, os.fspath(path)) from (
                error
            )
        if fcntl is None:
            os.close(file)
            return temporary, None
        with contextlib.suppress(OSError):  # some file systems have no locks
            fcntl.flock(file, fcntl.LOCK_EX)
        if temporary.exists():
            return temporary, file
        os.close(file)  # taken for one that was left, and removed


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
