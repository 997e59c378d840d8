"""The table of a comparison, as Markdown and as CSV.

Above this file: `quality.py`.
"""

import csv
import json
import math
import statistics
from pathlib import Path
from typing import Any

from table import grid, write_csv

from s4m_sb.system.files import replacing

Row = dict[str, Any]

# Headings of the Markdown table and how their cells are written.
COLUMNS = {
    "model": "{model}",
    "SI-SNRi (dB)": "{si_snr_i_db:.2f} ± {si_snr_i_ci95_db:.2f}",
    "SDRi (dB)": "{sdr_i_db:.2f} ± {sdr_i_ci95_db:.2f}",
    "parameters (M)": "{parameters_m:.3g}",
    "GMAC for 1 s": "{gmac_per_s:.3g}",
    "learning rate": "{lr:g}",
    "training (min)": "{training_min:.1f}",
    "an update (s)": "{update_s:.3f}",
    "its processor time (s)": "{update_processor_s:.3f}",
    "peak memory (GiB)": "{peak_memory_gib:.2f}",
}


def read_row(name: str, folder: Path) -> Row:
    """What is known of a finished model.

    Arguments
    ---------
    name : str
        What the table calls it.
    folder : Path
        Holds ``cost.json`` and ``test_results.csv``.

    Returns
    -------
    dict
        By column of the CSV file. A ``_ci95_db`` is half the width of the
        95 % confidence interval of the mean over the test mixtures.
    """
    cost = json.loads((folder / "cost.json").read_text("utf-8"))
    with open(folder / "test_results.csv", encoding="utf-8") as file:
        items = [row for row in csv.DictReader(file) if row["snt_id"] != "avg"]
    row: Row = {"model": name}
    for column, metric in (("si_snr_i", "si-snr_i"), ("sdr_i", "sdr_i")):
        # Silent targets have no value.
        values = [float(item[metric]) for item in items if item[metric]]
        row[f"{column}_db"] = statistics.fmean(values)
        row[f"{column}_ci95_db"] = ci95(values)
    updates = cost["num_updates"]
    return row | {
        "parameters_m": cost["parameters"] / 1e6,
        "gmac_per_s": cost["macs_per_s"] / 1e9,
        "lr": cost["lr"],
        "updates": updates,
        "training_min": cost["wall_s"] / 60,
        "update_s": cost["wall_s"] / updates,
        "update_processor_s": cost["processor_s"] / updates,
        "peak_memory_gib": cost["peak_memory_bytes"] / 2**30,
    }


def ci95(values: list[float]) -> float:
    """Half the width of the 95 % confidence interval of a mean.

    Arguments
    ---------
    values : list of float
        Of which the mean is taken.

    Returns
    -------
    float
        NaN for less than two values.

    Example
    -------
    >>> round(ci95([1.0, 3.0, 1.0, 3.0]), 3)
    1.132
    """
    if len(values) < 2:
        return math.nan
    return 1.96 * statistics.stdev(values) / math.sqrt(len(values))


def markdown(rows: list[Row], caption: str) -> str:
    """The table for a README.

    Arguments
    ---------
    rows : list of dict
        From `read_row`.
    caption : str
        Stands above the table.

    Returns
    -------
    str
        Markdown.
    """
    lines = [list(COLUMNS), ["---"] + ["---:"] * (len(COLUMNS) - 1)]
    lines += [[cell.format(**row) for cell in COLUMNS.values()] for row in rows]
    return f"{caption}\n\n{grid(lines)}\n"


def write_tables(rows: list[Row], caption: str, folder: Path) -> str:
    """Writes ``quality.csv`` and ``quality.md``.

    Arguments
    ---------
    rows : list of dict
        From `read_row`, at least one.
    caption : str
        Under which conditions they were measured.
    folder : Path
        Gets the files.

    Returns
    -------
    str
        The Markdown.
    """
    write_csv(rows, list(rows[0]), folder / "quality.csv")
    text = markdown(rows, caption)
    with replacing(folder / "quality.md") as temporary:
        temporary.write_text(text, "utf-8")
    return text
