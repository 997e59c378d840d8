"""The table of a test: a CSV that grows item by item.

Above this file: `evaluation.py`. Below it: `summary.py`.
"""

import csv
import math
import os
from collections.abc import Iterable
from pathlib import Path

from s4m_sb.training.summary import mean_of


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
    metrics : iterable of str
        Names of the columns after ``snt_id``.
    conditions : iterable of str
        Names of the columns behind them, which get no average.

    Example
    -------
    >>> path = getfixture("tmp_path") / "test_results.csv"
    >>> table = ResultsTable(path, ["si-snr"], ["rt60_s"])
    >>> table.add("a", {"si-snr": 10.0, "rt60_s": 0.3})
    >>> table.add("b", {"si-snr": 12.0})
    >>> table.close()
    {'si-snr': 11.0}
    >>> path.read_text().split()
    ['snt_id,si-snr,rt60_s', 'a,10.0000,0.3000', 'b,12.0000,', 'avg,11.0000,']
    """

    def __init__(
        self,
        path: str | os.PathLike,
        metrics: Iterable[str],
        conditions: Iterable[str] = (),
    ):
        self.path = Path(path)
        self.metrics = list(metrics)
        self.conditions = list(conditions)
        self.rows: list[dict[str, float]] = []
        self._partial = self.path.with_suffix(".partial.csv")
        self._partial.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(self._partial, "w", newline="", encoding="utf-8")
        self._writer = csv.writer(self._file)
        self._write_line(["snt_id", *self.metrics, *self.conditions])

    def add(self, snt_id: str, values: dict[str, float]) -> None:
        """Writes the row of an item.

        Arguments
        ---------
        snt_id : str
            Its name.
        values : dict
            What is known of it, by column. Conditions are kept to four
            decimals, and only where they are numbers.
        """
        row = {key: values.get(key, math.nan) for key in self.metrics}
        for key in self.conditions:
            if math.isfinite(values.get(key, math.nan)):
                row[key] = round(values[key], 4)
        self.rows.append(row)
        self._write(snt_id, row)

    def close(self) -> dict[str, float]:
        """Writes the averages and gives the file its name.

        Returns
        -------
        dict
            The averages; NaN for a column without numbers.
        """
        averages = {name: mean_of(self.rows, name) for name in self.metrics}
        self._write("avg", averages)
        self._file.close()
        os.replace(self._partial, self.path)
        return averages

    def _write(self, snt_id: str, row: dict[str, float]) -> None:
        columns = [*self.metrics, *self.conditions]
        values = (row.get(name, math.nan) for name in columns)
        self._write_line(
            [snt_id, *(f"{v:.4f}" if math.isfinite(v) else "" for v in values)]
        )

    def _write_line(self, cells: list[str]) -> None:
        self._writer.writerow(cells)
        self._file.flush()
