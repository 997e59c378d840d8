"""Objectives in which a silent target counts: whoever is silent stays silent.

SI-SNR says nothing of a target that is silent, and leaves the sign and the
level of the others free. These two do not: no mean is removed and nothing is
rescaled, so that the best estimate is the target itself. Both have a soft
threshold, ``max_sdr_db``: an error that far below its reference hardly counts
any more, and a perfect estimate gives a loss of ``-max_sdr_db``.

Arguments as in `s4m_sb.metrics`. Where ``mixture``, what was separated, is
left out, it is the sum of the targets. A target is silent here if its energy
is at most `EPS`; a constant one is not.

In a recipe's YAML::

    loss: !name:s4m_sb.metrics.pit_sa_sdr_loss
        max_sdr_db: 30
"""

import math

import torch

from s4m_sb.errors import InputError
from s4m_sb.metrics.contract import (
    EPS,
    check_estimate,
    check_mixture,
    valid_samples,
    without_padding,
)
from s4m_sb.metrics.permutation import best_permutation, reorder


def pit_sa_sdr_loss(
    target: torch.Tensor,
    estimate: torch.Tensor,
    lengths: torch.Tensor | None = None,
    mixture: torch.Tensor | None = None,
    max_sdr_db: float = 30.0,
) -> torch.Tensor:
    """Negative source-aggregated SDR: all sources of an item are one signal.

    ``-10 log10(E / (sum_s |t_s - e_s|^2 + tau E))`` with
    ``E = sum_s |t_s|^2`` and ``tau = 10^(-max_sdr_db / 10)``; von Neumann et
    al., "SA-SDR: A novel loss function for separation of meeting style
    data", ICASSP 2022.

    An item in which all targets are silent has no E: there the energy of the
    mixture takes its place, so that a silent output gives ``-max_sdr_db`` and
    one as loud as the mixture about 0 dB; if that is silent too, `EPS` does.

    Example
    -------
    >>> target = torch.tensor([[1.0, 0.0], [-1.0, 0.0]]).unsqueeze(0)
    >>> pit_sa_sdr_loss(target, 0.9 * target)  # the second one is silent
    tensor([-19.5861])
    """
    tau = _threshold(max_sdr_db)
    target, estimate, mixture = _valid(target, estimate, lengths, mixture)
    energy = _energy(target).sum(dim=1)  # [B]
    reference = torch.where(energy > EPS, energy, _energy(mixture))
    reference = reference.clamp(min=EPS)
    with torch.no_grad():
        # The energies do not depend on the assignment, only <e, t> does.
        permutation = best_permutation(_products(estimate, target))
    error = _energy(target - reorder(estimate, permutation)).sum(dim=1)
    return 10 * torch.log10(error / reference + tau)


def pit_thresholded_snr_loss(
    target: torch.Tensor,
    estimate: torch.Tensor,
    lengths: torch.Tensor | None = None,
    mixture: torch.Tensor | None = None,
    max_sdr_db: float = 30.0,
) -> torch.Tensor:
    """Negative SNR of active targets, energy of the outputs of silent ones.

    Wisdom et al., "What's all the fuss about free universal sound separation
    data?", ICASSP 2021; with ``tau = 10^(-max_sdr_db / 10)``:
    ``10 log10((|t_s - e_s|^2 + tau |t_s|^2) / |t_s|^2)`` where target s is
    active and ``10 log10((|e_s|^2 + tau |x|^2) / |x|^2)`` with the mixture x
    where it is silent. The division by ``|x|^2`` is ours: it changes no
    gradient, and makes the value independent of the level. If the mixture is
    silent as well, `EPS` takes its place. The loss is the mean over all
    targets.

    Example
    -------
    >>> target = torch.tensor([[1.0, 0.0], [-1.0, 0.0]]).unsqueeze(0)
    >>> pit_thresholded_snr_loss(target, target)
    tensor([-30.])
    """
    tau = _threshold(max_sdr_db)
    target, estimate, mixture = _valid(target, estimate, lengths, mixture)
    energy = _energy(target)  # [B, S]
    # What an error is measured against: its target, or the mixture.
    reference = torch.where(energy > EPS, energy, _energy(mixture)[:, None])
    reference = reference.clamp(min=EPS)
    with torch.no_grad():
        errors = (  # |e_i - t_j|^2 of all pairs, [B, S, S]
            _energy(estimate).unsqueeze(2)
            + energy.unsqueeze(1)
            - 2 * _products(estimate, target)
        ).clamp(min=0)
        losses = torch.log10(errors / reference.unsqueeze(1) + tau)
        permutation = best_permutation(-losses)
    error = _energy(target - reorder(estimate, permutation))
    return (10 * torch.log10(error / reference + tau)).mean(dim=1)


def _valid(
    target: torch.Tensor,
    estimate: torch.Tensor,
    lengths: torch.Tensor | None,
    mixture: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """All three in float32 at least, zero in the padding."""
    check_estimate(estimate, target)
    if mixture is None:
        mixture = target.sum(dim=2)
    check_mixture(mixture, target)
    valid = valid_samples(target, lengths)
    return (
        without_padding(target, valid),
        without_padding(estimate, valid),
        without_padding(mixture.unsqueeze(2), valid).squeeze(2),
    )


def _energy(signal: torch.Tensor) -> torch.Tensor:
    return signal.square().sum(dim=1)


def _products(estimate: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """``<e_i, t_j>`` of every pair, ``[B, S, S]``."""
    # Mixed precision would lower this one's, and overflow in float16.
    with torch.autocast(estimate.device.type, enabled=False):
        return torch.einsum("bti,btj->bij", estimate, target)


def _threshold(max_sdr_db: float) -> float:
    if not 0 < max_sdr_db < math.inf:
        raise InputError(
            f"max_sdr_db must be finite and above 0, got {max_sdr_db}"
        )
    return 10 ** (-max_sdr_db / 10)
