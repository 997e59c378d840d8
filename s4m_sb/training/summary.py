"""The summary of a test: means over groups of items, and how it was made.

Above this file: `brain.py`, `evaluation.py`.
"""

import json
import math
import os
import sys
from collections import defaultdict
from typing import Any

import speechbrain
import torch

import s4m_sb
from s4m_sb.system.files import replacing


def binned_means(
    rows: list[dict[str, float]],
    by: str,
    metrics: list[str],
    width: float,
    edge: float = 0.0,
) -> list[dict[str, float]]:
    """Groups items by a condition and averages each group.

    The bins are fixed, whatever the items: a bin goes from ``low`` up to,
    but not including, ``high``. Items whose condition is unknown, or which
    no metric could rate, belong to none.

    Arguments
    ---------
    rows : list of dict
        The metrics and conditions of each item, as in `ResultsTable.rows`.
    by : str
        The condition. Differences below 1e-6 of a bin do not count.
    metrics : list of str
        What to average.
    width : float
        Of a bin, in the condition's unit.
    edge : float
        Where one of the bins begins.

    Returns
    -------
    list of dict
        For every bin that has items, in order: ``low``, ``high``,
        ``num_items``, the mean of the condition and of each metric over the
        items that have it, NaN if none has.

    Example
    -------
    >>> rows = [{"rt60_s": 0.25, "sdr": 8.0}, {"rt60_s": 0.2, "sdr": 10.0}]
    >>> binned_means(rows, "rt60_s", ["sdr"], width=0.2)
    [{'low': 0.2, 'high': 0.4, 'num_items': 2, 'rt60_s': 0.225, 'sdr': 9.0}]
    """
    bins = defaultdict(list)
    for row in rows:
        rated = any(math.isfinite(row.get(name, math.nan)) for name in metrics)
        if rated and math.isfinite(row.get(by, math.nan)):
            bins[math.floor(round((row[by] - edge) / width, 6))].append(row)
    return [
        {
            "low": round(edge + index * width, 4),
            "high": round(edge + (index + 1) * width, 4),
            "num_items": len(inside),
            **{name: mean_of(inside, name) for name in (by, *metrics)},
        }
        for index, inside in sorted(bins.items())
    ]


def write_summary(path: str | os.PathLike, summary: dict[str, Any]) -> None:
    """Writes a summary as JSON, whole or not at all; NaN becomes null.

    Arguments
    ---------
    path : str or os.PathLike
        The file.
    summary : dict
        What to write.
    """
    with replacing(path) as temporary:
        temporary.write_text(
            json.dumps(_without_nan(summary), indent=2) + "\n", "utf-8"
        )


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def mean_of(rows: list[dict[str, float]], name: str) -> float:
    """The mean over the rows in which it is a number; NaN if it is in none."""
    values = [row.get(name, math.nan) for row in rows]
    numbers = [value for value in values if math.isfinite(value)]
    return sum(numbers) / len(numbers) if numbers else math.nan


def task(hparams: Any) -> dict[str, Any]:
    """What stands beside every number: the same data give many tasks."""
    named = {
        "dataset": hparams.dataset,
        "mixture": hparams.mixture,
        "target": hparams.target,
        "version": hparams.version,
    }
    return {key: value for key, value in named.items() if value is not None}


def about_test(
    hparams: Any,
    modules: torch.nn.Module,
    epoch: int,
    device: str,
    precision: str,
) -> dict[str, Any]:
    """What the summary of a test says of its making.

    Arguments
    ---------
    hparams : Namespace
        The keys of ``keys.py``.
    modules : torch.nn.Module
        What was tested; its parameters are counted.
    epoch : int
        Of the checkpoint.
    device, precision : str
        Where it ran, and in which number format.

    Returns
    -------
    dict
        For `write_summary`.
    """
    averaging = {}
    if hparams.ema_decay is not None:
        averaging = {"ema_decay": hparams.ema_decay}
    return {
        "num_spks": hparams.num_spks,
        "epoch": epoch,
        "seed": hparams.seed,
        "data_folder": hparams.data_folder,
        "dynamic_mixing": hparams.dynamic_mixing,
        **task(hparams),
        **averaging,
        "command": " ".join(sys.argv),
        "device": device,
        "precision": precision,
        "num_parameters": sum(p.numel() for p in modules.parameters()),
        "s4m_sb": s4m_sb.__version__,
        "torch": torch.__version__,
        "speechbrain": speechbrain.__version__,
    }
