"""The picture of an evaluation: SI-SNRi against input and overlap."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from s4m_sb.system.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Points = Sequence[tuple[float, float]]

POINT, LINE = "#4c78a8", "#d1495b"
MIN_RANGE_DB = 6.0  # without noise the inputs lie within less than 1 dB


def plot_improvement(
    path: str | os.PathLike,
    points: Points,
    means: Points,
    bin_db: float,
    title: str = "",
    by_overlap: tuple[Points, Points] | None = None,
) -> "Figure":
    """Draws one point an utterance, and the means of groups as a line.

    Arguments
    ---------
    path : str or os.PathLike
        The picture to write, whole or not at all.
    points : sequence of (float, float)
        Input SI-SNR and SI-SNRi of each utterance, in dB.
    means : sequence of (float, float)
        Their means in each bin of the input SI-SNR, in dB, in order.
    bin_db : float
        How wide a bin is.
    title : str
        Stands above the picture.
    by_overlap : tuple, optional
        The same points and means against the share of overlapped speech, for
        a second panel.

    Returns
    -------
    matplotlib.figure.Figure
        What was drawn.

    Raises
    ------
    ImportError
        If matplotlib is not installed.

    Example
    -------
    >>> points = [(-3.1, 9.0), (-2.9, 11.0), (3.0, 8.0)]
    >>> path = getfixture("tmp_path") / "si-snr_i.png"
    >>> means = [(-3.0, 10.0), (3.0, 8.0)]
    >>> figure = plot_improvement(path, points, means, bin_db=3.0)
    >>> path.exists()
    True
    """
    from matplotlib.figure import Figure

    num_panels = 2 if by_overlap else 1
    figure = Figure(figsize=(2 + 5 * num_panels, 4.5), layout="constrained")
    axes, *beside = figure.subplots(1, num_panels, squeeze=False)[0]
    _draw(axes, points, means, f"mean of each {bin_db:g} dB")
    low, high = axes.get_xlim()
    missing = max(0.0, MIN_RANGE_DB - (high - low))
    axes.set_xlim(low - missing / 2, high + missing / 2)
    axes.set_xlabel("input SI-SNR (dB)")
    axes.set_title(title, loc="left", fontsize=10)
    if by_overlap:
        (panel,) = beside
        _draw(panel, *by_overlap, "mean of each fifth")
        panel.set_xlim(-0.05, 1.05)
        panel.set_xlabel("share of speech in which two or more talk")
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=150)
    return figure


def _draw(axes: "Axes", points: Points, means: Points, label: str) -> None:
    axes.axhline(0, color="0.4", linewidth=1, zorder=1)
    axes.plot(
        *zip(*points, strict=True),
        linestyle="none",
        marker="o",
        # Thousands of points shall show where they are dense.
        markersize=max(3.0, 6 - 0.001 * len(points)),
        markeredgewidth=0,
        color=POINT,
        alpha=min(0.7, max(0.3, 150 / len(points))),
        label="utterance",
    )
    axes.plot(
        *zip(*means, strict=True),
        marker="o",
        markersize=8,
        markerfacecolor="none",  # a point in it stays visible
        color=LINE,
        label=label,
    )
    axes.grid(color="0.9")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_ylabel("SI-SNRi (dB)")
    # Beside the title, where no points are.
    legend = axes.legend(
        loc="lower right", bbox_to_anchor=(1.0, 1.0), fontsize=9, frameon=False
    )
    for line in legend.get_lines():
        line.set_alpha(1)
