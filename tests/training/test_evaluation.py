"""What is written about a test set: numbers, summary, audio."""

import csv
import json
import logging
import sys

import pytest
import soundfile
import torch
from speech_like import speak

from s4m_sb import metrics
from s4m_sb.errors import InputError
from s4m_sb.training.evaluation import PEAK, Evaluation
from s4m_sb.training.score_figure import plot_improvement

RATE = 8000
LENGTHS = [4000, 2500, 3200]  # samples
IDS = ["a", "b", "c"]


@pytest.fixture
def separated():
    """Three items of two sources and estimates in the other order."""
    T = max(LENGTHS)
    target = torch.randn(3, T, 2)
    noise = torch.randn(3, T, 2)
    estimate = (3 * target + 0.5 * noise).flip(-1)
    for item, length in enumerate(LENGTHS):
        target[item, length:] = 0
        estimate[item, length:] = 0
    lengths = torch.tensor(LENGTHS) / T
    return {
        "estimate": estimate,
        "target": target,
        "mixture": target.sum(-1),
        "lengths": lengths,
    }


def rows(folder):
    with open(folder / "test_results.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_a_row_says_what_the_metrics_say_of_the_item_alone(separated, tmp_path):
    evaluation = Evaluation(tmp_path, RATE, ["sdr", "si-snr"])
    evaluation.add(IDS, **separated)
    averages = evaluation.close({})
    written = rows(tmp_path)
    assert [row["snt_id"] for row in written] == [*IDS, "avg"]
    for item, length in enumerate(LENGTHS):
        target = separated["target"][item : item + 1, :length]
        estimate = separated["estimate"][item : item + 1, :length].flip(-1)
        mixture = target.sum(-1, keepdim=True).expand_as(target)
        for name, metric in (("sdr", metrics.sdr), ("si-snr", metrics.si_snr)):
            after = metric(estimate=estimate, target=target).mean()
            before = metric(estimate=mixture, target=target).mean()
            # Four decimals are written; SDR solves for 512 taps in float32.
            row = written[item]
            assert float(row[name]) == pytest.approx(float(after), abs=1e-2)
            assert float(row[f"{name}_i"]) == pytest.approx(
                float(after - before), abs=1e-2
            )
    for name, value in averages.items():
        mean = sum(float(row[name]) for row in written[:-1]) / len(IDS)
        assert value == pytest.approx(mean, abs=1e-4)  # four decimals
        assert float(written[-1][name]) == pytest.approx(value, abs=1e-4)


def test_the_order_of_the_estimates_does_not_matter(separated, tmp_path):
    for name, order in (("one", [0, 1]), ("two", [1, 0])):
        evaluation = Evaluation(tmp_path / name, RATE, ["si-snr"])
        evaluation.add(
            IDS, **separated | {"estimate": separated["estimate"][..., order]}
        )
        evaluation.close({})
    assert rows(tmp_path / "one") == rows(tmp_path / "two")


def test_a_perfect_copy_of_the_mixture_improves_nothing(separated, tmp_path):
    mixture = separated["mixture"]
    evaluation = Evaluation(tmp_path, RATE, ["si-snr"])
    same = mixture.unsqueeze(-1).expand_as(separated["target"])
    evaluation.add(IDS, **separated | {"estimate": same})
    assert evaluation.close({})["si-snr_i"] == 0


def test_silent_references_leave_cells_empty(separated, tmp_path):
    target = separated["target"]
    target[0] = 0  # both sources of the first item
    target[1, :, 1] = 0  # one of the second
    separated["mixture"] = target.sum(-1)
    evaluation = Evaluation(tmp_path, RATE, ["sdr", "si-snr", "pesq", "stoi"])
    evaluation.add(IDS, **separated)
    averages = evaluation.close({})
    silent, half, full, _ = rows(tmp_path)
    assert set(list(silent.values())[1:]) == {""}
    # The mixture is the one source that speaks: there is nothing to improve.
    assert half["sdr"] and half["si-snr"]  # too short for STOI
    assert not any(half[f"{name}_i"] for name in evaluation.test_metrics)
    assert float(full["si-snr"]) > 0
    assert averages["si-snr"] == pytest.approx(
        (float(half["si-snr"]) + float(full["si-snr"])) / 2,
        abs=1e-4,  # four decimals
    )
    assert averages["si-snr_i"] == pytest.approx(
        float(full["si-snr_i"]),
        abs=1e-4,  # four decimals
    )


def test_the_summary(separated, tmp_path):
    evaluation = Evaluation(tmp_path, RATE, ["si-snr"])
    evaluation.add(IDS, **separated)
    averages = evaluation.close({"seed": 5})
    summary = json.loads((tmp_path / "summary.json").read_text())
    # Two voices and nothing else are about 0 dB above each other.
    (group,) = summary.pop("by_input_si_snr_db")
    assert (group["low"], group["high"]) == (-1.5, 1.5)
    (group,) = summary.pop("by_overlap")  # noise speaks all the time
    assert (group["low"], group["high"], group["overlap"]) == (0.9, 1.1, 1)
    assert summary == {
        "num_items": 3,
        **averages,
        "sample_rate": RATE,
        "seed": 5,
    }


def test_rows_are_written_as_it_goes(separated, tmp_path):
    evaluation = Evaluation(tmp_path, RATE, ["si-snr"])
    evaluation.add(IDS, **separated)
    partial = tmp_path / "test_results.partial.csv"
    assert len(partial.read_text().splitlines()) == 4
    assert not (tmp_path / "summary.json").exists()


def test_saved_audio(separated, tmp_path):
    separated["estimate"][1] = 0  # a silent estimate
    separated["target"][1] = 0  # of silence
    separated["mixture"][1] = 0
    evaluation = Evaluation(
        tmp_path, RATE, ["si-snr"], tmp_path / "audio", num_audio=2
    )
    evaluation.add(IDS, **separated)
    kinds = ["mix", "source1", "source1hat", "source2", "source2hat"]
    assert sorted(path.name for path in (tmp_path / "audio").iterdir()) == [
        f"item{name}_{kind}.wav" for name in "ab" for kind in kinds
    ]
    signals = {}
    for path in (tmp_path / "audio").iterdir():
        signal, rate = soundfile.read(path)
        signal = torch.from_numpy(signal)
        assert rate == RATE
        assert len(signal) == LENGTHS[IDS.index(path.name[4])]
        assert signal.isfinite().all()
        assert signal.abs().max() <= PEAK + 1e-6  # float32
        signals[path.stem[4:]] = signal
    assert not any(signals[f"b_{kind}"].any() for kind in kinds)
    for source in ("a_source1", "a_source2"):
        # At the level of its target, and in its place: 3/0.5 is 15.6 dB.
        estimate, target = signals[f"{source}hat"], signals[source]
        assert float(estimate.norm() / target.norm()) == pytest.approx(
            1,
            rel=1e-5,  # float32
        )
        assert metrics.si_snr(
            estimate=estimate.view(1, -1, 1), target=target.view(1, -1, 1)
        ) == pytest.approx(15.6, abs=1)
    # Levels within an item are as they were.
    torch.testing.assert_close(
        signals["a_mix"],
        signals["a_source1"] + signals["a_source2"],
        rtol=0,
        atol=1e-6,  # float32
    )


@pytest.mark.parametrize("num_audio, saved", [(0, 0), (-1, 15), (9, 15)])
def test_how_much_audio(separated, tmp_path, num_audio, saved):
    folder = tmp_path / "audio"
    evaluation = Evaluation(tmp_path, RATE, ["si-snr"], folder, num_audio)
    evaluation.add(IDS, **separated)
    assert len(list(folder.glob("*.wav"))) == saved


def test_unknown_metrics_are_refused(tmp_path):
    with pytest.raises(InputError, match="'snr' is unknown; choose"):
        Evaluation(tmp_path, RATE, ["si-snr", "snr"])
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------- conditions


def noisy(num_items, input_db, output_db, num_frames=4000, seed=0):
    """One speaker each, before and after, at levels that are exact.

    Arguments are SI-SNRs in dB, ``[B]``: of the mixtures and the estimates.
    """
    generator = torch.Generator().manual_seed(seed)
    target = torch.randn(num_items, num_frames, generator=generator)
    noise = torch.randn(num_items, num_frames, generator=generator)
    target -= target.mean(1, keepdim=True)
    noise -= noise.mean(1, keepdim=True)
    along = (noise * target).sum(1) / target.square().sum(1)
    noise -= along[:, None] * target
    noise *= (target.norm(dim=1) / noise.norm(dim=1))[:, None]

    def at(level_db):
        return target + 10 ** (-torch.tensor(level_db)[:, None] / 20) * noise

    return {
        "estimate": at(output_db).unsqueeze(-1),
        "target": target.unsqueeze(-1),
        "mixture": at(input_db),
        "lengths": torch.ones(num_items),
    }


def test_conditions_are_columns_and_groups(tmp_path):
    evaluation = Evaluation(tmp_path, RATE, ["si-snr"])
    one = noisy(3, [-5.0, 1.0, -4.0], [10.0, 10.0, 12.0])
    two = noisy(2, [2.0, -4.0], [8.0, 7.0])
    evaluation.add(
        ["a", "b", "c"],
        **one,
        conditions={
            "input_snr_db": torch.tensor([-5.0, 1.0, torch.inf]),
            "rt60_s": torch.tensor([0.25, 0.6, torch.nan]),
        },
    )
    evaluation.add(["d", "e"], **two, conditions={"rt60_s": [0.35, 0.6]})
    partial = (tmp_path / "test_results.partial.csv").read_text()
    assert len(partial.splitlines()) == 6  # whole at any time
    evaluation.close({})
    written = rows(tmp_path)
    assert list(written[0]) == [
        "snt_id",
        "si-snr",
        "si-snr_i",
        *metrics.ITEM_METRICS,
        "overlap",
        "input_snr_db",
        "rt60_s",
    ]
    assert [row["input_snr_db"] for row in written] == [
        "-5.0000",
        "1.0000",
        "",
        "",
        "",
        "",
    ]
    assert [row["rt60_s"] for row in written] == [
        "0.2500",
        "0.6000",
        "",
        "0.3500",
        "0.6000",
        "",
    ]
    summary = json.loads((tmp_path / "summary.json").read_text())

    def groups(name):
        return [
            (
                group["low"],
                group["high"],
                group["num_items"],
                # dB, float32 and EPS in the ratio
                round(group["si-snr"], 3),
                round(group["si-snr_i"], 3),
            )
            for group in summary[f"by_{name}"]
        ]

    assert groups("input_snr_db") == [
        (-6, -3, 1, 10, 15),
        (0, 3, 1, 10, 9),
    ]
    assert groups("rt60_s") == [
        (0.2, 0.4, 2, 9, 10.5),
        (0.6, 0.8, 2, 8.5, 10),
    ]
    assert groups("input_si_snr_db") == [
        (-7.5, -4.5, 1, 10, 15),
        (-4.5, -1.5, 2, 9.5, 13.5),
        (-1.5, 1.5, 1, 10, 9),
        (1.5, 4.5, 1, 8, 6),
    ]


def test_conditions_that_are_never_known_are_no_groups(separated, tmp_path):
    evaluation = Evaluation(tmp_path, RATE, ["sdr"])
    unknown = torch.full((3,), torch.nan)
    evaluation.add(IDS, **separated, conditions={"input_snr_db": unknown})
    evaluation.close({})
    assert {row["input_snr_db"] for row in rows(tmp_path)} == {""}
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert [key for key in summary if key.startswith("by_")] == ["by_overlap"]


def test_columns_are_known_with_the_first_batch(separated, tmp_path):
    evaluation = Evaluation(tmp_path, RATE, ["si-snr"])
    evaluation.add(IDS, **separated)
    late = {"rt60_s": torch.full((3,), 0.3)}
    with pytest.raises(InputError, match="rt60_s came after the first batch"):
        evaluation.add(IDS, **separated, conditions=late)


def test_an_evaluation_of_nothing(tmp_path):
    Evaluation(tmp_path, RATE, ["sdr"]).close({})
    (average,) = rows(tmp_path)
    assert average["snt_id"] == "avg"
    assert not average["sdr"]


def test_silent_items_are_in_no_group(separated, tmp_path):
    separated["target"][0] = 0
    separated["mixture"] = separated["target"].sum(-1)
    evaluation = Evaluation(tmp_path, RATE, ["si-snr"])
    rt60_s = torch.tensor([0.25, 0.3, 0.5])
    evaluation.add(IDS, **separated, conditions={"rt60_s": rt60_s})
    evaluation.close({})
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["num_items"] == 3
    assert [group["num_items"] for group in summary["by_rt60_s"]] == [1, 1]
    (group,) = summary["by_input_si_snr_db"]
    assert group["num_items"] == 2


@pytest.mark.parametrize(
    "conditions, message",
    [
        ({"snr": torch.zeros(3)}, "'snr' is unknown; choose from input_snr_db"),
        ({"rt60_s": torch.zeros(2)}, r"rt60_s has shape \(2,\).*\(3,\)"),
    ],
)
def test_conditions_that_do_not_fit_are_refused(
    separated, tmp_path, conditions, message
):
    evaluation = Evaluation(tmp_path, RATE, ["si-snr"])
    with pytest.raises(InputError, match=message):
        evaluation.add(IDS, **separated, conditions=conditions)


# ----------------------------------------------------------------- figure


@pytest.fixture
def figures(monkeypatch):
    """What is drawn while the test runs."""
    drawn = []
    monkeypatch.setattr(
        "s4m_sb.training.evaluation.plot_improvement",
        lambda *args, **named: drawn.append(plot_improvement(*args, **named)),
    )
    return drawn


def test_the_figure_shows_the_table(tmp_path, figures):
    input_db = [-12.0, -5.0, 1.0, -4.0, -4.1]
    items = noisy(5, input_db, [2.0, 10.0, 10.0, 12.0, 11.0])
    items["target"][1] = 0  # silent: a row, but no point
    evaluation = Evaluation(tmp_path, RATE, ["sdr", "si-snr"])
    evaluation.add(list("abcde"), **items)
    evaluation.close(
        {"dataset": "wham", "mixture": "mix_single", "target": "anechoic"}
    )
    assert (tmp_path / "si-snr_i.png").stat().st_size > 0
    (figure,) = figures
    (axes,) = figure.axes
    lines = {line.get_label(): line for line in axes.get_lines()}
    rated = [row for row in rows(tmp_path)[:-1] if row["si-snr"]]
    # Four decimals are written, and the input is a difference of two.
    assert lines["utterance"].get_ydata().tolist() == pytest.approx(
        [float(row["si-snr_i"]) for row in rated], abs=1e-4
    )
    assert lines["utterance"].get_xdata().tolist() == pytest.approx(
        [float(row["si-snr"]) - float(row["si-snr_i"]) for row in rated],
        abs=2e-4,
    )
    assert lines["utterance"].get_xdata().tolist() == pytest.approx(
        [-12.0, 1.0, -4.0, -4.1],
        abs=1e-3,  # float32 and EPS in the ratio
    )
    summary = json.loads((tmp_path / "summary.json").read_text())
    groups = summary["by_input_si_snr_db"]
    mean = lines["mean of each 3 dB"]
    assert mean.get_xdata().tolist() == [g["input_si_snr_db"] for g in groups]
    assert mean.get_ydata().tolist() == [g["si-snr_i"] for g in groups]
    assert len(groups) == 3
    assert axes.get_title(loc="left") == (
        "dataset: wham, mixture: mix_single, target: anechoic\n"
        f"4 utterances, mean SI-SNRi {summary['si-snr_i']:.1f} dB"
    )


@pytest.mark.parametrize("silent, name", [(True, "si-snr"), (False, "sdr")])
def test_nothing_to_draw(separated, tmp_path, figures, silent, name):
    (tmp_path / "si-snr_i.png").write_text("of an earlier evaluation")
    if silent:
        separated["target"][:] = 0
    evaluation = Evaluation(tmp_path, RATE, [name])
    evaluation.add(IDS, **separated)
    evaluation.close({})
    assert figures == []
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "summary.json",
        "test_results.csv",
    ]


