"""Processes that are ended from outside, and what is left of their group."""

import contextlib
import os
import signal
import subprocess
import time


def group_lives(group):
    """Whether a process of the group has not ended."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def interruptible():
    """A shell that starts tests in the background has SIGINT ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextlib.contextmanager
def begun(command, **options):
    """A process with a group of its own, of which nothing stays."""
    process = subprocess.Popen(
        command, start_new_session=True, preexec_fn=interruptible, **options
    )
    try:
        yield process
    finally:
        if group_lives(process.pid):
            os.killpg(process.pid, signal.SIGKILL)
        if process.stdout is not None:
            process.stdout.close()


def kill_first(process, within_s=60):
    """Kills it alone: the others of its group have to notice on their own."""
    process.kill()
    process.wait()
    deadline = time.monotonic() + within_s
    while group_lives(process.pid):
        assert time.monotonic() < deadline
        time.sleep(0.02)
