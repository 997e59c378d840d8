"""Functions that `torch.compile` leaves as they are.

Above this file: `network/s4.py`, `network/masknet.py`. Below it: torch alone.
"""

import functools
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import torch

F = TypeVar("F", bound=Callable[..., Any])


def uncompiled(function: F) -> F:
    """Does what `torch.compiler.disable` does, without its cost at import.

    That decorator loads the compiler at once: a second of CPU time in every
    process that loads a model, though next to none compiles one.

    Arguments
    ---------
    function : callable
        A function or method, to be run by Python also in a compiled module.

    Returns
    -------
    callable
        The same for the caller.

    Example
    -------
    >>> uncompiled(torch.sin)(torch.zeros(2))
    tensor([0., 0.])
    """
    disabled: Callable[..., Any] | None = None

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal disabled
        if "torch._dynamo" not in sys.modules:
            return function(*args, **kwargs)  # nothing is being compiled
        if disabled is None:
            disabled = torch.compiler.disable(function)
        return disabled(*args, **kwargs)

    return call  # type: ignore[return-value]
