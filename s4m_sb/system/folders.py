"""Temporary folders, which nobody leaves behind, killed or not."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

fcntl: Any
try:
    import fcntl
except ImportError:  # Windows: nothing that was left is removed there
    fcntl = None


@contextlib.contextmanager
def own_folder(prefix: str) -> Iterator[Path]:
    """Makes a folder for temporary files; removes it in the end.

    Those that processes left when they were killed are removed first: a
    folder is locked as long as its process lives, in whatever container.

    Arguments
    ---------
    prefix : str
        How its name begins, and those of the ones that may have been left.

    Yields
    ------
    Path
        The folder, which no other user can read.

    Raises
    ------
    OSError
        If it cannot be made.

    Example
    -------
    >>> with own_folder("s4m-example-") as folder:
    ...     _ = (folder / "upload.wav").write_bytes(b"")
    >>> folder.exists()
    False
    """
    _remove_left(prefix)
    folder, held = _begin(prefix)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if held is not None:
            os.close(held)


def _begin(prefix: str) -> tuple[Path, int | None]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix))
        if fcntl is None:
            return folder, None
        try:
            held = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:
            continue
        with contextlib.suppress(OSError):  # some file systems have no locks
            fcntl.flock(held, fcntl.LOCK_EX)
        if folder.exists():
            return folder, held
        os.close(held)  # taken for one that was left, and removed


def _remove_left(prefix: str) -> None:
    if fcntl is None:
        return
    for folder in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        # Gone, somebody else's, a link, locked, or where no locks are.
        with contextlib.suppress(OSError):
            held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(held).st_uid == os.geteuid():
                    shutil.rmtree(folder)
            finally:
                os.close(held)
