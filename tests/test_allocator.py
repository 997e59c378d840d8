"""Freed memory is used again, without faults for its pages."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource
import torch
from s4m_sb.allocator import keep_freed_memory
def faults():
    for _ in range(3):
        torch.ones(2**24)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(2**24)  # 64 MiB, 16384 pages of 4 KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
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
    # The system may take pages away meanwhile; without, all are new.
    assert int(after) < int(before) / 2
