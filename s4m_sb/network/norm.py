"""Global layer normalisation, folded into one scale and shift a channel.

A global norm needs the mean and variance over all frames and channels. Both
follow from each channel's own mean and variance, and so do those of any
rescaled copy of the signal. `channel_moments` reads the signal once for
them; what remains of the norm is one multiply-add, which the caller can
fold into its next operation.

Everything here works on ``[B, L, C]``.
"""

from typing import NamedTuple

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from s4m_sb.network.fused.affine import Affine

BLOCK_FRAMES = 1024


class Moments(NamedTuple):
    """Mean and variance over the frames, channel by channel, ``[B, 1, C]``."""

    mean: torch.Tensor
    var: torch.Tensor

    def affine(self, scale: torch.Tensor, shift: torch.Tensor) -> "Moments":
        """The moments of x · scale + shift."""
        return Moments(self.mean * scale + shift, self.var * scale.square())


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
            mean = _masked(x, mask).sum(1, keepdim=True) / ctx.count
            squares = _masked((x - mean).square_(), mask)
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
        return _masked(grad, mask).to(signal.dtype), None


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


def _masked(x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    return x if mask is None else x * mask


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


class GlobalNorm(nn.Module):
    """Global layer norm over frames and channels (gLN).

    Luo and Mesgarani, "Conv-TasNet", 2019, equation 13.

    Arguments
    ---------
    num_channels : int
        Number of channels C, each with a scale and a bias.
    eps : float
        Added to the variance.

    Example
    -------
    >>> y = GlobalNorm(3)(torch.randn(2, 100, 3) * 5 + 1)
    >>> bool(y.mean().abs() < 1e-5), y.shape
    (True, torch.Size([2, 100, 3]))
    """

    def __init__(self, num_channels: int, eps: float = 1e-8):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.empty(num_channels))
        self.bias = nn.Parameter(torch.empty(num_channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Sets the scale to 1 and the bias to 0."""
        nn.init.ones_(self.weight)
        nn.init.zeros_(self.bias)

    def affine(self, moments: Moments) -> tuple[torch.Tensor, torch.Tensor]:
        """The norm of a signal with these moments is x · scale + shift.

        Arguments
        ---------
        moments : Moments
            Of the signal to be normalised.

        Returns
        -------
        torch.Tensor
            Scale, ``[B, 1, C]``.
        torch.Tensor
            Shift, ``[B, 1, C]``.
        """
        between, mean = torch.var_mean(
            moments.mean, -1, correction=0, keepdim=True
        )
        var = moments.var.mean(-1, keepdim=True) + between
        scale = self.weight * torch.rsqrt(var + self.eps)
        return scale, torch.addcmul(self.bias, mean, scale, value=-1)

    def forward(
        self, x: torch.Tensor, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Normalises ``[B, L, C]``; frames with mask 0 do not count."""
        return Affine(x, *self.affine(channel_moments(x, mask))).read()
