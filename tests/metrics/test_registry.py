"""The registry of metrics: a line is all that a metric needs."""

import importlib.util

import pytest
import torch
from known_signals import voices

from s4m_sb import metrics
from s4m_sb.errors import InputError
from s4m_sb.metrics import METRICS, check_metrics
from s4m_sb.training.evaluation import Evaluation


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


def test_a_line_more_is_a_metric_more(monkeypatch, tmp_path):
    """Its columns, its titles on cards, and its name in messages."""

    def loudness(estimate, target, lengths=None):
        return estimate.abs().amax(dim=1)

    line = metrics.Metric(loudness, "Loudness", "dB")
    monkeypatch.setitem(METRICS, "loudness", line)
    target = voices(2, 800)
    evaluation = Evaluation(tmp_path, 8000, ["loudness"])
    evaluation.add(
        ["a", "b"], target, target, target.sum(2), lengths=torch.ones(2)
    )
    peak = float(target.abs().amax(dim=1).mean())
    before = float(target.sum(2).abs().amax(dim=1).mean())
    averages = evaluation.close({})
    # float32 means
    assert averages["loudness"] == pytest.approx(peak, rel=1e-6)
    assert averages["loudness_i"] == pytest.approx(peak - before, rel=1e-5)
    assert metrics.card_titles()["loudness_i"] == "Loudnessi (dB)"
    with pytest.raises(InputError, match="choose from si-snr, .*, loudness"):
        check_metrics(["snr"])


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_by_name_is_its_function(name):
    if any(not importlib.util.find_spec(p) for p in METRICS[name].packages):
        pytest.skip("needs what is not installed")
    target, estimate = voices(2, 8000), voices(2, 8000, seed=1)
    estimate = target + 0.3 * estimate
    mixture = target.sum(2)
    lengths = torch.tensor([0.7, 1.0])
    value, gain = METRICS[name].rate(estimate, target, mixture, 8000, lengths)
    rate = {"sample_rate": 8000} if name in ("pesq", "stoi") else {}
    function = getattr(metrics, name.replace("-", "_"))
    assert torch.equal(
        value, function(estimate, target, lengths=lengths, **rate)
    )
    same = mixture.unsqueeze(2).expand_as(target)
    before = function(same, target, lengths=lengths, **rate)
    assert torch.equal(gain, value - before)
    if name in ("si-snr", "sdr"):
        of = getattr(metrics, f"{name.replace('-', '_')}_i")
        assert torch.equal(gain, of(estimate, target, mixture, lengths))