def test_without_matplotlib_all_but_the_figure_is_there(
    separated, tmp_path, monkeypatch, caplog
):
    for name in ("with", "without"):
        evaluation = Evaluation(tmp_path / name, RATE, ["si-snr"])
        evaluation.add(IDS, **separated)
        if name == "without":
            monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
            caplog.clear()
            caplog.set_level(logging.INFO)
        evaluation.close({"seed": 1})
    written = {
        name: {path.name: path.read_bytes() for path in folder.iterdir()}
        for name in ("with", "without")
        for folder in [tmp_path / name]
    }
    assert written["with"].pop("si-snr_i.png")
    assert written["with"] == written["without"]
    (line,) = [r for r in caplog.messages if "figure" in r]
    assert "matplotlib" in line
    assert "pip install s4m_sb[eval]" in line


# ----------------------------------------------------------- conversations


def conversation(leak_db, exchange_s=None, num_seconds=60):
    """A minute: one talks, both, the other, none; and what leaks is known."""
    time = torch.arange(num_seconds * RATE) / RATE
    target = torch.randn(1, len(time), 2)
    target[:, time >= 0.5 * num_seconds, 0] = 0
    target[:, (time < 0.25 * num_seconds) | (time >= 0.75 * num_seconds), 1] = 0
    estimate = target + 10 ** (leak_db / 20) * target.flip(-1)
    if exchange_s is not None:
        estimate[:, time >= exchange_s] = estimate[:, time >= exchange_s].flip(
            -1
        )
    return {
        "estimate": estimate,
        "target": target,
        "mixture": target.sum(-1),
        "lengths": torch.ones(1),
    }


