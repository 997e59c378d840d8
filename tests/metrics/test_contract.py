"""What holds for every metric: padding, precision, NaN, shapes, libraries."""

import builtins
import math

import pytest
import torch
from known_signals import voices

from s4m_sb import metrics
from s4m_sb.errors import InputError


def test_padding_counts_for_nothing():
    num_frames = [400, 133, 250]
    lengths = torch.tensor(num_frames) / 400
    target, estimate = voices(3, seed=1), voices(3, seed=2)
    mixture = target.sum(2)
    for item, n in enumerate(num_frames):
        target[item, n:] = 1e3
        estimate[item, n:] = math.nan
        mixture[item, n:] = math.inf
    estimate.requires_grad_()
    loss = metrics.pit_si_snr_loss(target, estimate, lengths)
    loss.sum().backward()
    improvement = metrics.si_snr_i(
        estimate=estimate, target=target, mixture=mixture, lengths=lengths
    )
    for item, n in enumerate(num_frames):
        whole = estimate.detach()[item : item + 1, :n].requires_grad_()
        alone = metrics.pit_si_snr_loss(target[item : item + 1, :n], whole)
        alone.sum().backward()
        # masked and plain float32 sums group their terms differently
        torch.testing.assert_close(loss[item], alone[0], atol=1e-4, rtol=0)
        torch.testing.assert_close(
            estimate.grad[item, :n], whole.grad[0], atol=1e-6, rtol=1e-4
        )
        assert (estimate.grad[item, n:] == 0).all()
        torch.testing.assert_close(
            improvement[item],
            metrics.si_snr_i(
                estimate=whole,
                target=target[item : item + 1, :n],
                mixture=mixture[item : item + 1, :n],
            )[0],
            atol=1e-4,
            rtol=0,
        )


def test_value_is_unchanged_by_noise_in_the_padding():
    target, estimate = voices(seed=1), voices(seed=2)
    lengths = torch.tensor([0.5, 0.75])
    before = metrics.si_snr(estimate=estimate, target=target, lengths=lengths)
    estimate[0, 200:] = 7.0
    target[1, 300:] = -7.0
    after = metrics.si_snr(estimate=estimate, target=target, lengths=lengths)
    assert torch.equal(before, after)


def test_an_item_of_length_zero_is_silent():
    target, estimate = voices(), voices(seed=1)
    lengths = torch.tensor([0.0, 1.0])
    loss = metrics.pit_si_snr_loss(target, estimate, lengths)
    assert loss[0] == 0
    assert loss[1] != 0


@pytest.mark.parametrize("where", ["estimate", "target"])
def test_nan_is_not_hidden(where):
    signals = {"target": voices(), "estimate": voices(seed=1)}
    signals[where][0, 3, 0] = math.nan
    loss = metrics.pit_si_snr_loss(**signals)
    assert loss.isnan().tolist() == [True, False]


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(kind):
    target = (100 * voices(1, 20000)).to(kind)  # energy beyond float16
    estimate = target + (10 * voices(1, 20000, seed=1)).to(kind)
    values = metrics.si_snr(estimate=estimate, target=target)
    assert values.dtype == torch.float32
    # the same inputs, in float64: only the rounding of float32 differs
    expected = metrics.si_snr(
        estimate=estimate.double(), target=target.double()
    )
    torch.testing.assert_close(values.double(), expected, atol=1e-4, rtol=0)


def test_shapes_that_do_not_fit_are_named():
    with pytest.raises(InputError, match=r"\(2, 400, 2\).*\(2, 300, 2\)"):
        metrics.si_snr(estimate=voices(), target=voices(num_frames=300))
    with pytest.raises(InputError, match="lengths"):
        metrics.si_snr(voices(), voices(), torch.ones(3))
    with pytest.raises(InputError, match="mixture"):
        metrics.si_snr_i(voices(), voices(), voices())


@pytest.mark.parametrize(
    ("metric", "library"),
    [("sdr", "torchmetrics"), ("pesq", "pesq"), ("stoi", "pystoi")],
)
def test_a_missing_library_is_named_with_its_extra(
    monkeypatch, metric, library
):
    real_import = builtins.__import__

    def without_library(name, *args, **kwargs):
        if name.split(".")[0] == library:
            raise ImportError(f"No module named {name!r}", name=library)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_library)
    rate = {} if metric == "sdr" else {"sample_rate": 8000}
    with pytest.raises(InputError, match=r"pip install s4m_sb\[eval\]"):
        getattr(metrics, metric)(voices(), voices(), **rate)
