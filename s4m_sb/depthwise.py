"""Depthwise convolution of signals with frames outside, channels inside.

On ``[B, L, C]`` the convolution runs in the channels-last layout, where it is
ten times faster on a CPU than `torch.nn.Conv1d` on ``[B, C, L]``. The
gradient of its few weights is a handful of products of shifted signals, again
several times faster than PyTorch's own.
"""

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable

from s4m_sb.errors import InputError

BLOCK_FRAMES = 512  # frames multiplied while they are in the CPU's cache


class DepthwiseConv(nn.Module):
    """One filter a channel, on ``[B, L, C]``.

    Arguments
    ---------
    num_channels : int
        Number of channels C.
    kernel_size : int
        Taps, odd; the input is padded by half of them on either side.
    stride : int
        The output has ceil(L / stride) frames.
    bias : bool
        Whether to add a bias a channel.

    Raises
    ------
    InputError
        If ``kernel_size`` is even, or below 1.

    Example
    -------
    >>> DepthwiseConv(8, kernel_size=5, stride=2)(torch.randn(2, 9, 8)).shape
    torch.Size([2, 5, 8])
    """

    def __init__(
        self,
        num_channels: int,
        kernel_size: int,
        stride: int = 1,
        bias: bool = True,
    ):
        super().__init__()
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise InputError(
                f"kernel_size must be odd and positive, got {kernel_size}"
            )
        self.kernel_size = kernel_size
        self.stride = stride
        self.weight = nn.Parameter(torch.empty(num_channels, 1, kernel_size))
        self.bias = nn.Parameter(torch.empty(num_channels)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws weights and bias as `torch.nn.Conv1d` does."""
        bound = self.kernel_size**-0.5
        nn.init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Filters ``[B, L, C]``."""
        if x.device.type == "cpu":
            return _DepthwiseConv.apply(x, self.weight, self.bias, self.stride)
        return _convolve(x, self.weight, self.bias, self.stride)


def _channels_last(x: torch.Tensor) -> torch.Tensor:
    """The view [B, C, 1, L] of contiguous [B, L, C] is channels-last."""
    return x.transpose(1, 2).unsqueeze(2)


def _convolve(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    stride: int,
) -> torch.Tensor:
    y = F.conv2d(
        _channels_last(x),
        weight.unsqueeze(2),
        bias,
        stride=(1, stride),
        padding=(0, weight.shape[-1] // 2),
        groups=x.shape[2],
    )
    return y.squeeze(2).transpose(1, 2)


class _DepthwiseConv(torch.autograd.Function):
    """`_convolve` with gradients made for few taps and many channels."""

    @staticmethod
    def forward(ctx, x, weight, bias, stride):
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        return _convolve(x, weight, bias, stride)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        stride, taps = ctx.stride, weight.shape[-1]
        # Under autocast the output, hence its gradient, is in half precision.
        x, weight = x.to(grad.dtype), weight.to(grad.dtype)
        grad_x = grad_weight = grad_bias = None
        if ctx.needs_input_grad[0]:
            reached = (grad.shape[1] - 1) * stride + 1
            grad_x = F.conv_transpose2d(
                _channels_last(grad),
                weight.unsqueeze(2),
                stride=(1, stride),
                padding=(0, taps // 2),
                output_padding=(0, x.shape[1] - reached),
                groups=x.shape[2],
            )
            grad_x = grad_x.squeeze(2).transpose(1, 2)
        if ctx.needs_input_grad[1]:
            padded = F.pad(x, (0, 0, taps // 2, taps // 2))
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
            grad_weight = total.T.unsqueeze(1)
        if ctx.needs_input_grad[2]:
            grad_bias = grad.sum((0, 1))
        return grad_x, grad_weight, grad_bias, None
