"""Files that exist whole or not at all."""

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path


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
