"""The table of speed, as Markdown and as CSV, and the ratios it must keep.

Above this file: `speed.py`, `speed_figure.py`.
"""

import math
import statistics
from typing import Any

from speed_networks import ROWS
from table import grid

REFERENCE, TWIN = "s4m-tiny", "twin"
MARKS = {
    "memory": "no memory",
    "time": "too long",
    "failed": "failed",
    "": "-",
}
COLUMNS = (
    "model",
    "name",
    "sample_rate",
    "parameters_m",
    "gmac_per_s",
    "part",
    "length_s",
    "batch_size",
    "mark",
    "time_s",
    "real_time_factor",
    "audio_s_per_s",
    "time_to_s4m_tiny",
    "time_to_twin",
    "repetitions",
    "first_call_s",
    "peak_memory_gib",
)
Row = dict[str, Any]


def collect_rows(cases: list[dict]) -> list[Row]:
    """One row for each network, part and length.

    Arguments
    ---------
    cases : list of dict
        What `measure.py` printed.

    Returns
    -------
    list of dict
        By column of the CSV file; what was not measured is missing. A ratio
        is the median over the turns, in each of which every network was
        called once.
    """
    sizes = {case["model"]: case for case in cases if case["kind"] == "size"}
    rows: dict[tuple, Row] = {}

    def row_of(case: dict) -> Row:
        model, length_s = case["model"], case["length_s"]
        key = model, part_of(case), length_s
        if key not in rows:
            about, size = ROWS[model], sizes.get(model, {})
            rows[key] = {
                "model": model,
                "name": about["name"],
                "sample_rate": about["sample_rate"],
                "part": key[1],
                "length_s": length_s,
                "batch_size": case.get("batch_size", 1),
                "mark": "",
            }
            if "parameters" in size:
                rows[key]["parameters_m"] = size["parameters"] / 1e6
                rows[key]["gmac_per_s"] = size["macs_per_s"] / 1e9
        return rows[key]

    for case in cases:
        if case["kind"] in ("first", "memory"):
            row = row_of(case)
            row["mark"] = row["mark"] or case.get("mark", "")
            if "first_s" in case:
                row["first_call_s"] = case["first_s"]
            if "peak_bytes" in case:
                row["peak_memory_gib"] = case["peak_bytes"] / 2**30
        elif case["kind"] == "times" and "times_s" in case:
            times = {
                (run["model"], part_of(run)): seconds
                for run, seconds in zip(
                    case["runs"], case["times_s"], strict=True
                )
            }
            for run in case["runs"]:
                row, part = row_of(run), part_of(run)
                seconds = times[run["model"], part]
                row["time_s"] = statistics.median(seconds)
                audio_s = row["batch_size"] * run["length_s"]
                row["real_time_factor"] = row["time_s"] / audio_s
                row["audio_s_per_s"] = audio_s / row["time_s"]
                row["repetitions"] = len(seconds)
                plain = part.removesuffix(", checkpointed")
                for column, other in (
                    ("time_to_s4m_tiny", REFERENCE),
                    ("time_to_twin", TWIN),
                ):
                    if (other, plain) in times:
                        row[column] = paired_ratio(seconds, times[other, plain])
    order = list(ROWS)
    return sorted(
        rows.values(),
        key=lambda row: (
            order.index(row["model"]),
            row["batch_size"],
            row["part"],
        ),
    )


def part_of(case: dict) -> str:
    """What was measured."""
    if not case["training"]:
        return "inference"
    size = case.get("batch_size", 1)
    batch = f", batches of {size}" if size > 1 else ""
    checkpointed = ", checkpointed" if case["checkpoint"] else ""
    return f"training{batch}{checkpointed}"


def paired_ratio(times: list[float], others: list[float]) -> float:
    """Median of the ratios of times taken in the same turns.

    Example
    -------
    >>> paired_ratio([2.0, 30.0, 2.2], [1.0, 10.0, 1.0])
    2.2
    """
    ratios = [a / b for a, b in zip(times, others, strict=True)]
    return statistics.median(ratios)


