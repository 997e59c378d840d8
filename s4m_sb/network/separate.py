"""From a mixture to its sources: the only forward path.

Training, evaluation and inference all call `separate`. Its three networks
may be those of this package or SpeechBrain's own, bare or wrapped for
distributed training.

Above this file: `training/brain.py`, `inference/interface.py`. Below it:
`lengths.py`, and the networks that it is given.
"""

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from s4m_sb.errors import InputError
from s4m_sb.network.lengths import num_samples, sample_mask


def separate(
    mixture: torch.Tensor,
    lengths: torch.Tensor | None,
    encoder: nn.Module,
    masknet: nn.Module,
    decoder: nn.Module,
) -> torch.Tensor:
    """Separates mixtures.

    Arguments
    ---------
    mixture : torch.Tensor
        Waveforms, ``[B, T]``.
    lengths : torch.Tensor or None
        Relative length of each item, 0 to 1, ``[B]``; None if all are full.
        What stands behind the end of an item does not count. With a mask
        network that does not take ``num_frames`` (SpeechBrain's own), it is
        silence that the network still sees.
    encoder : nn.Module
        ``[B, T] -> [B, F, L]``.
    masknet : nn.Module
        ``[B, F, L] -> [S, B, F, L]``.
    decoder : nn.Module
        ``[B, F, L] -> [B, T']``.

    Returns
    -------
    torch.Tensor
        Sources, ``[B, T, S]``, zero behind the end of an item.

    Raises
    ------
    InputError
        If ``mixture`` is not ``[B, T]`` with T ≥ 1.

    Example
    -------
    >>> from s4m_sb.network.filterbank import Decoder, Encoder
    >>> from s4m_sb.network.masknet import S4MMaskNet
    >>> masknet = S4MMaskNet(d_model=8, d_hidden=16, num_repeats=2)
    >>> separate(
    ...     torch.randn(3, 1001), None, Encoder(), masknet, Decoder()
    ... ).shape
    torch.Size([3, 1001, 2])
    """
    if mixture.dim() != 2 or mixture.shape[1] == 0:
        raise InputError(
            "a mixture has the shape [B, T] with at least one sample, "
            f"got {list(mixture.shape)}"
        )
    if not torch.is_grad_enabled():
        # A distributed module talks to the other ranks, who may be elsewhere.
        encoder, masknet, decoder = map(_alone, (encoder, masknet, decoder))
    T = mixture.shape[1]
    mask, num_frames = None, None
    if lengths is not None:
        if len(lengths) != len(mixture):
            raise InputError(
                f"{len(lengths)} lengths for {len(mixture)} mixtures; one "
                "each is needed"
            )
        samples = num_samples(lengths, T).to(mixture.device)
        mask = sample_mask(samples, T)
        # Zero times NaN is NaN: padding is replaced, not multiplied.
        mixture = mixture.masked_fill(~mask, 0.0)
        if getattr(_bare(masknet), "takes_num_frames", False):
            num_frames = _count_frames(_bare(encoder), samples)

    features = encoder(mixture)  # [B, F, L]
    if num_frames is not None:
        beyond = ~sample_mask(num_frames, features.shape[-1])
        features = features.masked_fill(beyond.unsqueeze(1), 0.0)
    # SpeechBrain's mask networks take the features alone.
    counts = () if num_frames is None else (num_frames,)
    masks = masknet(features, *counts)  # [S, B, F, L]
    S, B = masks.shape[:2]
    decoded = decoder((masks * features).flatten(0, 1))  # [S·B, T']
    decoded = F.pad(decoded, (0, max(0, T - decoded.shape[1])))[:, :T]
    sources = decoded.unflatten(0, (S, B)).permute(1, 2, 0)  # [B, T, S]
    if mask is not None:
        sources = sources.masked_fill(~mask.unsqueeze(-1), 0.0)
    return sources


def _count_frames(encoder: Any, samples: torch.Tensor) -> torch.Tensor:
    """Frames that the encoder makes of items of these lengths, ``[B]``."""
    if hasattr(encoder, "num_frames"):
        return encoder.num_frames(samples)
    weight = next(encoder.parameters())
    counts = []
    for length in samples.tolist():
        try:
            with torch.no_grad():
                features = encoder(weight.new_zeros(1, length))
            counts.append(features.shape[-1])
        except RuntimeError:  # shorter than one of its windows
            counts.append(1)
    return torch.tensor(counts, device=samples.device)


def _alone(module: nn.Module) -> nn.Module:
    """The module inside a distributed one."""
    if isinstance(module, DistributedDataParallel):
        return cast(nn.Module, module.module)
    return module


def _bare(module: nn.Module) -> nn.Module:
    """The module inside a distributed or compiled one."""
    module = getattr(module, "_orig_mod", module)
    return getattr(module, "module", module)
