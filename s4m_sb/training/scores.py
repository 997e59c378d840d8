"""The mean loss and improvement of a stage, over the items that speak.

Above this file: `brain.py`. Below it: `objective.py`, and `s4m_sb.metrics`.
"""

import torch

from s4m_sb import metrics
from s4m_sb.errors import InputError
from s4m_sb.training.objective import Separated


class ItemScores:
    """Collects what a stage gives, batch by batch.

    Items in which all targets are silent are in no mean; NaN stands for them,
    and for nothing else.

    Arguments
    ---------
    with_improvement : bool
        Rate SI-SNRi as well.

    Example
    -------
    >>> scores = ItemScores()
    >>> voices = torch.randn(2, 100, 2)
    >>> voices[1] = 0
    >>> batch = Separated(voices, voices, voices, voices.sum(2), torch.ones(2))
    >>> _ = scores.add(["speech", "silence"], batch, torch.tensor([-30.0, 0.0]))
    >>> scores.means()
    {'loss': -30.0}
    """

    def __init__(self, with_improvement: bool = False):
        self.with_improvement = with_improvement
        self._losses: list[torch.Tensor] = []
        self._improvements: list[torch.Tensor] = []

    def add(
        self, ids: list[str], separated: Separated, losses: torch.Tensor
    ) -> torch.Tensor:
        """Takes in a batch.

        Arguments
        ---------
        ids : list of str
            Names of its items.
        separated : Separated
            The batch.
        losses : torch.Tensor
            Of its items, ``[B]``.

        Returns
        -------
        torch.Tensor
            Their mean, on the CPU.

        Raises
        ------
        InputError
            If a voice, or the loss of an item that speaks, is not finite.
        """
        estimate, target, _, mixture, lengths = separated
        same = mixture.unsqueeze(-1).expand_as(target)
        silent = metrics.si_snr(
            estimate=same, target=target, lengths=lengths
        ).isnan()  # [B, S]
        losses, silent = losses.detach().cpu(), silent.all(1).cpu()
        usable = estimate.isfinite().flatten(1).all(1).cpu()
        usable &= losses.isfinite() | silent
        if not usable.all():
            name = ids[usable.tolist().index(False)]
            raise InputError(
                f"the voices of {name}, or their loss, are not finite"
            )
        losses = losses.masked_fill(silent, torch.nan)
        self._losses.append(losses)
        if self.with_improvement:
            order = metrics.assign(estimate, target, lengths)
            improvement = metrics.si_snr_i(
                estimate=metrics.reorder(estimate, order),
                target=target,
                mixture=mixture,
                lengths=lengths,
            )  # [B, S]
            self._improvements.append(improvement.nanmean(1).cpu())
        return losses.nanmean()

    def means(self) -> dict[str, float]:
        """The means over all items, whatever the batches were.

        Returns
        -------
        dict
            ``loss`` and, if it was rated, ``si-snr_i``.

        Raises
        ------
        InputError
            If there is no loss, since all items are silent.
        """
        means = {"loss": float(torch.cat(self._losses).nanmean())}
        if means["loss"] != means["loss"]:
            raise InputError("all targets of all mixtures are silent")
        if self.with_improvement:
            improvements = torch.cat(self._improvements)
            means["si-snr_i"] = float(improvements.nanmean())
        return means
