"""Test results: a CSV that grows item by item, and a summary."""

import csv
import json
import math
import os
from collections import defaultdict
from pathlib import Path
from typing import Any

from s4m_sb.system.files import replacing


class ResultsTable:
    """Writes one row an item, then their averages.

    Rows go to ``<name>.partial.csv``, flushed one by one, so that a long
    evaluation can be watched; `close` adds the row ``avg`` and renames it.
    Values that are not numbers (a silent reference has no SI-SNR) stay empty
    and out of the averages.

    Arguments
    ---------
    path : str or os.PathLike
        The CSV file.
    metrics : list of str
        Names of the columns after ``snt_id``.

    Example
    -------
    >>> path = getfixture("tmp_path") / "test_results.csv"
    >>> table = ResultsTable(path, ["si-snr"])
    >>> table.add("a", {"si-snr": 10.0}, {"rt60_s": 0.3})
    >>> table.add("b", {"si-snr": 12.0})
    >>> table.close()
    {'si-snr': 11.0}
    >>> path.read_text().split()
    ['snt_id,si-snr,rt60_s', 'a,10.0000,0.3000', 'b,12.0000,', 'avg,11.0000,']
    """

    def __init__(self, path: str | os.PathLike, metrics: list[str]):
        self.path = Path(path)
        self.metrics = metrics
        self.conditions: list[str] = []
        self.rows: list[dict[str, float]] = []
        self._ids: list[str] = []
        self._partial = self.path.with_suffix(".partial.csv")
        self._partial.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(self._partial, "w", newline="", encoding="utf-8")
        self._writer = csv.writer(self._file)
        self._write_header()

    @property
    def num_items(self) -> int:
        """How many rows have been added."""
        return len(self.rows)

    def add(
        self,
        snt_id: str,
        values: dict[str, float],
        conditions: dict[str, float] | None = None,
    ) -> None:
        """Writes the row of an item.

        Arguments
        ---------
        snt_id : str
            Its name.
        values : dict
            What the metrics say.
        conditions : dict, optional
            What is known of the item otherwise, kept to four decimals. Each
            gets a column behind the metrics as soon as it has a number, and
            no average.
        """
        known = {
            name: round(value, 4)
            for name, value in (conditions or {}).items()
            if math.isfinite(value)
        }
        self._ids.append(snt_id)
        self.rows.append(values | known)
        new = [name for name in known if name not in self.conditions]
        if not new:
            self._write(snt_id, self.rows[-1])
            return
        self.conditions += new
        self._file.seek(0)
        self._file.truncate()
        self._write_header()
        for name, row in zip(self._ids, self.rows, strict=True):
            self._write(name, row)

    def close(self) -> dict[str, float]:
        """Writes the averages and gives the file its name.

        Returns
        -------
        dict
            The averages; NaN for a column without numbers.
        """
        averages = {name: _mean(self.rows, name) for name in self.metrics}
        self._write("avg", averages)
        self._file.close()
        os.replace(self._partial, self.path)
        return averages

    def _write_header(self) -> None:
        self._writer.writerow(["snt_id", *self.metrics, *self.conditions])
        self._file.flush()

    def _write(self, snt_id: str, row: dict[str, float]) -> None:
        columns = [*self.metrics, *self.conditions]
        values = (row.get(name, math.nan) for name in columns)
        self._writer.writerow(
            [snt_id, *(f"{v:.4f}" if math.isfinite(v) else "" for v in values)]
        )
        self._file.flush()


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
            **{name: _mean(inside, name) for name in (by, *metrics)},
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


def _mean(rows: list[dict[str, float]], name: str) -> float:
    """Over the rows in which it is a number; NaN if it is in none."""
    values = [row.get(name, math.nan) for row in rows]
    numbers = [value for value in values if math.isfinite(value)]
    return sum(numbers) / len(numbers) if numbers else math.nan