def test_a_conversation_is_measured_as_planted(tmp_path):
    evaluation = Evaluation(tmp_path, RATE, ["si-snr"])
    evaluation.add(["quiet"], **conversation(-20.0))
    evaluation.add(["changed"], **conversation(-20.0, exchange_s=20.0))
    solo = conversation(-30.0, num_seconds=20)
    solo["target"][..., 1] = 0
    solo["mixture"] = solo["target"].sum(-1)
    solo["estimate"] = solo["target"] + 10**-1.5 * solo["target"].flip(-1)
    solo["estimate"][..., 0] += 0.1 * torch.randn(1, 20 * RATE)
    evaluation.add(["solo"], **solo)
    averages = evaluation.close({})
    quiet, changed, alone, _ = rows(tmp_path)
    # Four decimals; one talks for a half of the time, a quarter with both.
    assert float(quiet["overlap"]) == pytest.approx(1 / 3, abs=1e-3)
    assert float(quiet["leakage_db"]) == pytest.approx(-20, abs=1e-3)
    assert float(quiet["exchanges_per_min"]) == 0
    assert float(changed["exchanges_per_min"]) == 1
    assert float(alone["leakage_db"]) == pytest.approx(-30, abs=0.1)
    # The noise of 0.1 sounds twice as long as the voice: 17 dB below.
    assert float(alone["single_si-snr"]) == pytest.approx(17, abs=0.2)
    assert not (quiet["single_si-snr"] or alone["si-snr_i"])
    # A lone voice is in no average of improvements.
    both = [float(row["si-snr_i"]) for row in (quiet, changed)]
    assert averages["si-snr_i"] == pytest.approx(sum(both) / 2, abs=1e-3)
    summary = json.loads((tmp_path / "summary.json").read_text())
    for name in metrics.ITEM_METRICS:
        assert summary[name] == averages[name]
    groups = {g["low"]: g["num_items"] for g in summary["by_overlap"]}
    assert groups == {-0.1: 1, 0.3: 2}


