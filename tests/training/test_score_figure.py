"""The figure: what is drawn is what was given, and it is written whole."""

import matplotlib.image
import pytest

from s4m_sb.training.score_figure import MIN_RANGE_DB, plot_improvement

POINTS = [(-7.5, 12.0), (-4.0, 9.0), (-5.0, 11.0), (2.0, -1.0)]
MEANS = [(-7.5, 12.0), (-4.5, 10.0), (2.0, -1.0)]


def drawn(figure):
    (axes,) = figure.axes
    lines = {line.get_label(): line for line in axes.get_lines()}
    return axes, lines["utterance"], lines["mean of each 3 dB"]


def test_the_data_are_drawn_with_their_units(tmp_path):
    path = tmp_path / "new" / "si-snr_i.png"
    figure = plot_improvement(path, POINTS, MEANS, bin_db=3.0, title="mine")
    axes, points, means = drawn(figure)
    assert list(map(tuple, points.get_xydata().tolist())) == POINTS
    assert list(map(tuple, means.get_xydata().tolist())) == MEANS
    assert points.get_linestyle() == "None"
    assert means.get_linestyle() == "-"
    assert axes.get_xlabel() == "input SI-SNR (dB)"
    assert axes.get_ylabel() == "SI-SNRi (dB)"
    assert axes.get_title(loc="left") == "mine"
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "utterance",
        "mean of each 3 dB",
    ]
    low, high = axes.get_ylim()
    assert low < 0 < high  # where nothing is improved
    assert matplotlib.image.imread(path).shape == (675, 1050, 4)
    assert [file.name for file in path.parent.iterdir()] == ["si-snr_i.png"]


@pytest.mark.parametrize("spread_db", [0.0, 0.4, 20.0])
def test_equal_inputs_are_not_spread_over_the_whole_width(tmp_path, spread_db):
    points = [(0.1, 15.0), (0.1 + spread_db, 16.0)]
    path = tmp_path / "figure.png"
    axes, *_ = drawn(plot_improvement(path, points, points, bin_db=3.0))
    low, high = axes.get_xlim()
    assert high - low >= max(MIN_RANGE_DB - 1e-9, spread_db)
    assert (low + high) / 2 == pytest.approx(0.1 + spread_db / 2)


@pytest.mark.parametrize("num_points", [1, 5000])
def test_any_number_of_utterances(tmp_path, num_points):
    points = [(i / num_points, 10.0) for i in range(num_points)]
    path = tmp_path / "figure.png"
    _, line, _ = drawn(plot_improvement(path, points, points[:1], bin_db=3.0))
    assert len(line.get_xdata()) == num_points


def test_a_failure_leaves_the_old_figure(tmp_path, monkeypatch):
    path = tmp_path / "figure.png"
    path.write_text("old")

    def full(*args, **kwargs):
        raise OSError("no space left")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", full)
    with pytest.raises(OSError, match="no space"):
        plot_improvement(path, POINTS, MEANS, bin_db=3.0)
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["figure.png"]