# ----------------------------------------------------------------- ratios


def check_targets(
    rows: list[Row],
    lengths: tuple[float, float],
    training_s: float,
    import_s: float | None,
) -> list[tuple[str, str, float, str]]:
    """The ratios that S4M-tiny must keep.

    Arguments
    ---------
    rows : list of dict
        From `collect_rows`.
    lengths : tuple of float
        Of the calls that are compared, and of long ones, in seconds.
    training_s : float
        Of the clips of training steps, in seconds.
    import_s : float or None
        Seconds from `import s4m_sb.inference.interface` to a loaded model.

    Returns
    -------
    list of (str, str, float, str)
        What is compared, the bound, the figure (NaN if not measured), and
        "pass", "miss" or "-".
    """
    short, long = lengths
    found = {(r["model"], r["part"], r["length_s"]): r for r in rows}

    def figure(column, model, part="inference", length_s=short):
        if part != "inference":
            length_s = training_s
        return found.get((model, part, length_s), {}).get(column, math.nan)

    def per_second(column, length_s):
        if short == long:
            return math.nan
        return figure(column, REFERENCE, length_s=length_s) / length_s

    training, checkpointed = "training", "training, checkpointed"
    targets = (
        (
            "inference, slow twin / S4M-tiny, time",
            figure("time_to_s4m_tiny", TWIN),
            ">= 3",
        ),
        (
            "inference, SepFormer / S4M-tiny, time",
            figure("time_to_s4m_tiny", "sepformer"),
            ">= 6",
        ),
        (
            "training step, slow twin / S4M-tiny, time",
            figure("time_to_s4m_tiny", TWIN, training),
            ">= 2",
        ),
        (
            "training step, slow twin / S4M-tiny checkpointed, memory",
            figure("peak_memory_gib", TWIN, training)
            / figure("peak_memory_gib", REFERENCE, checkpointed),
            ">= 8",
        ),
        (
            "training step, S4M-tiny checkpointed / not, time",
            figure("time_to_s4m_tiny", REFERENCE, checkpointed),
            "<= 1.4",
        ),
        (
            f"S4M-tiny, {long:g} s / {short:g} s, time per second",
            per_second("time_s", long) / per_second("time_s", short),
            "<= 1.3",
        ),
        (
            f"S4M-tiny, {long:g} s / {short:g} s, memory per second",
            per_second("peak_memory_gib", long)
            / per_second("peak_memory_gib", short),
            "<= 1.3",
        ),
        (
            "import s4m_sb.inference.interface and from_hparams, in s",
            math.nan if import_s is None else import_s,
            "< 1.5",
        ),
    )
    return [
        (what, bound, value, verdict(value, bound))
        for what, value, bound in targets
    ]


def verdict(value: float, bound: str) -> str:
    """Whether a value keeps its bound.

    Example
    -------
    >>> verdict(3.0, ">= 3"), verdict(1.5, "< 1.5"), verdict(math.nan, "< 1")
    ('pass', 'miss', '-')
    """
    if math.isnan(value):
        return "-"
    sign, number = bound.split()
    kept = {
        ">=": value >= float(number),
        "<=": value <= float(number),
        "<": value < float(number),
    }[sign]
    return "pass" if kept else "miss"


# ---------------------------------------------------------------- writing


