"""A bound for the memory that a network takes while it is built.

The YAML of a model says how large its network is, in a few characters.
"""

import contextlib
import math
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from s4m_sb.errors import InputError


class MemoryBound(TorchDispatchMode):
    """Refuses tensors that are larger, together, than a bound.

    Counted are those that are made of nothing but a size, as parameters are;
    of the results of an operation, each by itself. An operation is refused
    before it is done.

    Arguments
    ---------
    most_bytes : int
        The bound.

    Raises
    ------
    InputError
        Within the block, by whatever would go beyond it.

    Example
    -------
    >>> with MemoryBound(10**6):
    ...     network = torch.nn.Linear(100, 100)
    >>> with MemoryBound(10**6):
    ...     network = torch.nn.Linear(1000, 1000)
    Traceback (most recent call last):
    s4m_sb.errors.InputError: a network that takes more than 1000000 bytes ...
    """

    def __init__(self, most_bytes: int):
        super().__init__()
        self.most_bytes = most_bytes
        self.num_bytes = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Nothing is compiled here, and asking would load the compiler: a
        # second in every process that loads a model.
        return False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None) -> Any:
        kwargs = kwargs or {}
        inputs = [value for value in args if isinstance(value, torch.Tensor)]
        wanted = 0
        if not inputs and args and isinstance(args[0], (list, tuple)):
            dtype = kwargs.get("dtype") or torch.get_default_dtype()
            wanted = math.prod(args[0]) * dtype.itemsize
            self.num_bytes += wanted
        elif len(inputs) > 1:
            with contextlib.suppress(RuntimeError):  # it does not broadcast
                shape = torch.broadcast_shapes(*(x.shape for x in inputs))
                wanted = math.prod(shape) * inputs[0].dtype.itemsize
        if max(wanted, self.num_bytes) > self.most_bytes:
            raise InputError(
                f"a network that takes more than {self.most_bytes} bytes is "
                "refused"
            )
        return func(*args, **kwargs)
