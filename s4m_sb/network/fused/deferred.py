"""Signals whose scale, shift and PReLU wait for the next operation.

A norm, and a fusion of two signals, end in a multiply-add. Written out, it
is one more pass over memory and, in training, one more signal to keep. A
`Deferred` holds the signal before it, and whoever reads the signal (`linear`
here, the convolution in `depthwise.py`) does the multiply-add on the way.
For the backward pass these keep what they were given and do it again.

Everything here works on ``[B, L, C]``.

Above this file: `norm.py`, `depthwise.py`. Below it: `moments.py`.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable

from s4m_sb.network.fused import compiled
from s4m_sb.network.fused.moments import Moments, channel_moments

Parts = tuple[
    torch.Tensor,  # signal, [B, L, C]
    torch.Tensor | None,  # scale, [B, P, C]
    torch.Tensor | None,  # shift, [B, P, C]
    torch.Tensor | None,  # slope, [1]
]


class Deferred:
    """``PReLU(signal · scale + shift)`` with its mask and its moments.

    Without gradients, a signal that an operation of this folder has made is
    overwritten by what is read, once no other `Deferred` holds it. Nobody
    can notice: a tensor given to the constructor or handed out by `read` is
    never overwritten.

    Arguments
    ---------
    signal : torch.Tensor
        ``[B, L, C]``.
    mask : torch.Tensor, optional
        1 for frames that count, 0 for padding, ``[B, L, 1]``. What stands in
        the others is finite, and of no influence on those that count.

    Example
    -------
    >>> x = Deferred(torch.ones(1, 4, 1))
    >>> x = x.then(torch.ones(1, 1, 1), torch.ones(1, 1, 1))
    >>> x = x.then(torch.tensor([[[1.0], [3.0]]]), torch.zeros(1, 2, 1))
    >>> x.read().squeeze()
    tensor([2., 2., 6., 6.])
    """

    __slots__ = ("_stored", "scale", "shift", "slope")

    def __init__(self, signal: torch.Tensor, mask: torch.Tensor | None = None):
        self._become(_Stored(signal, mask, ours=False))

    @classmethod
    def made(
        cls,
        signal: torch.Tensor,
        mask: torch.Tensor | None,
        moments: Moments | None = None,
    ) -> "Deferred":
        """Of a signal that nobody else holds; for this folder alone."""
        x = cls.__new__(cls)
        x._become(_Stored(signal, mask, ours=True))
        x._stored.known = moments
        return x

    def _become(
        self,
        stored: "_Stored",
        scale: torch.Tensor | None = None,
        shift: torch.Tensor | None = None,
        slope: torch.Tensor | None = None,
    ) -> "Deferred":
        stored.holders += 1
        self._stored = stored
        # Both [B, P, C]: each of the P frames holds for L / P frames of the
        # signal, and B may be 1. None: 1 and 0.
        self.scale, self.shift = scale, shift
        self.slope = slope  # of the PReLU, one number. None: no PReLU
        return self

    def __del__(self) -> None:
        if hasattr(self, "_stored"):
            self._stored.holders -= 1

    @property
    def parts(self) -> Parts:
        """Signal, scale, shift and slope; scale and shift, or neither."""
        shift = self.shift
        if self.scale is not None and shift is None:
            shift = torch.zeros_like(self.scale)
        return self._stored.signal, self.scale, shift, self.slope

    @property
    def num_frames(self) -> int:
        """Frames L of the signal."""
        return self._stored.signal.shape[1]

    @property
    def mask(self) -> torch.Tensor | None:
        """Which frames count, ``[B, L, 1]``; None: all."""
        return self._stored.mask

    @property
    def valid(self) -> torch.Tensor | None:
        """How many frames of each item count, ``[B]``; None: all."""
        return self._stored.valid()

    @property
    def moments(self) -> Moments:
        """Mean and variance of each channel, over the frames that count."""
        if not self._is_one_scale():
            return channel_moments(self.read(), self.mask)
        moments = self._stored.moments()
        if self.scale is None:
            return moments
        return moments.rescaled(self.scale, self.shift)

    def _is_one_scale(self) -> bool:
        """Whether a scale and shift of all frames is all that waits."""
        return self.slope is None and (
            self.scale is None or self.scale.shape[1] == 1
        )

    def then(
        self, scale: torch.Tensor, shift: torch.Tensor | None = None
    ) -> "Deferred":
        """A further scale and shift.

        Arguments
        ---------
        scale, shift : torch.Tensor
            ``[B, P, C]``, B may be 1, shift 0 by default. The P frames are
            stretched to the signal's by repeating them; more than those are
            sampled evenly.

        Returns
        -------
        Deferred
            Of the same signal.
        """
        if self.slope is not None:
            return Deferred(self.read(), self.mask).then(scale, shift)
        if scale.shape[1] > self.num_frames:
            step = scale.shape[1] // self.num_frames
            scale = scale[:, ::step]
            shift = None if shift is None else shift[:, ::step]
        if self.scale is not None:
            before, offset, scale, shift = _as_fine(
                self.scale, self.shift, scale, shift
            )
            if offset is not None:
                shift = (
                    scale * offset
                    if shift is None
                    else torch.addcmul(shift, offset, scale)
                )
            scale = before * scale
        x = Deferred.__new__(Deferred)
        return x._become(self._stored, scale, shift)

    def regained(self, scale: torch.Tensor, shift: torch.Tensor) -> "Deferred":
        """The signal with another scale and shift; for this folder alone."""
        x = Deferred.__new__(Deferred)
        return x._become(self._stored, scale, shift)

    def prelu(self, slope: torch.Tensor) -> "Deferred":
        """A PReLU, with one slope for all channels, ``[1]``."""
        if self.slope is not None:
            return Deferred(self.read(), self.mask).prelu(slope)
        x = Deferred.__new__(Deferred)
        return x._become(self._stored, self.scale, self.shift, slope)

    def pool(self, num_frames: int) -> torch.Tensor:
        """Means over L / num_frames frames each, ``[B, num_frames, C]``."""
        if not self._is_one_scale():
            return Deferred(self.read()).pool(num_frames)
        signal = self._stored.signal.unflatten(1, (num_frames, -1))
        _, scale, shift, _ = self.parts
        return written(signal.mean(2), scale, shift, in_place=True)

    def computed(self) -> "Deferred":
        """The same with nothing left to wait for; best if several read it."""
        if self.scale is None and self.slope is None:
            return self
        h = self.value()
        return Deferred.made(h, self.mask) if torch.is_grad_enabled() else self

    def read(self) -> torch.Tensor:
        """The signal itself, ``[B, L, C]``."""
        h = self.value()
        self._stored.ours = False  # the caller may keep it
        return h

    def value(self) -> torch.Tensor:
        """What `read` gives, to be given to nobody; for this folder alone."""
        stored = self._stored
        if self.scale is None and self.slope is None:
            return stored.signal
        free = not torch.is_grad_enabled() and stored.is_free()
        signal, scale, shift, slope = self.parts
        h = written(signal, scale, shift, slope, free)
        if not torch.is_grad_enabled():
            # Kept, so that the next one to read it has no work.
            known = None
            if stored.known is not None and self._is_one_scale():
                known = self.moments
            stored.holders -= 1
            self._become(_Stored(h, stored.mask, ours=True))
            self._stored.known = known
        return h


class _Stored:
    """A signal, for all that hold it."""

    __slots__ = ("count", "holders", "known", "mask", "ours", "signal")

    def __init__(
        self, signal: torch.Tensor, mask: torch.Tensor | None, ours: bool
    ):
        self.signal = signal
        self.mask = mask
        self.ours = ours  # nobody but those who are counted holds it
        self.holders = 0
        self.known: Moments | None = None
        self.count: torch.Tensor | None = None

    def is_free(self) -> bool:
        """Whether its only holder may overwrite it."""
        return self.ours and self.holders == 1

    def valid(self) -> torch.Tensor | None:
        """How many frames of each item count; those are its first ones."""
        if self.count is None and self.mask is not None:
            self.count = self.mask.sum((1, 2)).long()
        return self.count

    def moments(self) -> Moments:
        """Of the signal as it is stored, found once."""
        if self.known is None:
            if compiled.fits(self.signal):
                self.signal, *found = compiled.with_moments(
                    self.signal, self.valid()
                )
                self.known = Moments(*found)
            else:
                self.known = channel_moments(self.signal, self.mask)
        return self.known


def _as_fine(*tensors: torch.Tensor | None) -> list[Any]:
    """Frames repeated, but single ones, so that all have the same number."""
    finest = max(t.shape[1] for t in tensors if t is not None)
    return [
        t
        if t is None or t.shape[1] in (1, finest)
        else t.repeat_interleave(finest // t.shape[1], 1)
        for t in tensors
    ]


def written(
    signal: torch.Tensor,
    scale: torch.Tensor | None,
    shift: torch.Tensor | None,
    slope: torch.Tensor | None = None,
    in_place: bool = False,
) -> torch.Tensor:
    """PReLU(signal · scale + shift), ``[B, L, C]``; see `Parts`.

    With gradients it keeps nothing but what it is given; without them it may
    be asked to write it ``in_place`` of the signal.
    """
    if torch.is_grad_enabled():
        return _Written.apply(signal, scale, shift, slope)
    in_place = in_place and (scale is None or signal.dtype == scale.dtype)
    alone = slope is None or scale is None  # one pass in PyTorch as well
    if not (in_place and alone) and compiled.fits(signal, scale, shift, slope):
        return compiled.read(signal, scale, shift, slope)
    h = signal
    if scale is not None and shift is not None:
        frames = (scale.shape[1], -1)
        h = h.unflatten(1, frames)  # [B, P, L / P, C]
        h = torch.addcmul(
            shift.unsqueeze(2),
            h,
            scale.unsqueeze(2),
            out=h if in_place else None,
        ).flatten(1, 2)
        in_place = True
    if slope is None:
        return h
    if in_place and h.device.type == "cpu":
        return F.leaky_relu_(h, float(slope))
    return torch.prelu(h, slope.to(h.dtype))


class _Written(torch.autograd.Function):
    @staticmethod
    def forward(ctx, *parts):
        ctx.save_for_backward(*parts)
        return written(*parts)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        return gradients(ctx.saved_tensors, grad, ctx.needs_input_grad)


def gated(x: Deferred, gate: Deferred, value: Deferred) -> Deferred:
    """``x · σ(gate) + value``.

    Arguments
    ---------
    x : Deferred
        ``[B, L, C]``.
    gate, value : Deferred
        ``[B, P, C]``, stretched to x as by `Deferred.then`.

    Returns
    -------
    Deferred
        ``[B, L, C]``.
    """
    compiles = all(
        part.scale is not None
        and part.scale.shape[1] == 1
        and part.slope is None
        and compiled.fits(*part.parts)
        for part in (x, gate, value)
    )
    if not compiles or gate.num_frames > x.num_frames:
        return x.then(torch.sigmoid(gate.value()), value.value())
    (_, *gains, _), (*g, _), (*v, _) = x.parts, gate.parts, value.parts
    return x.regained(*compiled.gate(*g, *v, *gains))  # type: ignore[arg-type]


def linear(x: Deferred, layer: nn.Linear) -> Deferred:
    """A linear map of the channels that keeps nothing but its inputs.

    Arguments
    ---------
    x : Deferred
        ``[B, L, C]``.
    layer : torch.nn.Linear
        From C to D channels.

    Returns
    -------
    Deferred
        ``[B, L, D]``.
    """
    # The bias of a wide result waits as well: it would be a pass of its own.
    wide = layer.out_features > layer.in_features
    bias = None if wide else layer.bias
    waits = x.scale is not None or x.slope is not None
    if waits and torch.is_grad_enabled():
        y = _Linear.apply(*x.parts, layer.weight, bias)
    else:
        y = F.linear(x.value(), layer.weight, bias)
    z = Deferred.made(y, x.mask)
    if not wide:
        return z
    shift = layer.bias.view(1, 1, -1)
    return z.then(torch.ones_like(shift), shift)


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, signal, scale, shift, slope, weight, bias):
        ctx.save_for_backward(signal, scale, shift, slope, weight)
        return F.linear(written(signal, scale, shift, slope), weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        *parts, weight = ctx.saved_tensors
        needed = ctx.needs_input_grad
        flat = grad.flatten(0, 1)  # [B · L, D]
        grad_weight = grad_bias = None
        if needed[4]:
            # Under autocast the output, hence its gradient, is in half
            # precision.
            read = written(*parts).flatten(0, 1).to(grad.dtype)
            grad_weight = (flat.T @ read).to(weight.dtype)
        if needed[5]:
            grad_bias = flat.sum(0, dtype=weight.dtype)
        inner = gradients(parts, grad @ weight.to(grad.dtype), needed)
        return *inner, grad_weight, grad_bias


def gradients(
    parts: Parts,
    grad: torch.Tensor,
    needed: tuple[bool, ...],
) -> tuple[torch.Tensor | None, ...]:
    """Gradients of what is read, for the backward pass of its readers.

    Arguments
    ---------
    parts : Parts
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
    signal, scale, shift, slope = parts
    if grad.dtype == torch.float32 and compiled.fits(*parts):
        return compiled.read_backward(*parts, grad)
    grad_slope = None
    if slope is not None:
        before = written(signal, scale, shift)
        grad, grad_slope = _prelu_backward(grad, before, slope)
    if scale is None or shift is None:
        return grad.to(signal.dtype), None, None, grad_slope
    frames = (scale.shape[1], -1)
    inner = _scale_shift_backward(
        grad.unflatten(1, frames),  # [B, P, L / P, C]
        signal.unflatten(1, frames),
        scale.unsqueeze(2),
        shift.unsqueeze(2).shape,
        needed,
    )
    grad_signal, grad_scale, grad_shift = inner
    return (
        None if grad_signal is None else grad_signal.flatten(1, 2),
        None if grad_scale is None else grad_scale.squeeze(2),
        None if grad_shift is None else grad_shift.squeeze(2),
        grad_slope,
    )


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


def _scale_shift_backward(grad, x, scale, shift_shape, needed):
    return (
        (grad * scale).sum_to_size(x.shape).to(x.dtype) if needed[0] else None,
        (grad * x).sum_to_size(scale.shape) if needed[1] else None,
        grad.sum_to_size(shift_shape) if needed[2] else None,
    )
