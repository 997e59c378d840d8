"""Mean and variance of every channel, in one pass over a signal.

All that a global norm needs of a signal, and of any rescaled copy of it: see
`norm.py`. Everything here works on ``[B, L, C]``.

Above this file: `deferred.py`. Below it: torch alone.
"""

from typing import NamedTuple

import torch
from torch.autograd.function import once_differentiable

BLOCK_FRAMES = 1024


class Moments(NamedTuple):
    """Mean and variance over the frames, channel by channel, ``[B, 1, C]``."""

    mean: torch.Tensor
    var: torch.Tensor

    def rescaled(
        self, scale: torch.Tensor, shift: torch.Tensor | None
    ) -> "Moments":
        """The moments of x · scale + shift, ``[B, 1, C]`` or None for 0."""
        mean = self.mean * scale
        return Moments(
            mean if shift is None else mean + shift, self.var * scale.square()
        )


def channel_moments(
    x: torch.Tensor, mask: torch.Tensor | None = None
) -> Moments:
    """Mean and variance of each channel over the frames.

    Arguments
    ---------
    x : torch.Tensor
        Signal, ``[B, L, C]``; half precision is summed in float32.
    mask : torch.Tensor, optional
        1 for frames that count, 0 for padding, ``[B, L, 1]``.

    Returns
    -------
    Moments
        Mean and (biased) variance, each ``[B, 1, C]``.

    Example
    -------
    >>> x = torch.randn(2, 100, 3)
    >>> moments = channel_moments(x)
    >>> var, mean = torch.var_mean(x, 1, keepdim=True, unbiased=False)
    >>> torch.allclose(moments.var, var), torch.allclose(moments.mean, mean)
    (True, True)
    """
    return Moments(*_ChannelMoments.apply(x, mask))


class _ChannelMoments(torch.autograd.Function):
    """Moments whose backward is a single multiply-add over the signal.

    Of half precision it keeps the signal as it is, and computes in float32.
    """

    @staticmethod
    def forward(ctx, signal, mask):
        x = _single(signal)
        ctx.count = x.shape[1]
        if mask is not None:  # half precision cannot count
            ctx.count = mask.sum(1, keepdim=True, dtype=x.dtype)
        if mask is None and x.device.type == "cpu":
            mean, var = _frame_statistics(x)
        else:
            # Two passes: differences to the mean keep the variance's digits.
            mean = masked(x, mask).sum(1, keepdim=True) / ctx.count
            squares = masked((x - mean).square_(), mask)
            var = squares.sum(1, keepdim=True) / ctx.count
        ctx.save_for_backward(signal, mean, mask)
        return mean, var

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_mean, grad_var):
        signal, mean, mask = ctx.saved_tensors
        slope = 2 * grad_var / ctx.count
        offset = grad_mean / ctx.count - mean * slope
        grad = torch.addcmul(offset, _single(signal), slope)
        return masked(grad, mask).to(signal.dtype), None


def _frame_statistics(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    # Those of a batch norm whose batch is made of frames: PyTorch's fastest
    # passes over them on a CPU. They add frame after frame, so blocks of
    # frames keep the digits.
    moments = []
    for item in x.contiguous():  # [L, C]
        if len(item) <= BLOCK_FRAMES:
            moments.append(torch.batch_norm_update_stats(item, None, None, 0.0))
            continue
        blocks = item.split(BLOCK_FRAMES)
        statistics = [
            torch.batch_norm_update_stats(block, None, None, 0.0)
            for block in blocks
        ]
        means, variances = map(torch.stack, zip(*statistics, strict=True))
        lengths = [len(block) / len(item) for block in blocks]
        share = x.new_tensor(lengths).unsqueeze(1)
        mean = (share * means).sum(0)
        between = (means - mean).square()
        moments.append((mean, (share * (variances + between)).sum(0)))
    mean, var = map(torch.stack, zip(*moments, strict=True))  # [B, C]
    return mean.unsqueeze(1), var.unsqueeze(1)


def _single(x: torch.Tensor) -> torch.Tensor:
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def masked(x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """The signal with zeros in the frames that do not count."""
    return x if mask is None else x * mask
