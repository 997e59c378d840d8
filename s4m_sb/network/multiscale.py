"""The block of S4M: several time scales, S4 on the coarsest, fusion.

              x ── expand ── scale 0 ── scale 1 ── ... ── scale K-1
                               │          │                  │
                               └── pool ──┴────── pool ──────┤ sum
                                                             ▼
                                               S4, feed-forward (global)
                                                             │
                            fuse 0 ◄── fuse 1 ◄── ... ◄── fuse K-1
                               │
              x + project ◄────┘

Chen et al., "A Neural State-Space Modeling Approach to Efficient Speech
Separation", Interspeech 2023, figure 1 and section 2.2.

Signals are ``[B, L, C]``, frames outside and channels inside: 1×1
convolutions are matrix products and depthwise convolutions run in the
channels-last layout. Between the operations they are `Deferred`: norms and
fusions wait for the operation that reads them, which costs no pass over
memory.

Above this file: `masknet.py`. Below it: `s4.py`, `fusion.py`,
`fused/deferred.py`.
"""

from collections.abc import Callable

import torch
from torch import nn

from s4m_sb.errors import InputError
from s4m_sb.network.fused.deferred import Deferred, linear
from s4m_sb.network.fusion import Fusion, NormedConv
from s4m_sb.network.norm import GlobalNorm
from s4m_sb.network.s4 import FeedForwardBlock, S4Block


class MultiScaleBlock(nn.Module):
    """One repeat of the mask network; see the figure above.

    Arguments
    ---------
    d_model : int
        Channels between repeats.
    d_hidden : int
        Channels inside the block.
    num_scales : int
        Number of time scales K; each halves the frames of the one before.
        1: no multi-scale path.
    d_state : int
        State size of the S4 layers.
    kernel : str
        "s4" or "s4d", see `S4Layer`.
    ff_expand : int
        Expansion of the feed-forward block on the global features.
    s4_per_scale : bool
        Adds a residual S4 block at each scale of the top-down path.
    topdown_start : str
        "coarsest": the top-down path starts at the coarsest fusion.
        "published": as in the authors' code, where the first step reads the
        fusion of a finer scale and the coarsest is never used.
    padding : str
        Of the convolutions over time, see `DepthwiseConv`.
    norm : Callable
        Makes the norm of a number of channels.

    Raises
    ------
    InputError
        If a value is out of range.

    Example
    -------
    >>> block = MultiScaleBlock(d_model=8, d_hidden=16, num_scales=3)
    >>> x = torch.randn(2, 40, 8)
    >>> block(x, block.spectra(40)).shape
    torch.Size([2, 40, 8])
    """

    def __init__(
        self,
        d_model: int = 128,
        d_hidden: int = 512,
        num_scales: int = 5,
        d_state: int = 16,
        kernel: str = "s4",
        ff_expand: int = 2,
        s4_per_scale: bool = False,
        topdown_start: str = "coarsest",
        padding: str = "both",
        norm: Callable[[int], nn.Module] = GlobalNorm,
    ):
        super().__init__()
        for name, value in (("d_model", d_model), ("d_hidden", d_hidden)):
            if value < 1:
                raise InputError(f"{name} must be at least 1, got {value}")
        if num_scales < 1:
            raise InputError(f"num_scales must be at least 1, got {num_scales}")
        if topdown_start not in ("coarsest", "published"):
            raise InputError(
                "topdown_start must be 'coarsest' or 'published', "
                f"got {topdown_start!r}"
            )
        self.num_scales = num_scales
        # With two scales, the authors' code starts at the coarsest as well.
        skips = topdown_start == "published" and num_scales > 2
        self.start = num_scales - (3 if skips else 1)
        self.expand = nn.Linear(d_model, d_hidden)
        self.expand_norm = norm(d_hidden)
        self.expand_act = nn.PReLU()
        self.bottom_up = nn.ModuleList(
            NormedConv(
                d_hidden,
                kernel_size=5,
                stride=1 if k == 0 else 2,
                bias=True,
                padding=padding,
                norm=norm,
            )
            for k in range(num_scales)
        )
        self.global_s4 = S4Block(d_hidden, d_state, kernel=kernel)
        self.global_ff = FeedForwardBlock(d_hidden, ff_expand)
        self.fusions = nn.ModuleList(
            Fusion(d_hidden, kernel_size=1, norm=norm)
            for _ in range(num_scales - skips)
        )
        self.top_down = nn.ModuleList(
            Fusion(d_hidden, kernel_size=5, padding=padding, norm=norm)
            for _ in range(num_scales - 1)
        )
        self.scale_s4 = nn.ModuleList(
            S4Block(d_hidden, d_state, kernel=kernel)
            for _ in range(num_scales - 1 if s4_per_scale else 0)
        )
        self.project = nn.Linear(d_hidden, d_model)

    @property
    def coarsest_stride(self) -> int:
        """Frames of scale 0 in a frame of the coarsest scale."""
        return 2 ** (self.num_scales - 1)

    def spectra(self, num_frames: int) -> list[torch.Tensor]:
        """Transforms of all kernels, to be shared by the repeats.

        Arguments
        ---------
        num_frames : int
            Frames at scale 0, a multiple of the coarsest stride.

        Returns
        -------
        list of torch.Tensor
            For the global block and each block of the top-down path.
        """
        lengths = [num_frames // self.coarsest_stride]
        lengths += [num_frames >> k for k in range(len(self.scale_s4))]
        blocks = [self.global_s4, *self.scale_s4]
        return [
            block.layer.spectrum(length)
            for block, length in zip(blocks, lengths, strict=True)
        ]

    def forward(
        self,
        x: torch.Tensor,
        spectra: list[torch.Tensor],
        mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Applies the block.

        Arguments
        ---------
        x : torch.Tensor
            Features, ``[B, L, d_model]``, L a multiple of the coarsest
            stride.
        spectra : list of torch.Tensor
            What `spectra` gave for L.
        mask : torch.Tensor, optional
            1 for frames that count, 0 for padding, ``[B, L, 1]``; as many
            of each as make whole frames of the coarsest scale.

        Returns
        -------
        torch.Tensor
            ``[B, L, d_model]``.
        """
        h = self.expand_norm(linear(Deferred(x, mask), self.expand))
        h = h.prelu(self.expand_act.weight)
        scales = []
        for conv in self.bottom_up:
            h = conv(h)
            scales.append(h)  # [B, L / 2ᵏ, d_hidden]
        coarse = self._global(scales, spectra[0])

        top = self.fusions[self.start](scales[self.start], coarse)
        for k in reversed(range(self.num_scales - 1)):
            local = self.fusions[k](scales[k], coarse)
            del scales[k:]  # what is no longer read is not kept
            top = self.top_down[k](local, top)
            if self.scale_s4:
                s4 = self.scale_s4[k](top.read(), spectra[1 + k], top.mask)
                top = Deferred(s4, top.mask)
        return x + linear(top, self.project).read()

    def _global(
        self, scales: list[Deferred], spectrum: torch.Tensor
    ) -> Deferred:
        """All scales at the rate of the coarsest, ``[B, L / 2ᴷ⁻¹, C]``."""
        *finer, coarsest = scales
        pooled = sum(
            (scale.pool(coarsest.num_frames) for scale in finer),
            coarsest.read(),
        )
        mask = coarsest.mask
        return Deferred(
            self.global_ff(self.global_s4(pooled, spectrum, mask)), mask
        )
