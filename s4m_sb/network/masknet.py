"""The mask network of S4M: one shared multi-scale block, repeated.

    features ─ norm ─ 1×1 ─┬─► block ─┬─► block ─┬─ ... ─► PReLU ─ 1×1 ─ ReLU
                           │          +          +
                           └──────────┴──────────┴─ (the mixture's features)

Chen et al., Interspeech 2023, section 2.1. Drop-in for the mask networks of
SpeechBrain: `S4MMaskNet(features [B, F, L]) -> masks [S, B, F, L]`.

Above this file: the YAMLs in `recipes/`. Below it: `multiscale.py`.
"""

import torch
import torch.nn.functional as F
from torch import nn

from s4m_sb.errors import InputError
from s4m_sb.network.fused.deferred import Deferred, linear
from s4m_sb.network.fused.recompute import recomputed
from s4m_sb.network.fused.uncompiled import uncompiled
from s4m_sb.network.multiscale import MultiScaleBlock
from s4m_sb.network.norm import GlobalNorm


class S4MMaskNet(nn.Module):
    """S4M's mask network.

    Arguments
    ---------
    num_spks : int
        Number of speakers S, one mask each.
    num_filters : int
        Filters F of the encoder.
    d_model : int
        Channels between the repeats.
    d_hidden : int
        Channels inside a block.
    num_scales : int
        Time scales; the coarsest has 2^(num_scales - 1) times fewer frames.
        1: no multi-scale path.
    num_repeats : int
        How often the shared block is applied.
    d_state : int
        State size of the S4 layers.
    kernel : str
        "s4" (diagonal plus low rank, as in the paper) or "s4d" (diagonal).
    ff_expand : int
        Expansion of the block's feed-forward part.
    s4_per_scale : bool
        Adds an S4 block at each scale of the top-down path. False is
        S4M-tiny. True with ``ff_expand=1`` is our reconstruction of S4M,
        which was never published as code: the variant whose parameters and
        operations fit those of the paper.
    topdown_start : str
        "coarsest" (default), or "published": a slip in the authors' code
        that leaves the coarsest fusion unused, kept for imported weights.
    checkpoint_repeats : bool
        In training, keep only each repeat's input and compute the rest
        again in the backward pass: memory stops growing with the repeats,
        for about a third more time.

    Raises
    ------
    InputError
        If a value is out of range.

    Example
    -------
    >>> masknet = S4MMaskNet(
    ...     num_spks=2, num_filters=9, d_model=8, d_hidden=16, num_repeats=2
    ... )
    >>> masknet(torch.randn(3, 9, 101)).shape
    torch.Size([2, 3, 9, 101])
    """

    takes_num_frames = True

    def __init__(
        self,
        num_spks: int = 2,
        num_filters: int = 9,
        d_model: int = 128,
        d_hidden: int = 512,
        num_scales: int = 5,
        num_repeats: int = 16,
        d_state: int = 16,
        kernel: str = "s4",
        ff_expand: int = 2,
        s4_per_scale: bool = False,
        topdown_start: str = "coarsest",
        checkpoint_repeats: bool = False,
    ):
        super().__init__()
        for name, value in (
            ("num_spks", num_spks),
            ("num_filters", num_filters),
            ("d_model", d_model),
            ("num_repeats", num_repeats),
        ):
            if value < 1:
                raise InputError(f"{name} must be at least 1, got {value}")
        self.num_spks = num_spks
        self.num_repeats = num_repeats
        self.checkpoint_repeats = checkpoint_repeats
        self.input_norm = GlobalNorm(num_filters)
        self.bottleneck = nn.Linear(num_filters, d_model)
        self.block = MultiScaleBlock(
            d_model,
            d_hidden,
            num_scales,
            d_state,
            kernel,
            ff_expand,
            s4_per_scale,
            topdown_start,
        )
        if num_repeats > 1:
            self.rejoin = Rejoin(d_model)
        self.output_act = nn.PReLU()
        self.output = nn.Linear(d_model, num_spks * num_filters)

    # What is fused by hand here, the compiler undoes: twice the time on a CPU.
    @uncompiled
    def forward(
        self, features: torch.Tensor, num_frames: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Finds one mask a speaker.

        Arguments
        ---------
        features : torch.Tensor
            Encoded mixture, ``[B, F, L]``, L ≥ 1.
        num_frames : torch.Tensor, optional
            Frames of each item that count, integers, ``[B]``. The masks of
            an item are then those that it would get alone; what stands
            behind its end has no influence.

        Returns
        -------
        torch.Tensor
            Masks, not negative, ``[S, B, F, L]``.
        """
        L = features.shape[-1]
        stride = self.block.coarsest_stride
        padding = -L % stride
        x = features.transpose(1, 2)  # [B, L, F]
        valid, mask = None, None
        if num_frames is not None:
            valid = _frame_mask(num_frames, L, x.dtype)
            # Zero times NaN is NaN: what is behind the end is replaced.
            x = x.masked_fill(valid == 0, 0.0)
            # Up to whole frames of the coarsest scale, padding is silence.
            coarse = -(-num_frames // stride)
            mask = _frame_mask(coarse * stride, L + padding, x.dtype)
        x = linear(self.input_norm(Deferred(x, valid)), self.bottleneck).read()
        if valid is not None:
            x = x * valid
        mixture = F.pad(x, (0, 0, 0, padding))  # [B, L + padding, d_model]

        spectra = self.block.spectra(L + padding)
        x = self._repeat(mixture, None, spectra, mask)
        for _ in range(self.num_repeats - 1):
            x = self._repeat(mixture, x, spectra, mask)

        h = Deferred(x[:, :L]).prelu(self.output_act.weight)
        x = linear(h, self.output).read()  # [B, L, S·F]
        x = F.relu(x).unflatten(-1, (self.num_spks, -1))
        return x.permute(2, 0, 3, 1)

    def _repeat(
        self,
        mixture: torch.Tensor,
        x: torch.Tensor | None,
        spectra: list[torch.Tensor],
        mask: torch.Tensor | None,
    ) -> torch.Tensor:
        if not (self.checkpoint_repeats and torch.is_grad_enabled()):
            return self._apply_block(mixture, x, spectra, mask)
        parts = [self.block] if x is None else [self.block, self.rejoin]
        return recomputed(
            lambda mixture, x, *spectra: self._apply_block(
                mixture, x, list(spectra), mask
            ),
            [mixture, x, *spectra],
            [p for part in parts for p in part.parameters()],
        )

    def _apply_block(
        self,
        mixture: torch.Tensor,
        x: torch.Tensor | None,
        spectra: list[torch.Tensor],
        mask: torch.Tensor | None,
    ) -> torch.Tensor:
        if x is None:
            return self.block(mixture, spectra, mask)
        return self.block(self.rejoin(mixture + x), spectra, mask)


class Rejoin(nn.Module):
    """Scale, bias and PReLU of each channel, before every further repeat.

    Arguments
    ---------
    d_model : int
        Number of channels.

    Example
    -------
    >>> Rejoin(8)(torch.randn(2, 100, 8)).shape
    torch.Size([2, 100, 8])
    """

    def __init__(self, d_model: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(d_model))
        self.bias = nn.Parameter(torch.empty(d_model))
        self.act = nn.PReLU()
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws scale and bias as a depthwise 1×1 `Conv1d` does."""
        nn.init.uniform_(self.weight, -1, 1)
        nn.init.uniform_(self.bias, -1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Applies it to ``[B, L, d_model]``."""
        scale, shift = self.weight.expand(1, 1, -1), self.bias.expand(1, 1, -1)
        return Deferred(x).then(scale, shift).prelu(self.act.weight).read()


def _frame_mask(
    num_frames: torch.Tensor, length: int, dtype: torch.dtype
) -> torch.Tensor:
    """1 for the first ``num_frames`` of ``length`` frames, ``[B, L, 1]``."""
    frames = torch.arange(length, device=num_frames.device)
    return (frames < num_frames.unsqueeze(-1)).to(dtype).unsqueeze(-1)
