"""Programs that are told to end clean up first."""

import contextlib
import signal
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Lets SIGTERM clean up, as an interrupt of the keyboard does.

    In the main thread; in others nothing changes.

    Raises
    ------
    SystemExit
        With the exit code that shells give for the signal, 143.
    """

    def end(number, frame):
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
