"""Conversations: who speaks when, and what a separation makes of it.

Values are ``[B]``, one an item, NaN where an item has nothing of the kind.
Shapes, lengths and errors: see `s4m_sb.metrics`. The targets themselves tell
who speaks, nothing else is needed; `who_speaks` says how.
"""

import math

import torch
from torch.nn import functional as F

from s4m_sb.metrics.contract import (
    EPS,
    check_estimate,
    prepare,
    valid_samples,
    without_padding,
)
from s4m_sb.metrics.permutation import best_permutation
from s4m_sb.metrics.snr import pairwise_si_snr, si_snr
from s4m_sb.network.lengths import num_samples

FRAME_S = 0.02
RANGE_DB = 40.0  # frames further below a talker's loudest one are silent
PAUSE_FRAMES = 25  # 0.5 s; what is shorter is part of a turn
WINDOW_S = 8.0  # in which two voices are told apart for sure
SPEECH_FRAMES = 25  # 0.5 s; less of a talker says nothing of his output


def who_speaks(
    target: torch.Tensor,
    sample_rate: int,
    lengths: torch.Tensor | None = None,
) -> torch.Tensor:
    """Which talkers speak in each frame of 20 ms, ``[B, F, S]``.

    A talker speaks in the frames that are at most 40 dB below his loudest
    one, and in pauses between them of less than 0.5 s, so that a turn is one
    piece. A target without energy never speaks.

    Example
    -------
    >>> target = torch.zeros(1, 16000, 2)  # 2 s
    >>> target[:, :8000, 0] = torch.randn(8000)
    >>> target[:, 8000:, 1] = torch.randn(8000)
    >>> who_speaks(target, sample_rate=8000).sum(dim=1)
    tensor([[50, 50]])
    """
    _, target, active = prepare(target, target, lengths)
    power = _frames(target, sample_rate)  # [B, F, S]
    loudest = power.amax(dim=1, keepdim=True)
    speaks = power > 10 ** (-RANGE_DB / 10) * loudest
    speaks &= active.unsqueeze(1)
    # Closing: what is nearer than a pause to both sides is filled.
    half = PAUSE_FRAMES // 2
    wide = F.pad(speaks.float().transpose(1, 2), (PAUSE_FRAMES, PAUSE_FRAMES))
    wide = F.max_pool1d(wide, PAUSE_FRAMES, 1, half)
    wide = -F.max_pool1d(-wide, PAUSE_FRAMES, 1, half)
    return wide[..., PAUSE_FRAMES:-PAUSE_FRAMES].transpose(1, 2) > 0


def overlap(
    target: torch.Tensor,
    sample_rate: int,
    lengths: torch.Tensor | None = None,
) -> torch.Tensor:
    """The share of the speech in which two or more talk, 0 to 1.

    Example
    -------
    >>> target = torch.randn(1, 16000, 2)
    >>> target[:, 4000:, 1] = 0
    >>> overlap(target, sample_rate=8000)
    tensor([0.2500])
    """
    talkers = who_speaks(target, sample_rate, lengths).sum(dim=2)
    return (talkers >= 2).sum(dim=1) / (talkers >= 1).sum(dim=1)


def assign(
    estimate: torch.Tensor,
    target: torch.Tensor,
    lengths: torch.Tensor | None = None,
) -> torch.Tensor:
    """Which estimate belongs to each target, ``[B, S]``; see `reorder`.

    By SI-SNR, as `pit_si_snr` does. In an item with a silent target it is by
    the amplitude that an estimate has along a target: a faint copy of the one
    who speaks, in the other output, has as good an SI-SNR as his voice.

    Example
    -------
    >>> target = torch.randn(1, 100, 2) * torch.tensor([1.0, 0.0])
    >>> leak = 0.01 * target[..., 0] + 0.1 * torch.randn(1, 100)
    >>> assign(torch.stack([leak, target[..., 0]], dim=2), target)
    tensor([[1, 0]])
    """
    return best_permutation(_fit(estimate, target, lengths))


def single_si_snr(
    estimate: torch.Tensor,
    target: torch.Tensor,
    sample_rate: int,
    lengths: torch.Tensor | None = None,
) -> torch.Tensor:
    """SI-SNR in items of several targets of which one is active, in dB."""
    values = si_snr(estimate, target, lengths)  # [B, S]
    alone = (values.isfinite().sum(dim=1) == 1) & (values.shape[1] > 1)
    return values.nanmean(dim=1).masked_fill(~alone, math.nan)


