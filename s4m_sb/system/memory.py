"""Keeps the C library from giving memory back between large tensors.

glibc asks the system for every large block anew and returns it when it is
freed, so each of the many tensors of a forward pass costs a page fault every
4 KiB. On a CPU that is a fifth of the time of inference and a third of that
of training. Programs may decide about that, libraries should not: the `s4m`
command and the recipes call this, nothing that is imported does.
"""

import ctypes
import sys

# Of <malloc.h>.
M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3
KEPT_BYTES = 1 << 30
OLD_MAX_BYTES = 1 << 25  # of M_MMAP_THRESHOLD, for an older glibc


def keep_freed_memory() -> bool:
    """Lets this process keep up to 1 GiB of freed memory for its next use.

    An older glibc keeps blocks of up to 32 MiB only.

    Returns
    -------
    bool
        Whether the C library has been told: glibc alone understands.
    """
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    kept = mallopt(M_MMAP_THRESHOLD, KEPT_BYTES) or mallopt(
        M_MMAP_THRESHOLD, OLD_MAX_BYTES
    )
    trimmed = mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
    return bool(kept and trimmed)
