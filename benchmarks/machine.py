"""What stands beside a figure: on which machine, at which commit.

Above this file: `quality.py`, `speed.py`.
"""

import platform
import subprocess
from pathlib import Path

import torch


def machine(device: str, threads: int) -> str:
    """What the processor calls itself, and how many threads it has.

    Arguments
    ---------
    device : str
        ``cpu``, ``cuda`` or ``cuda:<number>``.
    threads : int
        Of a CPU.

    Returns
    -------
    str
        One line.
    """
    if device != "cpu":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.split(":")[1] for line in lines if "model name" in line]
    name = " ".join((names or [platform.machine()])[0].split())
    return f"{name}, threads: {threads}"


def commit() -> str:
    """Of the repository, as `` (0123456)``; empty outside of one."""
    folder = Path(__file__).resolve().parent
    try:
        found = subprocess.run(
            ["git", "-C", folder, "rev-parse", "--short", "HEAD"],
            capture_output=True,
            text=True,
        )
    except OSError:
        return ""
    return f" ({found.stdout.strip()})" if found.returncode == 0 else ""
