"""Fusion of local features with coarser ones: equations 5 and 6 of the paper.

Above this file: `multiscale.py`. Below it: `norm.py`, `fused/depthwise.py`,
`fused/deferred.py`.
"""

from collections.abc import Callable

from torch import nn

from s4m_sb.network.fused.deferred import Deferred, gated
from s4m_sb.network.fused.depthwise import DepthwiseConv
from s4m_sb.network.norm import GlobalNorm


class NormedConv(nn.Module):
    """Depthwise convolution and norm.

    Arguments
    ---------
    num_channels : int
        Number of channels C.
    kernel_size, stride, bias, padding
        See `DepthwiseConv`.
    norm : Callable
        Makes the norm of C channels.

    Example
    -------
    >>> import torch
    >>> NormedConv(8, kernel_size=5, stride=2)(
    ...     Deferred(torch.randn(2, 40, 8))
    ... ).read().shape
    torch.Size([2, 20, 8])
    """

    def __init__(
        self,
        num_channels: int,
        kernel_size: int,
        stride: int = 1,
        bias: bool = False,
        padding: str = "both",
        norm: Callable[[int], nn.Module] = GlobalNorm,
    ):
        super().__init__()
        self.conv = DepthwiseConv(
            num_channels, kernel_size, stride, bias, padding
        )
        self.norm = norm(num_channels)

    def forward(self, x: Deferred) -> Deferred:
        """Maps ``[B, L, C]`` to ``[B, ceil(L / stride), C]``."""
        return self.norm(self.conv(x))


class Fusion(nn.Module):
    """Local features gated and shifted by coarser ones.

    ``norm(W₁ local) · σ(up(norm(W₂ coarse))) + up(norm(W₃ coarse))`` with
    depthwise W (paper, equations 5 and 6).

    Arguments
    ---------
    num_channels : int
        Number of channels C.
    kernel_size, padding
        Of the three convolutions, see `DepthwiseConv`.
    norm : Callable
        Makes each of their norms.

    Example
    -------
    >>> import torch
    >>> local, coarse = torch.randn(2, 40, 8), torch.randn(2, 10, 8)
    >>> fused = Fusion(8, kernel_size=5)(Deferred(local), Deferred(coarse))
    >>> fused.read().shape
    torch.Size([2, 40, 8])
    """

    def __init__(
        self,
        num_channels: int,
        kernel_size: int,
        padding: str = "both",
        norm: Callable[[int], nn.Module] = GlobalNorm,
    ):
        super().__init__()

        def normed_conv() -> NormedConv:
            return NormedConv(
                num_channels, kernel_size, padding=padding, norm=norm
            )

        self.local = normed_conv()
        self.gate = normed_conv()
        self.value = normed_conv()

    def forward(self, local: Deferred, coarse: Deferred) -> Deferred:
        """Fuses.

        Arguments
        ---------
        local : Deferred
            Local features, ``[B, L, C]``.
        coarse : Deferred
            Coarser features, ``[B, L / r, C]``, which are stretched by
            repeating frames; finer ones (r < 1) are sampled.

        Returns
        -------
        Deferred
            ``[B, L, C]``.
        """
        coarse = coarse.computed()  # two read it
        return gated(self.local(local), self.gate(coarse), self.value(coarse))
