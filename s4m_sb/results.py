"""Test results: a CSV that grows item by item, and a summary."""

import csv
import json
import math
import os
from pathlib import Path
from typing import Any

from s4m_sb.atomic import replacing


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
    >>> table.add("a", {"si-snr": 10.0})
    >>> table.add("b", {"si-snr": 12.0})
    >>> table.close()
    {'si-snr': 11.0}
    >>> path.read_text().split()
    ['snt_id,si-snr', 'a,10.0000', 'b,12.0000', 'avg,11.0000']
    """

    def __init__(self, path: str | os.PathLike, metrics: list[str]):
        self.path = Path(path)
        self.metrics = metrics
        self.num_items = 0
        self._values: dict[str, list[float]] = {name: [] for name in metrics}
        self._partial = self.path.with_suffix(".partial.csv")
        self._partial.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(self._partial, "w", newline="", encoding="utf-8")
        self._writer = csv.writer(self._file)
        self._writer.writerow(["snt_id", *metrics])

    def add(self, snt_id: str, values: dict[str, float]) -> None:
        """Writes the row of an item."""
        for name in self.metrics:
            if math.isfinite(values.get(name, math.nan)):
                self._values[name].append(values[name])
        self.num_items += 1
        self._write(snt_id, values)

    def close(self) -> dict[str, float]:
        """Writes the averages and gives the file its name.

        Returns
        -------
        dict
            The averages; NaN for a column without numbers.
        """
        averages = {
            name: sum(values) / len(values) if values else math.nan
            for name, values in self._values.items()
        }
        self._write("avg", averages)
        self._file.close()
        os.replace(self._partial, self.path)
        return averages

    def _write(self, snt_id: str, values: dict[str, float]) -> None:
        row = (values.get(name, math.nan) for name in self.metrics)
        self._writer.writerow(
            [snt_id, *(f"{v:.4f}" if math.isfinite(v) else "" for v in row)]
        )
        self._file.flush()


def write_summary(path: str | os.PathLike, summary: dict[str, Any]) -> None:
    """Writes a summary as JSON, whole or not at all; NaN becomes null.

    Arguments
    ---------
    path : str or os.PathLike
        The file.
    summary : dict
        What to write.
    """
    clean = {
        key: None if isinstance(value, float) and math.isnan(value) else value
        for key, value in summary.items()
    }
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(clean, indent=2) + "\n", "utf-8")