def test_the_figure_shows_the_share_of_overlap(tmp_path, figures):
    evaluation = Evaluation(tmp_path, RATE, ["si-snr"])
    evaluation.add(["half"], **conversation(-20.0, num_seconds=20))
    evaluation.add(
        ["whole"],
        **conversation(-20.0)
        | {
            "lengths": torch.tensor([0.4]),
        },
    )
    evaluation.close({})
    (figure,) = figures
    _, panel = figure.axes
    lines = {line.get_label(): line for line in panel.get_lines()}
    table = rows(tmp_path)[:-1]
    for axis, column in (("x", "overlap"), ("y", "si-snr_i")):
        drawn = getattr(lines["utterance"], f"get_{axis}data")().tolist()
        assert drawn == pytest.approx(
            [float(row[column]) for row in table],
            abs=1e-4,  # four decimals
        )
    assert panel.get_xlabel() == "share of speech in which two or more talk"
    assert "leakage_db -20.0" in figure.axes[0].get_title(loc="left")


def test_a_leak_is_heard_in_the_saved_audio(tmp_path):
    items = conversation(-20.0, num_seconds=4)
    items["target"][..., 1] = 0
    items["estimate"] = items["target"] + 0.1 * items["target"].flip(-1)
    evaluation = Evaluation(tmp_path, RATE, ["si-snr"], tmp_path / "audio")
    evaluation.add(["a"], **items)
    voice, leak = (
        soundfile.read(tmp_path / f"audio/itema_source{n}hat.wav")[0]
        for n in (1, 2)
    )
    ratio = (leak**2).sum() / (voice**2).sum()
    assert ratio == pytest.approx(0.01, rel=0.01)  # 16 bits


