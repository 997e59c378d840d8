"""Ratios in dB: SI-SNR and what is made of it, SDR, and their improvements.

Shapes, lengths, silence and errors: see `s4m_sb.metrics`.
"""

import math
from collections.abc import Callable
from typing import Any

import torch

from s4m_sb.metrics.contract import (
    EPS,
    FLOOR_DB,
    NO_NOISE_DB,
    as_estimate,
    check_mixture,
    not_installed,
    one_by_one,
    prepare,
    valid_samples,
    without_padding,
)
from s4m_sb.metrics.permutation import best_permutation, reorder


def si_snr(
    estimate: torch.Tensor,
    target: torch.Tensor,
    lengths: torch.Tensor | None = None,
) -> torch.Tensor:
    """Scale-invariant signal-to-noise ratio, source by source.

    The estimate e and the target t are freed of their means; then
    ``10 log10(|a t|^2 / |e - a t|^2)`` with ``a = <e, t> / <t, t>``. The same
    number as SpeechBrain's ``cal_si_snr`` where that is defined.

    Example
    -------
    >>> target = torch.tensor([1.0, -1.0, 1.0, -1.0]).view(1, 4, 1)
    >>> noise = torch.tensor([1.0, 1.0, -1.0, -1.0]).view(1, 4, 1)
    >>> si_snr(estimate=2 * target + 0.2 * noise, target=target)
    tensor([[20.0000]])
    """
    return _si_snr(*prepare(estimate, target, lengths))


def pairwise_si_snr(
    estimate: torch.Tensor,
    target: torch.Tensor,
    lengths: torch.Tensor | None = None,
) -> torch.Tensor:
    """SI-SNR of every estimate against every target, ``[B, S, S]``.

    Entry ``[b, i, j]`` is estimate i against target j.

    Example
    -------
    >>> target = torch.randn(1, 100, 2)
    >>> values = pairwise_si_snr(estimate=target.flip(-1), target=target)
    >>> bool(values[0, 0, 1] > 60 > values[0, 0, 0])
    True
    """
    return _all_pairs(*prepare(estimate, target, lengths))


