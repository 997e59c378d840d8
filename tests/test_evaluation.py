"""What is written about a test set: numbers, summary, audio."""

import csv
import importlib.util
import json

import pytest
import soundfile
import torch

from s4m_sb import metrics
from s4m_sb.errors import InputError
from s4m_sb.evaluation import PEAK, Evaluation, check_metrics

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
    # The mixture is the one source that speaks: nothing beats it. -80 dB is
    # the floor of every metric here, so 60 dB are out of reach for noise.
    assert float(half["si-snr"]) < 60 < -float(half["si-snr_i"])
    assert float(full["si-snr"]) > 0
    assert averages["si-snr"] == pytest.approx(
        (float(half["si-snr"]) + float(full["si-snr"])) / 2,
        abs=1e-4,  # four decimals
    )


def test_the_summary(separated, tmp_path):
    evaluation = Evaluation(tmp_path, RATE, ["si-snr"])
    evaluation.add(IDS, **separated)
    averages = evaluation.close({"seed": 5})
    assert json.loads((tmp_path / "summary.json").read_text()) == {
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


@pytest.mark.parametrize(
    "metric, package",
    [("sdr", "torchmetrics"), ("pesq", "pesq"), ("stoi", "pystoi")],
)
def test_metrics_that_are_not_installed_are_refused(
    monkeypatch, metric, package
):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name: None if name == package else find_spec(name),
    )
    check_metrics(["si-snr"])
    with pytest.raises(InputError, match=f"{metric} needs the .* {package}"):
        check_metrics(["si-snr", metric])
