"""Signals whose scale and shift wait for the next operation.

A norm, and a fusion of two signals, end in a multiply-add. Written out, it
is one more pass over memory and, in training, one more signal to keep. An
`Affine` holds the signal before it, and whoever reads the signal (`linear`
here, the convolution in `depthwise.py`) does the multiply-add on the way.
For the backward pass these keep what they were given and do it again.

Everything here works on ``[B, L, C]``.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable


class Affine(NamedTuple):
    """``PReLU(signal · scale + shift)``, not computed yet.

    Arguments
    ---------
    signal : torch.Tensor
        ``[B, L, C]``.
    scale, shift : torch.Tensor or None
        ``[B, P, C]``: each of the P frames holds for L / P frames of the
        signal, and B may be 1. None: 1 and 0.
    slope : torch.Tensor or None
        The PReLU's, one number. None: no PReLU.
    spent : bool
        Nobody needs the signal afterwards: without gradients it is
        overwritten, which spares a CPU the pages of a new one.

    Example
    -------
    >>> x = Affine(
    ...     torch.ones(1, 4, 1), torch.ones(1, 1, 1), torch.ones(1, 1, 1)
    ... )
    >>> x = x.then(torch.tensor([[[1.0], [3.0]]]), torch.zeros(1, 2, 1))
    >>> x.read().squeeze()
    tensor([2., 2., 6., 6.])
    """

    signal: torch.Tensor
    scale: torch.Tensor | None = None
    shift: torch.Tensor | None = None
    slope: torch.Tensor | None = None
    spent: bool = False

    def then(self, scale: torch.Tensor, shift: torch.Tensor) -> "Affine":
        """A further scale and shift, ``[B, P', C]``; there is no PReLU yet.

        One of P and P' is 1, or they are equal.
        """
        if self.scale is not None and self.shift is not None:
            shift = scale_shift(scale, self.shift, shift)
            scale = self.scale * scale
        return self._replace(scale=scale, shift=shift)

    def mean(self, num_frames: int) -> torch.Tensor:
        """Means over L / num_frames frames each, ``[B, num_frames, C]``.

        Of a signal without PReLU, and with P = 1.
        """
        means = self.signal.unflatten(1, (num_frames, -1)).mean(2)
        return self._replace(signal=means, spent=True).read()

    def settled(self) -> "Affine":
        """What several will read: without gradients, written out in place."""
        if torch.is_grad_enabled():
            return self
        return Affine(self._replace(spent=True).read())

    def read(self) -> torch.Tensor:
        """The signal itself, ``[B, L, C]``."""
        free = self.spent and not torch.is_grad_enabled()
        h = self.signal
        if self.scale is not None and self.shift is not None:
            frames = (self.scale.shape[1], -1)
            h = scale_shift(
                h.unflatten(1, frames),  # [B, P, L / P, C]
                self.scale.unsqueeze(2),
                self.shift.unsqueeze(2),
                free,
            ).flatten(1, 2)
            free = not torch.is_grad_enabled()
        if self.slope is None:
            return h
        if free and h.device.type == "cpu":
            return F.leaky_relu_(h, float(self.slope))
        return _PReLU.apply(h, self.slope)


def linear(x: Affine, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """A linear map of the channels that keeps nothing but its inputs.

    Arguments
    ---------
    x : Affine
        ``[B, L, C]``.
    weight, bias : torch.Tensor
        ``[D, C]`` and ``[D]``, as of `torch.nn.Linear`.

    Returns
    -------
    torch.Tensor
        ``[B, L, D]``.
    """
    if torch.is_grad_enabled():
        return _Linear.apply(x.signal, x.scale, x.shift, x.slope, weight, bias)
    return F.linear(x.read(), weight, bias)


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, signal, scale, shift, slope, weight, bias):
        ctx.save_for_backward(signal, scale, shift, slope, weight)
        return F.linear(
            Affine(signal, scale, shift, slope).read(), weight, bias
        )

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        *parts, weight = ctx.saved_tensors
        x, needed = Affine(*parts), ctx.needs_input_grad
        flat = grad.flatten(0, 1)  # [B · L, D]
        grad_weight = grad_bias = None
        if needed[4]:
            # Under autocast the output, hence its gradient, is in half
            # precision.
            read = x.read().flatten(0, 1).to(grad.dtype)
            grad_weight = (flat.T @ read).to(weight.dtype)
        if needed[5]:
            grad_bias = flat.sum(0, dtype=weight.dtype)
        inner = gradients(x, grad @ weight.to(grad.dtype), needed)
        return *inner, grad_weight, grad_bias


def gradients(
    x: Affine, grad: torch.Tensor, needed: tuple[bool, ...]
) -> tuple[torch.Tensor | None, ...]:
    """Gradients of `Affine.read`, for the backward pass of its readers.

    Arguments
    ---------
    x : Affine
        What was read.
    grad : torch.Tensor
        The gradient of what it gave, ``[B, L, C]``.
    needed : tuple of bool
        Which of them are needed, at least four.

    Returns
    -------
    tuple of torch.Tensor or None
        The gradients of signal, scale, shift and slope.
    """
    grad_slope = None
    if x.slope is not None:
        before = x._replace(slope=None).read()
        grad, grad_slope = _prelu_backward(grad, before, x.slope)
    if x.scale is None or x.shift is None:
        return grad.to(x.signal.dtype), None, None, grad_slope
    frames = (x.scale.shape[1], -1)
    inner = _scale_shift_backward(
        grad.unflatten(1, frames),  # [B, P, L / P, C]
        x.signal.unflatten(1, frames),
        x.scale.unsqueeze(2),
        x.shift.unsqueeze(2).shape,
        needed,
    )
    grad_signal, grad_scale, grad_shift = inner
    return (
        None if grad_signal is None else grad_signal.flatten(1, 2),
        None if grad_scale is None else grad_scale.squeeze(2),
        None if grad_shift is None else grad_shift.squeeze(2),
        grad_slope,
    )


class _PReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, slope):
        ctx.save_for_backward(x, slope)
        return torch.prelu(x, slope.to(x.dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        return _prelu_backward(grad, *ctx.saved_tensors)


def _prelu_backward(
    grad: torch.Tensor, before: torch.Tensor, slope: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of what went into a PReLU, and of its slope."""
    grad = grad.to(before.dtype)
    if before.device.type == "cpu":
        # PyTorch's own branches at each number, which takes ten times as long.
        grad_slope = grad * before.clamp(max=0)
        grad = torch.ops.aten.leaky_relu_backward(
            grad, before, float(slope), False
        )
    else:
        grad, grad_slope = torch.ops.aten._prelu_kernel_backward(
            grad, before, slope.to(before.dtype)
        )
    return grad, grad_slope.sum(dtype=slope.dtype).reshape(slope.shape)


def scale_shift(
    x: torch.Tensor,
    scale: torch.Tensor,
    shift: torch.Tensor,
    spent: bool = False,
) -> torch.Tensor:
    """x · scale + shift, where scale and shift broadcast to x or x to them.

    Arguments
    ---------
    x, scale, shift : torch.Tensor
        Of shapes that broadcast.
    spent : bool
        x, of the result's shape, may be overwritten. No gradients then.

    Returns
    -------
    torch.Tensor
        The result.

    Example
    -------
    >>> scale_shift(torch.ones(2, 3), torch.tensor(2.0), torch.tensor(1.0))
    tensor([[3., 3., 3.],
            [3., 3., 3.]])
    """
    if spent and x.dtype == scale.dtype:
        return torch.addcmul(shift, x, scale, out=x)
    return _ScaleShift.apply(x, scale, shift)


class _ScaleShift(torch.autograd.Function):
    """A broadcast multiply-add with as few passes backward as there can be."""

    @staticmethod
    def forward(ctx, x, scale, shift):
        ctx.save_for_backward(x, scale)
        ctx.shift_shape = shift.shape
        return torch.addcmul(shift, x, scale)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x, scale = ctx.saved_tensors
        return _scale_shift_backward(
            grad, x, scale, ctx.shift_shape, ctx.needs_input_grad
        )


def _scale_shift_backward(grad, x, scale, shift_shape, needed):
    return (
        (grad * scale).sum_to_size(x.shape).to(x.dtype) if needed[0] else None,
        (grad * x).sum_to_size(scale.shape) if needed[1] else None,
        grad.sum_to_size(shift_shape) if needed[2] else None,
    )
