"""Where to compute, as people name it."""

import torch

from s4m_sb.errors import InputError, first_line


def check_device(name: str) -> None:
    """Refuses a device that cannot be used, before any work is done.

    Arguments
    ---------
    name : str
        As PyTorch names devices, such as ``cpu`` or ``cuda:1``.

    Raises
    ------
    InputError
        If there is no such device.

    Example
    -------
    >>> check_device("cpu")
    >>> check_device("abacus")
    Traceback (most recent call last):
    s4m_sb.errors.InputError: --device abacus: ...
    """
    try:
        torch.zeros(1, device=name).cpu()
    except (RuntimeError, AssertionError) as error:
        sentence = first_line(error).split(". ")[0]
        if sentence.startswith("Expected one of"):  # 20 kinds
            sentence = "no such kind of device"
        raise InputError(
            f"--device {name}: {sentence.rstrip('.!')}; cpu is everywhere, "
            "cuda is an NVIDIA GPU"
        ) from error
