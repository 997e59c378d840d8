"""Augmentation of source signals that knows where each of them ends.

Random numbers come from PyTorch's own generator of the CPU, as they do in
SpeechBrain's augmentations, so that one seed governs all of them.
"""

from collections.abc import Callable
from typing import Any

import torch

from s4m_sb.errors import InputError
from s4m_sb.network.lengths import num_samples


@torch.no_grad()
def augment(
    hparams: Any,
    mixture: torch.Tensor,
    sources: torch.Tensor,
    lengths: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Changes speed, shifts, drops and cuts, as the YAML says.

    Before anything is dropped the mixture is the sum of the images and
    the noise, which is cut or repeated to their length.

    Arguments
    ---------
    hparams : Namespace
        The keys of ``keys.py``.
    mixture : torch.Tensor
        ``[B, T]``.
    sources : torch.Tensor
        ``[V, B, T, S]``: the first view are the targets, the last one
        the images.
    lengths : torch.Tensor
        Relative, ``[B]``.

    Returns
    -------
    torch.Tensor
        Mixture, ``[B, T']``.
    torch.Tensor
        Sources, ``[V, B, T', S]``.
    torch.Tensor
        Relative lengths, ``[B]``.
    """
    noise = mixture - sources[-1].sum(-1)  # [B, T]
    samples = num_samples(lengths, noise.shape[1])
    changed = False
    if hparams.use_speedperturb:
        sources = change_speed(sources, hparams.speed_perturb)
        changed = True
    if hparams.use_rand_shift:
        sources = random_shift(
            sources,
            num_samples(lengths, sources.shape[2]),
            hparams.min_shift,
            hparams.max_shift,
        )
        changed = True
    if changed:
        noise = fit_noise(noise, samples, sources.shape[2])
        mixture = sources[-1].sum(-1) + noise
    if hparams.use_wavedrop:
        mixture = hparams.drop_chunk(mixture, lengths)
        mixture = hparams.drop_freq(mixture)
    if hparams.limit_training_signal_len:
        V, _, T, S = sources.shape
        signals = torch.cat([mixture.unsqueeze(-1), *sources], dim=-1)
        signals, samples = random_segment(
            signals,
            num_samples(lengths, T),
            hparams.training_signal_len,
        )  # [B, T', 1 + V * S]
        lengths = samples / signals.shape[1]
        mixture = signals[..., 0]
        sources = signals[..., 1:].unflatten(-1, (V, S)).movedim(-2, 0)
    return mixture, sources, lengths


def change_speed(
    sources: torch.Tensor,
    speed_perturb: Callable[[torch.Tensor], torch.Tensor],
) -> torch.Tensor:
    """Changes the speed of each source; relative lengths stay as they are.

    Arguments
    ---------
    sources : torch.Tensor
        ``[..., B, T, S]``; what stands before B are views of the same
        sources, which get the same speed.
    speed_perturb : callable
        ``[B, T] -> [B, T']``, drawing a speed at every call, such as
        SpeechBrain's ``SpeedPerturb``.

    Returns
    -------
    torch.Tensor
        ``[..., B, T', S]``, as long as the fastest source.
    """
    *outer, T, S = sources.shape
    flat = sources.reshape(-1, T, S)
    changed = [speed_perturb(s.contiguous()) for s in flat.unbind(-1)]
    shortest = min(source.shape[-1] for source in changed)
    stacked = torch.stack([s[:, :shortest] for s in changed], dim=-1)
    return stacked.view(*outer, shortest, S)


def random_shift(
    sources: torch.Tensor, samples: torch.Tensor, low: int, high: int
) -> torch.Tensor:
    """Rotates each source in time, within its item's own length.

    Arguments
    ---------
    sources : torch.Tensor
        ``[..., B, T, S]``; what stands before B are views of the same
        sources, which are shifted alike.
    samples : torch.Tensor
        Length of each item in samples, ``[B]``.
    low, high : int
        Bounds of the shift in samples, ``high`` excluded.

    Returns
    -------
    torch.Tensor
        ``[..., B, T, S]``; padding stays where it is.

    Raises
    ------
    InputError
        If ``low`` is not below ``high``.
    """
    if low >= high:
        raise InputError(
            f"min_shift must be below max_shift, got {low} and {high}"
        )
    *_, B, T, S = sources.shape
    shifts = torch.randint(low, high, (B, 1, S)).to(sources.device)
    length = samples.to(sources.device)[:, None, None]
    frame = torch.arange(T, device=sources.device)[None, :, None]
    index = torch.where(frame < length, (frame - shifts) % length, frame)
    return sources.gather(-2, index.expand(sources.shape))


def fit_noise(
    noise: torch.Tensor, samples: torch.Tensor, num_frames: int
) -> torch.Tensor:
    """Cuts or repeats the noise of each item.

    Arguments
    ---------
    noise : torch.Tensor
        ``[B, T]``.
    samples : torch.Tensor
        Length of each item in samples, ``[B]``.
    num_frames : int
        Samples wanted.

    Returns
    -------
    torch.Tensor
        ``[B, num_frames]``; what lies behind the end of an item is not used.

    Example
    -------
    >>> noise = torch.tensor([[1, 2, 3], [4, 5, 0]])
    >>> fit_noise(noise, torch.tensor([3, 2]), 5)
    tensor([[1, 2, 3, 1, 2],
            [4, 5, 4, 5, 4]])
    """
    frame = torch.arange(num_frames, device=noise.device)
    length = samples.to(noise.device).clamp(min=1)[:, None]
    return noise.gather(1, frame % length)


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
