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
channels-last layout. A norm is a scale and a shift (`norm.py`), and an
upsampled coarse signal is a broadcast, so that each fusion reads and writes
the fine signal once.

Above this file: `masknet.py`. Below it: `s4.py`, `norm.py`, `depthwise.py`.
"""

import torch
from torch import nn

from s4m_sb.depthwise import DepthwiseConv
from s4m_sb.errors import InputError
from s4m_sb.norm import GlobalNorm, Moments, channel_moments, scale_shift
from s4m_sb.s4 import FeedForwardBlock, S4Block

Masks = list[torch.Tensor] | None


class NormedConv(nn.Module):
    """Depthwise convolution and global norm, kept apart as z, scale, shift.

    ``norm(conv(x)) = z · scale + shift``. A convolution with one tap is
    folded into the scale, so that z is x itself.

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
        x: torch.Tensor,
        moments: Moments,
        mask: torch.Tensor | None = None,
        mask_out: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, Moments]:
        """Applies the convolution and finds the norm.

        Arguments
        ---------
        x : torch.Tensor
            Input, ``[B, L, C]``.
        moments : Moments
            Those of x; used if the convolution has one tap.
        mask, mask_out : torch.Tensor, optional
            Frames that count in x and in z, ``[B, L, 1]``.

        Returns
        -------
        torch.Tensor
            z, ``[B, L', C]``.
        torch.Tensor
            Scale, ``[B, 1, C]``.
        torch.Tensor
            Shift, ``[B, 1, C]``.
        Moments
            Those of the normed signal.
        """
        if self.conv.kernel_size == 1:
            weight = self.conv.weight[:, 0, 0]
            moments = moments.affine(weight, torch.zeros_like(weight))
            scale, shift = self.norm.affine(moments)
            return x, weight * scale, shift, moments.affine(scale, shift)
        z = self.conv(x if mask is None else x * mask)
        moments = channel_moments(z, mask_out)
        scale, shift = self.norm.affine(moments)
        return z, scale, shift, moments.affine(scale, shift)

    @property
    def is_fresh(self) -> bool:
        """Whether z is a signal of its own, and not x."""
        return self.conv.kernel_size > 1

    def normed(
        self,
        x: torch.Tensor,
        moments: Moments | None,
        mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The normed signal itself, ``[B, L, C]``; see `forward`."""
        z, scale, shift, _ = self(x, moments, mask, mask)
        return scale_shift(z, scale, shift, self.is_fresh)


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
    >>> Fusion(8, kernel_size=5)(local, None, coarse, None).shape
    torch.Size([2, 40, 8])
    """

    def __init__(self, num_channels: int, kernel_size: int):
        super().__init__()
        self.local = NormedConv(num_channels, kernel_size)
        self.gate = NormedConv(num_channels, kernel_size)
        self.value = NormedConv(num_channels, kernel_size)

    def forward(
        self,
        local: torch.Tensor,
        local_moments: Moments | None,
        coarse: torch.Tensor,
        coarse_moments: Moments | None,
        local_mask: torch.Tensor | None = None,
        coarse_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Fuses.

        Arguments
        ---------
        local : torch.Tensor
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
        torch.Tensor
            ``[B, L, C]``.
        """
        z, scale, shift, _ = self.local(
            local, local_moments, local_mask, local_mask
        )
        gate = torch.sigmoid(
            self.gate.normed(coarse, coarse_moments, coarse_mask)
        )
        value = self.value.normed(coarse, coarse_moments, coarse_mask)
        frames, coarse_frames = local.shape[1], coarse.shape[1]
        if coarse_frames > frames:
            step = coarse_frames // frames
            gate, value = gate[:, ::step], value[:, ::step]
        # Scale and shift of the local norm join the gate and the value while
        # these are coarse; what is left is one multiply-add at full length.
        ratio = frames // gate.shape[1]
        value = scale_shift(gate, shift, value).unsqueeze(2)
        gate = (gate * scale).unsqueeze(2)
        z = z.unflatten(1, (-1, ratio))  # [B, L / r, r, C]
        return scale_shift(z, gate, value, self.local.is_fresh).flatten(1, 2)


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
        h = self.expand(x)  # [B, L, d_hidden]
        h = _prelu(self.expand_norm(h, mask[0], spent=True), self.expand_act)

        scales, moments = [], []
        for k, conv in enumerate(self.bottom_up):
            z, scale, shift, m = conv(
                h, None, mask[max(k - 1, 0)], mask[k]
            )  # [B, L / 2ᵏ, d_hidden]
            h = scale_shift(z, scale, shift, spent=True)
            scales.append(h)
            moments.append(m)

        coarsest = scales[-1].shape[1]
        pooled = scales[-1]
        for finer in scales[:-1]:
            pooled = pooled + finer.unflatten(1, (coarsest, -1)).mean(2)
        g = self.global_ff(self.global_s4(pooled, spectra[0], mask[-1]))
        g_moments = channel_moments(g, mask[-1])

        fused = [
            fusion(scales[k], moments[k], g, g_moments, mask[k], mask[-1])
            for k, fusion in enumerate(self.fusions)
        ]
        start = self.num_scales - (3 if self.skips_coarsest else 1)
        top, top_mask = fused[start], mask[start]
        for k in reversed(range(self.num_scales - 1)):
            top = self.top_down[k](fused[k], None, top, None, mask[k], top_mask)
            top_mask = mask[k]
            if self.scale_s4:
                top = self.scale_s4[k](top, spectra[1 + k], top_mask)
        return x + self.project(top)


def _prelu(x: torch.Tensor, act: nn.PReLU) -> torch.Tensor:
    """PReLU; x is overwritten if no gradients are needed, on a CPU."""
    if torch.is_grad_enabled() or x.device.type != "cpu":
        return act(x)
    return nn.functional.leaky_relu_(x, float(act.weight))