def markdown(
    rows: list[Row],
    targets: list[tuple[str, str, float, str]],
    short_s: float,
    training_s: float,
    caption: str,
) -> str:
    """The table for a README.

    Arguments
    ---------
    rows : list of dict
        From `collect_rows`.
    targets : list
        From `check_targets`.
    short_s : float
        Length of the calls that are compared, in seconds.
    training_s : float
        Of the clips of training steps, in seconds.
    caption : str
        Stands above the table.

    Returns
    -------
    str
        Markdown: sizes and times, the same over length, the targets.
    """
    found = {(r["model"], r["part"], r["length_s"]): r for r in rows}
    models = list(dict.fromkeys(row["model"] for row in rows))
    lengths = sorted(
        {row["length_s"] for row in rows if row["part"] == "inference"}
    )

    def cell(model, part, column, form, length_s=short_s):
        if part != "inference":
            length_s = training_s
        row = found.get((model, part, length_s), {})
        if column in row and not math.isnan(row[column]):
            return form.format(row[column])
        return MARKS[row.get("mark", "")]

    step, checkpointed = "training", "training, checkpointed"
    heading = [
        "model",
        "parameters (M)",
        "GMAC for 1 s",
        "real-time factor",
        "to S4M-tiny",
        "to the twin",
        "first call (s)",
        "training step (s)",
        "to S4M-tiny",
        "to the twin",
        "its memory (GiB)",
        "checkpointed step (s)",
        "its memory (GiB)",
    ]
    lines = [heading, ["---"] + ["---:"] * (len(heading) - 1)]
    for model in models:
        lines.append(
            [
                ROWS[model]["name"],
                cell(model, "inference", "parameters_m", "{:.3g}"),
                cell(model, "inference", "gmac_per_s", "{:.3g}"),
                cell(model, "inference", "real_time_factor", "{:.3f}"),
                cell(model, "inference", "time_to_s4m_tiny", "{:.2f}"),
                cell(model, "inference", "time_to_twin", "{:.2f}"),
                cell(model, "inference", "first_call_s", "{:.2f}"),
                cell(model, step, "time_s", "{:.2f}"),
                cell(model, step, "time_to_s4m_tiny", "{:.2f}"),
                cell(model, step, "time_to_twin", "{:.2f}"),
                cell(model, step, "peak_memory_gib", "{:.2f}"),
                cell(model, checkpointed, "time_s", "{:.2f}"),
                cell(model, checkpointed, "peak_memory_gib", "{:.2f}"),
            ]
        )
    heading = ["model"]
    for length_s in lengths:
        heading += [f"{length_s:g} s: time (s)", "memory (GiB)"]
    over_length = [heading, ["---"] + ["---:"] * (len(heading) - 1)]
    for model in models:
        line = [ROWS[model]["name"]]
        for length_s in lengths:
            line += [
                cell(model, "inference", column, form, length_s)
                for column, form in (
                    ("time_s", "{:.3g}"),
                    ("peak_memory_gib", "{:.3f}"),
                )
            ]
        over_length.append(line)
    verdicts = [
        ["ratio", "bound", "measured", ""],
        ["---", "---", "---:", "---"],
    ]
    verdicts += [
        [what, bound, MARKS[""] if math.isnan(value) else f"{value:.2f}", kept]
        for what, bound, value, kept in targets
    ]
    tables = [grid(lines), grid(over_length), grid(verdicts)]
    if any(row["batch_size"] > 1 for row in rows):
        tables.insert(2, grid(by_batch(rows, training_s)))
    return "\n\n".join([caption, *tables]) + "\n"


def by_batch(rows: list[Row], training_s: float) -> list[list[str]]:
    """What training steps with batches of several sizes get through."""
    lines = [
        ["model", "step", "audio for 1 s of time (s)", "memory (GiB)"],
        ["---", "---", "---:", "---:"],
    ]
    for row in rows:
        if row["part"] == "inference" or row["length_s"] != training_s:
            continue
        cells = [
            f"{row[column]:.{digits}f}"
            if not math.isnan(row.get(column, math.nan))
            else MARKS[row["mark"]]
            for column, digits in (("audio_s_per_s", 1), ("peak_memory_gib", 2))
        ]
        lines.append([ROWS[row["model"]]["name"], row["part"], *cells])
    return lines
