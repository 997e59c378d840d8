"""The metrics by name: what results, cards and messages know of them.

A metric more is its function and its line in `METRICS`, or in `ITEM_METRICS`
if it is one number an item.
"""

import importlib.util
import inspect
from collections.abc import Callable
from typing import NamedTuple

import torch

from s4m_sb.errors import InputError
from s4m_sb.metrics.conversation import exchanges, leakage, single_si_snr
from s4m_sb.metrics.perceptual import pesq, stoi
from s4m_sb.metrics.snr import of_mixture, sdr, si_snr


class Metric(NamedTuple):
    """A metric, and what is known of it beside its values.

    Arguments
    ---------
    function : callable
        ``function(estimate, target, lengths=...)``; if it takes
        ``sample_rate``, it gets it.
    title : str
        How people write it.
    unit : str
        ``dB``, or nothing for a score on a scale of its own.
    digits : int
        Behind the point, in tables.
    packages : tuple of str
        Packages that it needs, of ``s4m_sb[eval]``.

    Example
    -------
    >>> target = torch.randn(1, 800, 2)
    >>> mixture = target.sum(2)
    >>> value, improvement = METRICS["si-snr"].rate(
    ...     target, target, mixture, sample_rate=8000
    ... )
    >>> bool((value > 60).all() and (improvement > 50).all())
    True
    """

    function: Callable[..., torch.Tensor]
    title: str
    unit: str = ""
    digits: int = 2
    packages: tuple[str, ...] = ()

    def rate(
        self,
        estimate: torch.Tensor,
        target: torch.Tensor,
        mixture: torch.Tensor,
        sample_rate: int,
        lengths: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Value and improvement, ``[B, S]``; see `s4m_sb.metrics`."""
        options = {"lengths": lengths, "sample_rate": sample_rate}
        taken = inspect.signature(self.function).parameters
        options = {key: x for key, x in options.items() if key in taken}
        value = self.function(estimate, target, **options)
        before = of_mixture(self.function, target, mixture, **options)
        return value, value - before


METRICS = {
    "si-snr": Metric(si_snr, "SI-SNR", "dB"),
    "sdr": Metric(sdr, "SDR", "dB", packages=("torchmetrics",)),
    "pesq": Metric(pesq, "PESQ", packages=("torchmetrics", "pesq")),
    "stoi": Metric(stoi, "STOI", digits=3, packages=("torchmetrics", "pystoi")),
}

# Of an item as a whole, ``[B]``: always in the results, in the order of the
# targets; ``function(estimate, target, sample_rate, lengths)``.
ITEM_METRICS = {
    "single_si-snr": single_si_snr,
    "leakage_db": leakage,
    "exchanges_per_min": exchanges,
}


def check_metrics(names: list[str]) -> None:
    """Makes sure that metrics are known and their packages are there.

    Arguments
    ---------
    names : list of str
        Out of `METRICS`.

    Raises
    ------
    InputError
        If one is unknown, or needs a package that is not installed.
    """
    for name in names:
        if name not in METRICS:
            raise InputError(
                f"test_metrics: {name!r} is unknown; choose from "
                f"{', '.join(METRICS)}"
            )
        for package in METRICS[name].packages:
            if importlib.util.find_spec(package) is None:
                raise InputError(
                    f"test_metrics: {name} needs the package {package}; "
                    "install s4m_sb[eval] or leave it out"
                )


def card_titles() -> dict[str, str]:
    """The columns of the results that a card quotes, and their titles.

    Of a ratio in dB that is the improvement, of a score the score itself.

    Returns
    -------
    dict
        Title by column.

    Example
    -------
    >>> card_titles()["si-snr_i"], card_titles()["pesq"]
    ('SI-SNRi (dB)', 'PESQ')
    """
    return dict(
        (f"{name}_i", f"{metric.title}i ({metric.unit})")
        if metric.unit
        else (name, metric.title)
        for name, metric in METRICS.items()
    )