def pit_si_snr(
    estimate: torch.Tensor,
    target: torch.Tensor,
    lengths: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """SI-SNR under the best assignment of estimates to targets.

    Also gives which estimate belongs to each target, ``[B, S]``; see
    `reorder`.

    Example
    -------
    >>> target = torch.randn(1, 100, 3)
    >>> _, permutation = pit_si_snr(target[..., [2, 0, 1]], target)
    >>> permutation
    tensor([[1, 2, 0]])
    """
    values, permutation, _ = _pit_si_snr(estimate, target, lengths)
    return values, permutation


def pit_si_snr_loss(
    target: torch.Tensor,
    estimate: torch.Tensor,
    lengths: torch.Tensor | None = None,
) -> torch.Tensor:
    """Negative SI-SNR under the best assignment, one number per mixture.

    The mean over the targets that are not silent; 0 with zero gradient where
    all are.

    Equals SpeechBrain's ``get_si_snr_with_pitwrapper`` on items of full
    length without silence, and has its argument order, target first, so that
    either can stand as ``loss`` in a recipe's YAML.

    Example
    -------
    >>> target = torch.randn(2, 100, 2)
    >>> loss = pit_si_snr_loss(target, target + 0.1 * torch.randn(2, 100, 2))
    >>> loss.shape
    torch.Size([2])
    """
    values, _, active = _pit_si_snr(estimate, target, lengths)
    total = values.masked_fill(~active, 0).sum(dim=1)
    return -total / active.sum(dim=1).clamp(min=1)


def si_snr_i(
    estimate: torch.Tensor,
    target: torch.Tensor,
    mixture: torch.Tensor,
    lengths: torch.Tensor | None = None,
) -> torch.Tensor:
    """SI-SNR improvement: how much better than the mixture itself.

    Example
    -------
    >>> target = torch.randn(1, 100, 2)
    >>> mixture = target.sum(dim=2)
    >>> unchanged = mixture.unsqueeze(2).expand_as(target)
    >>> si_snr_i(estimate=unchanged, target=target, mixture=mixture)
    tensor([[0., 0.]])
    """
    value = si_snr(estimate, target, lengths)
    return value - of_mixture(si_snr, target, mixture, lengths=lengths)


def sdr(
    estimate: torch.Tensor,
    target: torch.Tensor,
    lengths: torch.Tensor | None = None,
) -> torch.Tensor:
    """Signal-to-distortion ratio of BSS-eval v3, by torchmetrics.

    The target may pass a filter of 512 taps for free, so that a short delay
    or a different microphone costs nothing. Not differentiable here.
    """
    try:
        from torchmetrics.functional.audio import signal_distortion_ratio
    except ImportError as error:
        raise not_installed("sdr", error) from error

    def one(estimate: torch.Tensor, target: torch.Tensor) -> float:
        if not estimate.any():
            return FLOOR_DB
        try:
            value = float(signal_distortion_ratio(estimate, target))
        except torch.linalg.LinAlgError:
            value = math.nan
        if not math.isfinite(value):  # no unique filter, or no distortion
            value = float(
                signal_distortion_ratio(estimate, target, load_diag=1e-10)
            )
        return max(value, FLOOR_DB)

    return one_by_one(one, estimate, target, lengths)


def sdr_i(
    estimate: torch.Tensor,
    target: torch.Tensor,
    mixture: torch.Tensor,
    lengths: torch.Tensor | None = None,
) -> torch.Tensor:
    """SDR improvement: how much better than the mixture itself."""
    value = sdr(estimate, target, lengths)
    return value - of_mixture(sdr, target, mixture, lengths=lengths)


def of_mixture(
    metric: Callable[..., torch.Tensor],
    target: torch.Tensor,
    mixture: torch.Tensor,
    **options: Any,
) -> torch.Tensor:
    """What a metric says of the mixture, in place of every estimate.

    NaN where a target is all there is in it, so that the difference from
    this, the improvement, is NaN as well. ``options`` go to the metric.
    """
    same = as_estimate(mixture, target)
    alone = si_snr(same, target, options.get("lengths")) > NO_NOISE_DB
    return metric(same, target, **options).masked_fill(alone, math.nan)


def input_snr(
    image: torch.Tensor,
    mixture: torch.Tensor,
    lengths: torch.Tensor | None = None,
) -> torch.Tensor:
    """How far the speech in a mixture is above the noise, ``[B]``.

    The power of all sources as they are in the mixture, the ``image``, over
    that of what they leave of it. NaN where the speech is silent, or the
    noise below it by more than 70 dB, as rounding is.

    Example
    -------
    >>> image = torch.tensor([3.0, -3.0, 3.0, -3.0]).view(1, 4, 1)
    >>> noise = torch.tensor([[0.3, 0.3, -0.3, -0.3]])
    >>> input_snr(image=image, mixture=image.sum(2) + noise)
    tensor([20.0000])
    """
    check_mixture(mixture, image)
    valid = valid_samples(image, lengths)
    image = without_padding(image, valid)
    speech = image.sum(dim=2)  # [B, T]
    noise = without_padding(mixture.unsqueeze(2), valid).squeeze(2) - speech
    speech_power, noise_power = speech.square().sum(1), noise.square().sum(1)
    snr_db = 10 * torch.log10(speech_power / noise_power)
    return snr_db.masked_fill(
        (speech_power == 0) | ~(snr_db < NO_NOISE_DB), math.nan
    )


def _pit_si_snr(
    estimate: torch.Tensor,
    target: torch.Tensor,
    lengths: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Values, permutation and which targets are active, each ``[B, S]``."""
    estimate, target, active = prepare(estimate, target, lengths)
    with torch.no_grad():
        permutation = best_permutation(_all_pairs(estimate, target, active))
    values = _si_snr(reorder(estimate, permutation), target, active)
    return values, permutation, active


def _all_pairs(
    estimate: torch.Tensor, target: torch.Tensor, active: torch.Tensor
) -> torch.Tensor:
    return _si_snr(  # [B, T, S, 1] against [B, T, 1, S]
        estimate.unsqueeze(3), target.unsqueeze(2), active.unsqueeze(1)
    )


def _si_snr(
    estimate: torch.Tensor, target: torch.Tensor, active: torch.Tensor
) -> torch.Tensor:
    """SI-SNR of signals without mean; behind dimension 1 they broadcast."""
    dot = (estimate * target).sum(dim=1)
    target_energy = target.square().sum(dim=1)
    scale = dot / (target_energy + EPS)
    noise = estimate - scale.unsqueeze(1) * target
    signal_energy = scale.square() * target_energy
    ratio = signal_energy / (noise.square().sum(dim=1) + EPS)
    value = 10 * torch.log10(ratio + EPS)
    # At an estimate of zero this has no slope. There, add a term that is
    # zero and has the slope of an estimate as loud as the target.
    silent = estimate.detach().square().sum(dim=1) <= EPS**2
    pull = 20 / math.log(10) * (scale - scale.detach())
    value = value + pull.masked_fill(~silent, 0)
    return torch.where(active, value, math.nan)
