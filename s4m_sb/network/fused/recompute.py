"""Gradient checkpointing that keeps nothing but the inputs.

`torch.utils.checkpoint` builds the graph of the forward pass and empties it.
What is left, small objects that live until the backward pass, lies between
the large signals in a CPU's heap, which then grows with every part that is
checkpointed, by more than the inputs. Here the forward pass builds no graph.

Chen et al., "Training deep nets with sublinear memory cost", 2016.

Above this file: `network/masknet.py`. Below it: torch alone.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.autograd.function import once_differentiable


def recomputed(
    run: Callable[..., torch.Tensor],
    inputs: Sequence[torch.Tensor | None],
    parameters: Sequence[torch.Tensor],
) -> torch.Tensor:
    """``run(*inputs)``, computed again in the backward pass.

    Arguments
    ---------
    run : Callable
        Gives one tensor; it must not be random.
    inputs : sequence of torch.Tensor or None
        Its arguments.
    parameters : sequence of torch.Tensor
        All other tensors that need a gradient from it.

    Returns
    -------
    torch.Tensor
        What it gives.

    Example
    -------
    >>> x, w = torch.ones(2, requires_grad=True), torch.ones(2).requires_grad_()
    >>> recomputed(lambda x: 3 * x * w, [x], [w]).sum().backward()
    >>> x.grad, w.grad
    (tensor([3., 3.]), tensor([3., 3.]))
    """
    return _Recomputed.apply(run, len(inputs), *inputs, *parameters)


class _Recomputed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, run, num_inputs, *tensors):
        ctx.run, ctx.num_inputs = run, num_inputs
        ctx.save_for_backward(*tensors)
        device = tensors[0].device.type
        ctx.autocast = {
            "device_type": device,
            "enabled": torch.is_autocast_enabled(device),
            "dtype": torch.get_autocast_dtype(device),
        }
        return run(*tensors[:num_inputs])

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        tensors = list(ctx.saved_tensors)
        needed = ctx.needs_input_grad[2:]
        for i, tensor in enumerate(tensors[: ctx.num_inputs]):
            if tensor is not None:
                tensors[i] = tensor.detach().requires_grad_(needed[i])
        with torch.enable_grad(), torch.autocast(**ctx.autocast):
            y = ctx.run(*tensors[: ctx.num_inputs])
        wanted = [t for t, n in zip(tensors, needed, strict=True) if n]
        found = iter(torch.autograd.grad(y, wanted, grad, allow_unused=True))
        return None, None, *(next(found) if n else None for n in needed)
