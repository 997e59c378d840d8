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
channels-last layout. A norm is a scale and a shift (`norm.py`), and so is a
fusion, whose upsampled coarse signals are a broadcast; the next operation
does both on the way (`fused/affine.py`), so that neither is a pass over
memory.

Above this file: `masknet.py`. Below it: `s4.py`, `norm.py`,
`fused/depthwise.py`, `fused/affine.py`.
"""

import torch
from torch import nn

from s4m_sb.errors import InputError
from s4m_sb.network.fused.affine import Affine, linear
from s4m_sb.network.fused.depthwise import DepthwiseConv
from s4m_sb.network.norm import GlobalNorm, Moments, channel_moments
from s4m_sb.network.s4 import FeedForwardBlock, S4Block

Masks = list[torch.Tensor] | None


class NormedConv(nn.Module):
    """Depthwise convolution and global norm, the norm not computed yet.

    A convolution with one tap is folded into the norm's scale.

    Arguments
    ---------
    num_channels : int
        Number of channels C.
    kernel_size : int
        Taps of the convolution, odd.
    stride : int
        Its stride; needs more than one tap if above 1.
    bias : bool
        Whether it has a bias; needs more than one tap.

    Raises
    ------
    InputError
        If ``kernel_size`` is even, or 1 with a stride or a bias.
    """

    def __init__(
        self,
        num_channels: int,
        kernel_size: int,
        stride: int = 1,
        bias: bool = False,
    ):
        super().__init__()
        if kernel_size == 1 and (stride > 1 or bias):
            raise InputError(
                "a convolution with kernel_size 1 takes no stride and no "
                f"bias, got stride {stride} and bias {bias}"
            )
        self.conv = DepthwiseConv(num_channels, kernel_size, stride, bias)
        self.norm = GlobalNorm(num_channels)

    def forward(
        self,
        x: Affine,
        moments: Moments | None,
        mask: torch.Tensor | None = None,
        mask_out: torch.Tensor | None = None,
    ) -> tuple[Affine, Moments]:
        """Applies the convolution and finds the norm.

        Arguments
        ---------
        x : Affine
            Input, ``[B, L, C]``.
        moments : Moments or None
            Those of x; needed if the convolution has one tap.
        mask, mask_out : torch.Tensor, optional
            Frames that count in the input and the output, ``[B, L, 1]``.

        Returns
        -------
        Affine
            ``[B, L', C]``.
        Moments
            Its moments.
        """
        if self.conv.kernel_size == 1 and moments is not None:
            weight = self.conv.weight[:, 0, 0]
            moments = moments.affine(weight, torch.zeros_like(weight))
            scale, shift = self.norm.affine(moments)
            return x.then(weight * scale, shift), moments.affine(scale, shift)
        z = self.conv(x, mask)
        moments = channel_moments(z, mask_out)
        scale, shift = self.norm.affine(moments)
        return Affine(z, scale, shift), moments.affine(scale, shift)


class Fusion(nn.Module):
    """Local features gated and shifted by coarser ones.

    ``norm(W₁ local) · σ(up(norm(W₂ coarse))) + up(norm(W₃ coarse))`` with
    depthwise W (paper, equations 5 and 6).

    Arguments
    ---------
    num_channels : int
        Number of channels C.
    kernel_size : int
        Taps of the three depthwise convolutions, odd.

    Example
    -------
    >>> local, coarse = torch.randn(2, 40, 8), torch.randn(2, 10, 8)
    >>> fused = Fusion(8, kernel_size=5)(Affine(local), None, coarse, None)
    >>> fused.read().shape
    torch.Size([2, 40, 8])
    """

    def __init__(self, num_channels: int, kernel_size: int):
        super().__init__()
        self.local = NormedConv(num_channels, kernel_size)
        self.gate = NormedConv(num_channels, kernel_size)
        self.value = NormedConv(num_channels, kernel_size)

    def forward(
        self,
        local: Affine,
        local_moments: Moments | None,
        coarse: torch.Tensor,
        coarse_moments: Moments | None,
        local_mask: torch.Tensor | None = None,
        coarse_mask: torch.Tensor | None = None,
    ) -> Affine:
        """Fuses.

        Arguments
        ---------
        local : Affine
            Local features, ``[B, L, C]``.
        local_moments, coarse_moments : Moments or None
            Needed with one tap.
        coarse : torch.Tensor
            Coarser features, ``[B, L / r, C]``. Features finer than the
            local ones (r < 1) are sampled at every (1/r)-th frame.
        local_mask, coarse_mask : torch.Tensor, optional
            Frames that count, ``[B, L, 1]`` and ``[B, L / r, 1]``.

        Returns
        -------
        Affine
            ``[B, L, C]``: gate and value have joined scale and shift of the
            local norm while they are coarse.
        """
        normed, _ = self.local(local, local_moments, local_mask, local_mask)
        gate = self._coarse(self.gate, coarse, coarse_moments, coarse_mask)
        value = self._coarse(self.value, coarse, coarse_moments, coarse_mask)
        if torch.is_grad_enabled():
            gate = torch.sigmoid(gate)
        else:
            gate.sigmoid_()
        step = -(-coarse.shape[1] // local.signal.shape[1])
        return normed.then(gate[:, ::step], value[:, ::step])

    def _coarse(self, conv, coarse, moments, mask):
        normed, _ = conv(Affine(coarse), moments, mask, mask)
        return normed._replace(spent=normed.signal is not coarse).read()


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
        self.skips_coarsest = topdown_start == "published" and num_scales > 2
        used_scales = num_scales - self.skips_coarsest
        self.expand = nn.Linear(d_model, d_hidden)
        self.expand_norm = GlobalNorm(d_hidden)
        self.expand_act = nn.PReLU()
        self.bottom_up = nn.ModuleList(
            NormedConv(d_hidden, 5, stride=1 if k == 0 else 2, bias=True)
            for k in range(num_scales)
        )
        self.global_s4 = S4Block(d_hidden, d_state, kernel=kernel)
        self.global_ff = FeedForwardBlock(d_hidden, ff_expand)
        self.fusions = nn.ModuleList(
            Fusion(d_hidden, kernel_size=1) for _ in range(used_scales)
        )
        self.top_down = nn.ModuleList(
            Fusion(d_hidden, kernel_size=5) for _ in range(num_scales - 1)
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
        masks: Masks = None,
    ) -> torch.Tensor:
        """Applies the block.

        Arguments
        ---------
        x : torch.Tensor
            Features, ``[B, L, d_model]``, L a multiple of the coarsest
            stride.
        spectra : list of torch.Tensor
            What `spectra` gave for L.
        masks : list of torch.Tensor, optional
            For each scale k, which frames count, ``[B, L / 2ᵏ, 1]``.

        Returns
        -------
        torch.Tensor
            ``[B, L, d_model]``.
        """
        mask = masks if masks is not None else [None] * self.num_scales
        z = self.expand(x)  # [B, L, d_hidden]
        scale, shift = self.expand_norm.affine(channel_moments(z, mask[0]))
        h = Affine(z, scale, shift, self.expand_act.weight, spent=True)
        del z  # from here on, what is no longer read is not kept

        scales, moments = [], []
        for k, conv in enumerate(self.bottom_up):
            # [B, L / 2ᵏ, d_hidden]
            h, m = conv(h, None, mask[max(k - 1, 0)], mask[k])
            h = h.settled()
            scales.append(h)
            moments.append(m)

        coarsest = scales[-1].signal.shape[1]
        means = [scale.mean(coarsest) for scale in scales[:-1]]
        pooled = sum(means, scales[-1].read())
        g = self.global_ff(self.global_s4(pooled, spectra[0], mask[-1]))
        g_moments = channel_moments(g, mask[-1])

        fused = [
            fusion(scales[k], moments[k], g, g_moments, mask[k], mask[-1])
            for k, fusion in enumerate(self.fusions)
        ]
        del scales, h
        start = self.num_scales - (3 if self.skips_coarsest else 1)
        top, top_mask = fused[start], mask[start]
        if not self.skips_coarsest:  # there, a later step reads it again
            top = top._replace(spent=True)
        for k in reversed(range(self.num_scales - 1)):
            coarse, top = top.read(), fused[k]._replace(spent=True)
            del fused[k:]
            top = self.top_down[k](top, None, coarse, None, mask[k], top_mask)
            top, top_mask = top._replace(spent=True), mask[k]
            if self.scale_s4:
                s4 = self.scale_s4[k]
                top = Affine(s4(top.read(), spectra[1 + k], top_mask))
        return x + linear(top, self.project.weight, self.project.bias)
