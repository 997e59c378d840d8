"""Augmentation of source signals that knows where each of them ends.

Random numbers come from PyTorch's own generator of the CPU, as they do in
SpeechBrain's augmentations, so that one seed governs all of them.
"""

from collections.abc import Callable

import torch

from s4m_sb.errors import InputError


def change_speed(
    target: torch.Tensor,
    speed_perturb: Callable[[torch.Tensor], torch.Tensor],
) -> torch.Tensor:
    """Changes the speed of each source; relative lengths stay as they are.

    Arguments
    ---------
    target : torch.Tensor
        Sources, ``[B, T, S]``.
    speed_perturb : callable
        ``[B, T] -> [B, T']``, drawing a speed at every call, such as
        SpeechBrain's ``SpeedPerturb``.

    Returns
    -------
    torch.Tensor
        ``[B, T', S]``, as long as the fastest source.
    """
    sources = [speed_perturb(s.contiguous()) for s in target.unbind(-1)]
    shortest = min(source.shape[-1] for source in sources)
    return torch.stack([s[:, :shortest] for s in sources], dim=-1)


def remix(
    target: torch.Tensor, mixture: torch.Tensor, changed: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Puts changed sources in place of the old ones in a mixture.

    Arguments
    ---------
    target : torch.Tensor
        Sources as they are in the mixture, ``[B, T, S]``.
    mixture : torch.Tensor
        ``[B, T]``.
    changed : torch.Tensor
        What the sources became, ``[B, T', S]``.

    Returns
    -------
    torch.Tensor
        The changed sources, ``[B, min(T, T'), S]``.
    torch.Tensor
        Their sum with whatever else was in the mixture.

    Example
    -------
    >>> target, noise = torch.ones(1, 3, 2), torch.full((1, 3), 0.5)
    >>> remix(target, target.sum(-1) + noise, 2 * target)[1]
    tensor([[4.5000, 4.5000, 4.5000]])
    """
    rest = mixture - target.sum(-1)
    T = min(rest.shape[1], changed.shape[1])
    changed = changed[:, :T]
    return changed, changed.sum(-1) + rest[:, :T]


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
