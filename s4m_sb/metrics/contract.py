"""What `s4m_sb.metrics` promises of all metrics, in code.

Shapes, lengths and silence are looked at here, for every metric alike.
"""

import math
from collections.abc import Callable

import torch

from s4m_sb.errors import InputError
from s4m_sb.network.lengths import num_samples, sample_mask

EPS = 1e-8  # SpeechBrain's: it makes -80 dB the lowest SI-SNR
FLOOR_DB = 10 * math.log10(EPS)
NO_NOISE_DB = 70.0  # 16-bit files round at about 80 dB below the speech


def prepare(
    estimate: torch.Tensor,
    target: torch.Tensor,
    lengths: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Both without mean and padding, ``[B, T, S]``; active, ``[B, S]``."""
    check_estimate(estimate, target)
    valid = valid_samples(target, lengths)
    estimate, _ = _centred(estimate, valid)
    target, mean = _centred(target, valid)
    return estimate, target, _is_active(target, mean)


def without_padding(
    signal: torch.Tensor, valid: torch.Tensor | None
) -> torch.Tensor:
    """In float32 at least, ``[B, T, S]``, zero where it is not valid."""
    signal = signal.to(torch.promote_types(signal.dtype, torch.float32))
    return signal if valid is None else signal.masked_fill(~valid, 0)


def valid_samples(
    target: torch.Tensor, lengths: torch.Tensor | None
) -> torch.Tensor | None:
    """Which samples are no padding, ``[B, T, 1]``; None if all are valid."""
    if lengths is None:
        return None
    num_items, num_frames, _ = target.shape
    if lengths.shape != (num_items,):
        raise InputError(
            f"lengths has shape {tuple(lengths.shape)}; "
            f"one per item is needed: ({num_items},)"
        )
    samples = num_samples(lengths, num_frames).to(target.device)
    return sample_mask(samples, num_frames).unsqueeze(2)


def check_estimate(estimate: torch.Tensor, target: torch.Tensor) -> None:
    """Refuses what is not ``[B, T, S]`` twice."""
    if estimate.shape != target.shape or target.dim() != 3:
        raise InputError(
            f"estimate {tuple(estimate.shape)} and target "
            f"{tuple(target.shape)} must have one shape [B, T, S]"
        )


def check_mixture(mixture: torch.Tensor, target: torch.Tensor) -> None:
    """Refuses what is not ``[B, T]`` beside ``[B, T, S]``."""
    if target.dim() != 3 or mixture.shape != target.shape[:2]:
        raise InputError(
            f"mixture {tuple(mixture.shape)} and target "
            f"{tuple(target.shape)} must be [B, T] and [B, T, S]"
        )


def as_estimate(mixture: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """The mixture in place of every estimate, ``[B, T, S]``."""
    check_mixture(mixture, target)
    return mixture.unsqueeze(2).expand_as(target)


def one_by_one(
    metric: Callable[[torch.Tensor, torch.Tensor], float],
    estimate: torch.Tensor,
    target: torch.Tensor,
    lengths: torch.Tensor | None,
) -> torch.Tensor:
    """Calls ``metric(estimate [T], target [T])`` without the padding.

    For what a library rates, on the CPU; ``[B, S]``, NaN for silent targets.
    """
    _, _, active = prepare(estimate, target, lengths)
    valid = valid_samples(target, lengths)
    values = torch.full(active.shape, math.nan, device=target.device)
    for item, source in active.nonzero().tolist():
        inside = slice(None) if valid is None else valid[item, :, 0]
        values[item, source] = metric(
            estimate[item, inside, source].detach().float().cpu(),
            target[item, inside, source].detach().float().cpu(),
        )
    return values


def not_installed(metric: str, error: ImportError) -> InputError:
    """The error that says how to get a metric's library."""
    return InputError(
        f"{metric} needs {error.name or 'a library'}, which is not "
        "installed: pip install s4m_sb[eval]"
    )


def _centred(
    signal: torch.Tensor, valid: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Without its mean over what is valid, zero elsewhere; and that mean."""
    signal = without_padding(signal, valid)
    if valid is None:
        mean = signal.sum(dim=1, keepdim=True) / max(signal.shape[1], 1)
        return signal - mean, mean
    count = valid.sum(dim=1, keepdim=True).clamp(min=1)
    mean = signal.sum(dim=1, keepdim=True) / count
    return (signal - mean).masked_fill(~valid, 0), mean


def _is_active(centred: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
    """Whether more is left than a mean's rounding error, ``[B, S]``."""
    energy = centred.detach().square().sum(dim=1)
    rounding = 8 * torch.finfo(mean.dtype).eps * mean.detach().squeeze(1)
    # Negated, so that a target with NaN is active and shows.
    return ~(energy <= EPS + centred.shape[1] * rounding.square())
