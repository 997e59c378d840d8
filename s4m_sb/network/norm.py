"""Norms, each a strategy: `Deferred` in, `Deferred` out.

The networks call a norm and know nothing else of it, so another one (over
each frame alone, say, for a network that must not look ahead) takes
this one's place by being given in its stead.

Above this file: `fusion.py`. Below it: `fused/deferred.py`.
"""

import torch
from torch import nn

from s4m_sb.network.fused.deferred import Deferred


class GlobalNorm(nn.Module):
    """Global layer norm over frames and channels (gLN).

    Luo and Mesgarani, "Conv-TasNet", 2019, equation 13. Its mean and variance
    follow from those of each channel, so it is a scale and a shift a channel,
    and waits like them.

    Arguments
    ---------
    num_channels : int
        Number of channels C, each with a scale and a bias.
    eps : float
        Added to the variance.

    Example
    -------
    >>> y = GlobalNorm(3)(Deferred(torch.randn(2, 100, 3) * 5 + 1)).read()
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

    def forward(self, x: Deferred) -> Deferred:
        """Normalises ``[B, L, C]``; frames that do not count have no part."""
        mean, var = x.moments  # of each channel, [B, 1, C]
        between, mean = torch.var_mean(mean, -1, correction=0, keepdim=True)
        var = var.mean(-1, keepdim=True) + between
        scale = self.weight * torch.rsqrt(var + self.eps)
        return x.then(scale, torch.addcmul(self.bias, mean, scale, value=-1))
