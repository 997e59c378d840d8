"""Recordings that come through a pipe, and voices that leave through one."""

import contextlib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from s4m_sb.errors import InputError
from s4m_sb.system.folders import own_folder

EXAMPLE = "cat mixture.wav | s4m separate - > voices.wav"


@contextlib.contextmanager
def spooled_stdin() -> Iterator[Path]:
    """Copies standard input into a file, which libsndfile can seek in.

    Yields
    ------
    Path
        The file, named ``stdin``; it is removed in the end.

    Raises
    ------
    InputError
        If standard input is a terminal, closed or empty.
    OSError
        If the disk for temporary files is full.
    """
    if sys.stdin is None:
        raise InputError(f"stdin is closed; give it a recording: {EXAMPLE}")
    if sys.stdin.isatty():
        raise InputError(f"stdin is a terminal; give it a recording: {EXAMPLE}")
    with own_folder("s4m.") as folder:
        path = folder / "stdin"
        try:
            with path.open("wb") as file:
                shutil.copyfileobj(sys.stdin.buffer, file)
        except OSError as error:
            raise OSError(
                error.errno,
                f"{error.strerror}; TMPDIR may name another folder for stdin",
                str(folder),
            ) from error
        if path.stat().st_size == 0:
            raise InputError(
                f"stdin is empty; does what comes before the pipe fail? "
                f"It works like this: {EXAMPLE}"
            )
        yield path


@contextlib.contextmanager
def binary_stdout() -> Iterator[BinaryIO]:
    """Keeps standard output for audio; what is printed goes to stderr.

    Yields
    ------
    BinaryIO
        Where the audio goes.

    Raises
    ------
    InputError
        If standard output is a terminal or closed.
    """
    if sys.stdout is None or sys.stdout.isatty():
        what = "closed" if sys.stdout is None else "a terminal"
        raise InputError(
            f"stdout is {what}; send the voices to a file or a program, as in "
            f"{EXAMPLE}, or give --output DIR"
        )
    stream = sys.stdout.buffer
    with contextlib.redirect_stdout(sys.stderr):
        yield stream