def leakage(
    estimate: torch.Tensor,
    target: torch.Tensor,
    sample_rate: int,
    lengths: torch.Tensor | None = None,
) -> torch.Tensor:
    """What is in the output of one who is silent, beside those who speak.

    Over all frames in which a target is silent and another one is not: the
    energy of its estimate (less what the target itself has there, at the
    estimate's scale) over that of the estimates of those who speak, in dB;
    -80 dB at least. The outputs count as they are, side by side, as one hears
    them; how loud they are beside the targets does not matter.

    Example
    -------
    >>> voice = torch.randn(1, 16000)
    >>> target = torch.stack([voice, torch.zeros(1, 16000)], dim=2)
    >>> estimate = torch.stack([voice, 0.1 * voice], dim=2)
    >>> leakage(estimate, target, sample_rate=8000)
    tensor([-20.])
    """
    check_estimate(estimate, target)
    speaks = who_speaks(target, sample_rate, lengths)  # [B, F, S]
    valid = valid_samples(target, lengths)
    target = without_padding(target, valid)
    estimate = without_padding(estimate, valid)
    scale = (estimate * target).sum(dim=1, keepdim=True) / (
        target.square().sum(dim=1, keepdim=True) + EPS
    )
    leak = _frames(estimate - scale * target, sample_rate)
    voices = _frames(estimate, sample_rate) * speaks
    silent = ~speaks & speaks.any(dim=2, keepdim=True)
    heard = (voices.sum(dim=2, keepdim=True) * silent).sum(dim=(1, 2))
    ratio = (leak * silent).sum(dim=(1, 2)) / heard
    level_db = 10 * torch.log10(ratio.clamp(EPS, 1 / EPS))
    return level_db.masked_fill(~silent.any(dim=2).any(dim=1), math.nan)


def order_in_windows(
    estimate: torch.Tensor, target: torch.Tensor, sample_rate: int
) -> torch.Tensor:
    """Which estimate belongs to each target, window by window.

    In windows of 8 s, one after the other; those in which nobody speaks for
    half a second are left out, and a rest shorter than a window. A target
    that is silent in a window keeps his estimate, if it is not taken.

    Arguments
    ---------
    estimate, target : torch.Tensor
        Of one item, ``[T, S]``, in one order.
    sample_rate : int
        In Hz.

    Returns
    -------
    torch.Tensor
        ``[W, S]``: 0, 1, ... where the order is the one given.

    Example
    -------
    >>> target = torch.randn(160000, 2)  # 20 s at 8 kHz
    >>> estimate = target.clone()
    >>> estimate[80000:] = target[80000:].flip(1)
    >>> order_in_windows(estimate, target, sample_rate=8000)
    tensor([[0, 1],
            [1, 0]])
    """
    speaks = who_speaks(target.unsqueeze(0), sample_rate)[0]  # [F, S]
    per_window = round(WINDOW_S / FRAME_S)
    length = per_window * _frame_length(sample_rate)
    count = len(target) // length
    held = torch.arange(target.shape[1], device=target.device)
    speech = speaks[: count * per_window].unflatten(0, (count, per_window))
    heard = speech.sum(dim=1) >= SPEECH_FRAMES  # [W, S]
    pieces = (
        x[: count * length].unflatten(0, (count, length))
        for x in (estimate, target)
    )
    estimates, targets = (piece[heard.any(dim=1)] for piece in pieces)
    targets = targets * heard[heard.any(dim=1)].unsqueeze(1)
    orders = []
    for scores in _fit(estimates, targets, None).nan_to_num(nan=0.0):
        scores[held, torch.arange(len(held))] += 1e-6 * scores.abs().amax()
        held = best_permutation(scores.unsqueeze(0))[0]
        orders.append(held)
    return torch.stack(orders) if orders else held.new_zeros(0, len(held))


def exchanges(
    estimate: torch.Tensor,
    target: torch.Tensor,
    sample_rate: int,
    lengths: torch.Tensor | None = None,
) -> torch.Tensor:
    """How often voices change places, per minute.

    Counts where the order of one window is not that of the one before; see
    `order_in_windows`. NaN with less than two windows with speech.

    Example
    -------
    >>> target = torch.randn(1, 480000, 2)  # a minute at 8 kHz
    >>> estimate = target.clone()
    >>> estimate[:, 200000:] = target[:, 200000:].flip(2)
    >>> exchanges(estimate, target, sample_rate=8000)
    tensor([1.])
    """
    check_estimate(estimate, target)
    num_items, T, _ = target.shape
    samples = [T] * num_items
    if lengths is not None:
        samples = num_samples(lengths, T).tolist()
    rates = target.new_full((num_items,), math.nan, dtype=torch.float32)
    for item, length in enumerate(samples):
        orders = order_in_windows(
            estimate[item, :length], target[item, :length], sample_rate
        )
        if len(orders) > 1:
            count = (orders[1:] != orders[:-1]).any(dim=1).sum()
            rates[item] = count / (length / sample_rate / 60)
    return rates


def _fit(
    estimate: torch.Tensor,
    target: torch.Tensor,
    lengths: torch.Tensor | None,
) -> torch.Tensor:
    """How well each estimate fits each target, ``[B, S, S]``; see `assign`."""
    scores = pairwise_si_snr(estimate, target, lengths)
    estimate, target, active = prepare(estimate, target, lengths)
    amplitudes = torch.einsum("bti,btj->bij", estimate, target).abs()
    amplitudes = amplitudes / target.norm(dim=1).clamp(min=EPS).unsqueeze(1)
    return torch.where(active.all(dim=1)[:, None, None], scores, amplitudes)


def _frame_length(sample_rate: int) -> int:
    return max(round(FRAME_S * sample_rate), 1)


def _frames(signal: torch.Tensor, sample_rate: int) -> torch.Tensor:
    """The energy of each frame, ``[B, F, S]``, the last one cut short."""
    length = _frame_length(sample_rate)
    rest = -signal.shape[1] % length
    signal = F.pad(signal, (0, 0, 0, rest))
    return signal.unflatten(1, (-1, length)).square().sum(dim=2)