# ------------------------------------------------------------ enhancement


@pytest.mark.parametrize("sample_rate", [8000, 16000])
def test_one_speaker_out_of_noise(sample_rate, tmp_path):
    for package in ("torchmetrics", "pesq", "pystoi"):
        pytest.importorskip(package)
    target = torch.stack(
        [torch.from_numpy(speak(i, 0, 2.0, sample_rate)) for i in range(2)]
    )
    noise = torch.randn(target.shape)
    noise *= (target.norm(dim=1) / noise.norm(dim=1))[:, None]
    levels = 10 ** (torch.tensor([6.0, -3.0]) / 20)[:, None]  # -6 and 3 dB
    mixture = target + levels * noise
    estimate = target + 0.1 * levels * noise  # 20 dB less of it
    names = ["sdr", "si-snr", "pesq", "stoi"]
    evaluation = Evaluation(tmp_path, sample_rate, names)
    evaluation.add(
        ["loud", "soft"],
        estimate=-3 * estimate.unsqueeze(-1),  # neither scale nor sign count
        target=target.unsqueeze(-1),
        mixture=mixture,
        lengths=torch.ones(2),
    )
    evaluation.close({})
    for row, level_db in zip(rows(tmp_path), (-6, 3), strict=False):
        values = {key: float(row[key]) for key in evaluation.columns[:8]}
        assert {row[key] for key in metrics.ITEM_METRICS} == {""}  # none
        # Speech and noise of 2 s are not quite orthogonal.
        assert values["si-snr"] == pytest.approx(20 + level_db, abs=0.3)
        assert values["si-snr_i"] == pytest.approx(20, abs=0.3)
        # 512 taps explain some of the noise, less of the louder one.
        assert values["sdr"] == pytest.approx(20 + level_db, abs=1)
        assert 1 < values["pesq"] - values["pesq_i"] < values["pesq"] < 4.7
        assert 0 < values["stoi"] - values["stoi_i"] < values["stoi"] < 1


def test_with_one_speaker_there_is_nothing_to_permute(tmp_path):
    items = noisy(2, [-3.0, 3.0], [12.0, 12.0])
    evaluation = Evaluation(tmp_path, RATE, ["si-snr"])
    evaluation.add(["a", "b"], **items)
    averages = evaluation.close({})
    values = metrics.si_snr(estimate=items["estimate"], target=items["target"])
    assert averages["si-snr"] == pytest.approx(float(values.mean()))
    # dB, float32 and EPS in the ratio
    assert averages["si-snr"] == pytest.approx(12, abs=1e-3)
    assert averages["si-snr_i"] == pytest.approx(12, abs=1e-3)
