"""The picture of speed: time and memory against length.

Above this file: `speed.py`.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from speed_networks import ROWS
from speed_table import Row

from s4m_sb.system.files import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PANELS = (
    ("time_s", "time (s)"),
    ("peak_memory_gib", "peak memory (GiB)"),
)


def plot_speed(path: Path, rows: list[Row]) -> "Figure":
    """Draws a line for each network, time on the left, memory on the right.

    Arguments
    ---------
    path : Path
        The picture to write, whole or not at all.
    rows : list of dict
        From `collect_rows`.

    Returns
    -------
    matplotlib.figure.Figure
        What was drawn.
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter

    figure = Figure(figsize=(11, 4.8), layout="constrained")
    panels = figure.subplots(1, len(PANELS))
    rows = [row for row in rows if row["part"] == "inference"]
    # Networks that differ in their sample rate share a colour.
    names = list(dict.fromkeys(base_name(model) for model in ROWS))
    for model, about in ROWS.items():
        line = {
            "color": colormaps["tab10"](names.index(base_name(model))),
            "linestyle": "-" if base_name(model) == model else "--",
            "marker": "o" if base_name(model) == model else "x",
            "markersize": 4,
            "linewidth": 2.5 if model == "s4m-tiny" else 1.2,
            "label": about["name"],
        }
        for axes, (column, _) in zip(panels, PANELS, strict=True):
            points = sorted(
                (row["length_s"], row[column])
                for row in rows
                if row["model"] == model and column in row
            )
            if points:
                axes.plot(*zip(*points, strict=True), **line)
    lengths = sorted({row["length_s"] for row in rows})
    plain = FuncFormatter(lambda value, _: f"{value:g}")
    for axes, (_, label) in zip(panels, PANELS, strict=True):
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xticks(lengths, [f"{length:g}" for length in lengths])
        axes.minorticks_off()
        axes.yaxis.set_major_formatter(plain)
        axes.grid(alpha=0.3)
        axes.set_xlabel("length of the mixture (s)")
        axes.set_ylabel(label)
    panels[0].plot(
        lengths, lengths, ":", color="black", label="as long as the mixture"
    )
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150)
    return figure


def base_name(model: str) -> str:
    """A key of `ROWS` without its sample rate."""
    return model.removesuffix("-16k")
