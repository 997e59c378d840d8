"""Reading a network's parameters from a file, all of them or none."""

import os

import torch
from torch import nn

from s4m_sb.errors import InputError, first_line, one_line


def load_parameters(module: nn.Module, path: str | os.PathLike) -> dict:
    """Loads a checkpoint into a module.

    Every parameter must be there and fit: what SpeechBrain's loader does not
    find, it leaves at random.

    Arguments
    ---------
    module : nn.Module
        Gets the parameters.
    path : str or os.PathLike
        A state dict that ``torch.save`` has written.

    Returns
    -------
    dict
        The state dict, on the CPU.

    Raises
    ------
    InputError
        If the file is missing, is no checkpoint, or does not fit.

    Example
    -------
    >>> path = getfixture("tmp_path") / "linear.ckpt"
    >>> torch.save(nn.Linear(3, 2).state_dict(), path)
    >>> list(load_parameters(nn.Linear(3, 2), path))
    ['weight', 'bias']
    """
    if not os.path.isfile(path):
        raise InputError(f"{path}: no such checkpoint")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle, zip and torch each have their own
        raise InputError(
            f"{path}: is no PyTorch checkpoint ({first_line(error)})"
        ) from error
    try:
        module.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        reason = one_line(error)
        raise InputError(f"{path}: does not fit: {reason}") from error
    return state
