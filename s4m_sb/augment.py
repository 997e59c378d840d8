"""Augmentation of source signals that knows where each of them ends.

Random numbers come from PyTorch's own generator of the CPU, as they do in
SpeechBrain's augmentations, so that one seed governs all of them.
"""

import torch

from s4m_sb.errors import InputError


def random_shift(
    targets: torch.Tensor, samples: torch.Tensor, low: int, high: int
) -> torch.Tensor:
    """Rotates each source in time, within its item's own length.

    Arguments
    ---------
    targets : torch.Tensor
        Sources, ``[B, T, S]``.
    samples : torch.Tensor
        Length of each item in samples, ``[B]``.
    low, high : int
        Bounds of the shift in samples, ``high`` excluded.

    Returns
    -------
    torch.Tensor
        ``[B, T, S]``; padding stays where it is.

    Raises
    ------
    InputError
        If ``low`` is not below ``high``.
    """
    if low >= high:
        raise InputError(
            f"min_shift must be below max_shift, got {low} and {high}"
        )
    B, T, S = targets.shape
    shifts = torch.randint(low, high, (B, 1, S)).to(targets.device)
    length = samples.to(targets.device)[:, None, None]
    frame = torch.arange(T, device=targets.device)[None, :, None]
    index = torch.where(frame < length, (frame - shifts) % length, frame)
    return targets.gather(1, index)


def random_segment(
    signals: torch.Tensor, samples: torch.Tensor, segment_samples: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cuts a random segment out of each item.

    Arguments
    ---------
    signals : torch.Tensor
        Signals that are cut alike, ``[B, T, N]``.
    samples : torch.Tensor
        Length of each item in samples, ``[B]``.
    segment_samples : int
        Longest segment in samples; shorter items are kept whole.

    Returns
    -------
    torch.Tensor
        ``[B, T', N]`` with T' = min(T, segment_samples).
    torch.Tensor
        New lengths in samples, ``[B]``.

    Raises
    ------
    InputError
        If ``segment_samples`` is below 1.
    """
    if segment_samples < 1:
        raise InputError(
            f"training_signal_len must be at least 1, got {segment_samples}"
        )
    B, T, N = signals.shape
    length = min(T, segment_samples)
    room = (samples - segment_samples).clamp(min=0)
    starts = (torch.rand(B) * (room.cpu() + 1)).long().to(signals.device)
    index = starts[:, None] + torch.arange(length, device=signals.device)
    # An item shorter than the others has padding behind its end.
    index = index.clamp(max=T - 1)[..., None].expand(-1, -1, N)
    return signals.gather(1, index), samples.clamp(max=segment_samples)
