"""Freed memory is used again, without faults for its pages."""

import ctypes
import platform
import subprocess
import sys
from types import SimpleNamespace

import pytest

from s4m_sb.system.memory import keep_freed_memory

PROGRAM = """
import resource
import torch
from s4m_sb.system.memory import keep_freed_memory
def count():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def faults():
    least = 2**24
    for _ in range(13):
        before = count()
        torch.ones(2**24)  # 64 MiB, 16384 pages of 4 KiB
        least = min(least, count() - before)
    return least
print(faults(), keep_freed_memory(), faults())
"""


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="only glibc has mallopt"
)
def test_kept_memory_costs_no_page_faults():
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    before, told, after = result.stdout.split()
    assert told == "True"
    # All pages are new without it. The system may take some away between
    # two tensors, but not between any two.
    assert int(after) < int(before) / 2


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux alone")
@pytest.mark.parametrize(
    ("largest", "told"), [(1 << 30, True), (1 << 25, True), (0, False)]
)
def test_what_an_older_glibc_refuses_is_asked_for_in_part(
    monkeypatch, largest, told
):
    kept = {}

    def mallopt(option, size):
        if option == -3 and size > largest:  # M_MMAP_THRESHOLD
            return 0
        kept[option] = size
        return 1

    monkeypatch.setattr(
        ctypes, "CDLL", lambda name: SimpleNamespace(mallopt=mallopt)
    )
    assert keep_freed_memory() is told
    # M_TRIM_THRESHOLD in any case
    assert kept == {-1: 1 << 30, **({-3: largest} if told else {})}
