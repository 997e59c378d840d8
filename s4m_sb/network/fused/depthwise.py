"""Depthwise convolution of signals with frames outside, channels inside.

On ``[B, L, C]`` the convolution runs in the channels-last layout, where it is
ten times faster on a CPU than `torch.nn.Conv1d` on ``[B, C, L]``. The
gradient of its few weights is a handful of products of shifted signals, again
several times faster than PyTorch's own.

Above this file: `fusion.py` of the network. Below it: `deferred.py`.
"""

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn.grad import conv2d_weight

from s4m_sb.errors import InputError
from s4m_sb.network.fused import compiled
from s4m_sb.network.fused.deferred import Deferred, gradients, written
from s4m_sb.network.fused.moments import Moments, masked

BLOCK_FRAMES = 512  # frames multiplied while they are in the CPU's cache


class DepthwiseConv(nn.Module):
    """One filter a channel, on ``[B, L, C]``.

    Arguments
    ---------
    num_channels : int
        Number of channels C.
    kernel_size : int
        Taps, odd. A convolution of one tap and stride 1 waits, as a scale.
    stride : int
        The output has ceil(L / stride) frames.
    bias : bool
        Whether to add a bias a channel.
    padding : str
        Where zeros stand in for frames that there are not: half of them at
        "both" ends, or all on the "left", so that no frame sees one to come.

    Raises
    ------
    InputError
        If ``kernel_size`` is even, or below 1, or ``padding`` is unknown.

    Example
    -------
    >>> conv = DepthwiseConv(8, kernel_size=5, stride=2)
    >>> conv(Deferred(torch.randn(2, 9, 8))).read().shape
    torch.Size([2, 5, 8])
    """

    def __init__(
        self,
        num_channels: int,
        kernel_size: int,
        stride: int = 1,
        bias: bool = True,
        padding: str = "both",
    ):
        super().__init__()
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise InputError(
                f"kernel_size must be odd and positive, got {kernel_size}"
            )
        if padding not in ("both", "left"):
            raise InputError(f"padding must be both or left, got {padding!r}")
        self.kernel_size = kernel_size
        self.stride = stride
        self.padding = padding
        self.weight = nn.Parameter(torch.empty(num_channels, 1, kernel_size))
        self.bias = nn.Parameter(torch.empty(num_channels)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws weights and bias as `torch.nn.Conv1d` does."""
        bound = self.kernel_size**-0.5
        nn.init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Deferred) -> Deferred:
        """Filters a signal.

        Arguments
        ---------
        x : Deferred
            ``[B, L, C]``. Frames that do not count are silence.

        Returns
        -------
        Deferred
            ``[B, ceil(L / stride), C]``.
        """
        weight, bias, stride = self.weight, self.bias, self.stride
        if self.kernel_size == 1 and stride == 1:
            shift = None if bias is None else bias.expand(1, 1, -1)
            return x.then(weight.view(1, 1, -1), shift)
        left = self.kernel_size - 1
        if self.padding == "both":
            left //= 2
        mask = None if x.mask is None else x.mask[:, ::stride]
        if (
            self.kernel_size == compiled.TAPS
            and stride <= 2
            and weight.dtype == torch.float32
            and compiled.fits(*x.parts)
        ):
            y, *found = compiled.conv(
                *x.parts, x.valid, weight, bias, stride, left
            )
            return Deferred.made(y, mask, Moments(*found))
        if torch.is_grad_enabled():
            y = _DepthwiseConv.apply(
                *x.parts, x.mask, weight, bias, stride, left
            )
        else:
            y = _convolve(masked(x.value(), x.mask), weight, bias, stride, left)
        return Deferred.made(y, mask)


def _channels_last(x: torch.Tensor) -> torch.Tensor:
    """The view [B, C, 1, L] of contiguous [B, L, C] is channels-last."""
    return x.transpose(1, 2).unsqueeze(2)


def _convolve(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    stride: int,
    left: int,
) -> torch.Tensor:
    taps = weight.shape[-1]
    if left != taps // 2:
        x = F.pad(x, (0, 0, left, taps - 1 - left))
    y = F.conv2d(
        _channels_last(x),
        weight.unsqueeze(2),
        bias,
        stride=(1, stride),
        padding=(0, taps // 2 if left == taps // 2 else 0),
        groups=x.shape[2],
    )
    return y.squeeze(2).transpose(1, 2)


class _DepthwiseConv(torch.autograd.Function):
    """`_convolve` that keeps its inputs alone.

    On a CPU, its gradients are made for few taps and many channels.
    """

    @staticmethod
    def forward(
        ctx, signal, scale, shift, slope, mask, weight, bias, stride, left
    ):
        ctx.save_for_backward(signal, scale, shift, slope, mask, weight)
        ctx.stride, ctx.left = stride, left
        ctx.bias_dtype = None if bias is None else bias.dtype
        read = masked(written(signal, scale, shift, slope), mask)
        return _convolve(read, weight, bias, stride, left)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        *parts, mask, weight = ctx.saved_tensors
        needed = ctx.needs_input_grad
        # Under autocast the output, hence its gradient, is in half precision.
        weight = weight.to(grad.dtype)
        grad_weight = grad_bias = None
        if needed[5]:
            read = masked(written(*parts), mask).to(grad.dtype)
            grad_weight = _weight_gradient(
                read, grad, weight, ctx.stride, ctx.left
            )
        if needed[6]:
            grad_bias = grad.sum((0, 1), dtype=ctx.bias_dtype)
        inner: tuple[torch.Tensor | None, ...] = (None,) * 4
        if any(needed[:4]):
            grad = _transposed(
                grad, weight, ctx.stride, ctx.left, parts[0].shape[1]
            )
            inner = gradients(parts, masked(grad, mask), needed)
        return *inner, None, grad_weight, grad_bias, None, None


def _transposed(
    grad: torch.Tensor,
    weight: torch.Tensor,
    stride: int,
    left: int,
    length: int,
) -> torch.Tensor:
    """The gradient of the signal, ``[B, length, C]``."""
    taps = weight.shape[-1]
    cut = left if left == taps // 2 else 0  # at either end, by PyTorch
    reached = (grad.shape[1] - 1) * stride + taps - 2 * cut
    y = F.conv_transpose2d(
        _channels_last(grad),
        weight.unsqueeze(2),
        stride=(1, stride),
        padding=(0, cut),
        output_padding=(0, left - cut + length - reached),
        groups=weight.shape[0],
    )
    return y.squeeze(2).transpose(1, 2)[:, left - cut :]


def _weight_gradient(
    x: torch.Tensor,
    grad: torch.Tensor,
    weight: torch.Tensor,
    stride: int,
    left: int,
) -> torch.Tensor:
    """The gradient of the taps, ``[C, 1, taps]``."""
    taps = weight.shape[-1]
    padded = F.pad(x, (0, 0, left, taps - 1 - left))
    if x.device.type != "cpu":
        return conv2d_weight(
            _channels_last(padded),
            weight.unsqueeze(2).shape,
            _channels_last(grad),
            stride=(1, stride),
            groups=weight.shape[0],
        ).squeeze(2)
    windows = padded.unfold(1, taps, stride).transpose(2, 3)
    total = torch.zeros(
        (taps, weight.shape[0]),
        dtype=torch.promote_types(x.dtype, torch.float32),
    )
    for item, item_grad in zip(windows, grad, strict=True):
        for w, g in zip(
            item.split(BLOCK_FRAMES),  # [n, taps, C]
            item_grad.split(BLOCK_FRAMES),  # [n, C]
            strict=True,
        ):
            total += (w * g.unsqueeze(1)).sum(0, dtype=total.dtype)
    return total.T.unsqueeze(1)
