"""Objectives with silent targets, on signals whose true value is known."""

import functools
import itertools
import math

import pytest
import torch
from known_signals import voices

from s4m_sb import metrics
from s4m_sb.errors import InputError

LOSSES = [metrics.pit_sa_sdr_loss, metrics.pit_thresholded_snr_loss]


@pytest.fixture(params=LOSSES, ids=["sa_sdr", "thresholded"])
def loss(request):
    return request.param


def dB(ratio):
    return 10 * math.log10(ratio)


@pytest.mark.parametrize("max_sdr_db", [10.0, 30.0, 60.0])
@pytest.mark.parametrize("silent", [0, 1, 2])
def test_a_perfect_estimate_reaches_the_threshold(loss, max_sdr_db, silent):
    target = voices(num_sources=3)
    target[..., :silent] = 0
    for order in itertools.permutations(range(3)):
        value = loss(target, target[..., order], max_sdr_db=max_sdr_db)
        # log10 in float32
        torch.testing.assert_close(
            value, torch.full((2,), -max_sdr_db), atol=1e-5, rtol=0
        )


def test_sign_and_level_count(loss):
    target = voices(num_sources=1, dtype=torch.float64)  # none to swap with
    # An error of 2 t is 6 dB above t, one of t / 2 is 6 dB below.
    for gain in (-1.0, 0.5, 0.0, 3.0):
        value = loss(target, gain * target)
        expected = dB((1 - gain) ** 2 + 1e-3)
        assert value.tolist() == pytest.approx([expected] * 2, abs=1e-9)


def test_an_offset_counts(loss):
    target = voices(dtype=torch.float64)
    assert (loss(target, target + 0.5) > -10).all()


def test_sa_sdr_adds_all_sources_before_it_divides():
    target = voices(1, dtype=torch.float64)
    target = target / target.norm(dim=1, keepdim=True)
    target = target * torch.tensor([1.0, 0.1], dtype=torch.float64)
    error = voices(1, seed=1, dtype=torch.float64)
    error = error / error.norm(dim=1, keepdim=True)
    error = error * torch.tensor([0.05, 0.2], dtype=torch.float64)
    value = float(metrics.pit_sa_sdr_loss(target, target + error))
    # Energies: targets 1 + 0.01, errors 0.0025 + 0.04.
    assert value == pytest.approx(dB(0.0425 / 1.01 + 1e-3), abs=1e-9)


def test_thresholded_snr_is_a_mean_over_active_and_silent_targets():
    target = voices(1, num_sources=3, dtype=torch.float64)
    target = target / target.norm(dim=1, keepdim=True)
    target[..., 2] = 0
    estimate = target.clone()
    estimate[..., 0] *= 0.9  # error 0.01 of 1
    estimate[..., 2] = 0.2 * target[..., 0]  # a leak of 0.04
    mixture = target.sum(2)
    of_mixture = 0.04 / float(mixture.square().sum())
    value = float(metrics.pit_thresholded_snr_loss(target, estimate))
    expected = [dB(0.01 + 1e-3), -30.0, dB(of_mixture + 1e-3)]
    assert value == pytest.approx(sum(expected) / 3, abs=1e-9)
    # With the mixture in hand, its energy decides: four times as much.
    value = float(
        metrics.pit_thresholded_snr_loss(target, estimate, mixture=2 * mixture)
    )
    expected[2] = dB(of_mixture / 4 + 1e-3)
    assert value == pytest.approx(sum(expected) / 3, abs=1e-9)


def test_a_silent_output_beats_a_leak(loss):
    target = voices()
    target[..., 1] = 0
    values = [
        float(loss(target, target + leak * target.flip(-1)).mean())
        for leak in (0.0, 0.01, 0.1, 1.0)
    ]
    assert values == sorted(values)
    # One voice in both outputs: SI-SNR would call that perfect.
    assert values[-1] > values[0] + 14


def test_all_silent_is_measured_against_the_mixture(loss):
    target = torch.zeros(1, 400, 2)
    noise = voices(1, 400, 1)
    estimate = noise.expand(-1, -1, 2) * math.sqrt(0.5)
    given = functools.partial(loss, mixture=noise.squeeze(2))
    quiet = torch.zeros(1, 400, 2)
    assert float(given(target, quiet)) == pytest.approx(-30, abs=1e-5)
    # Both outputs together are as loud as the mixture, each one 3 dB below.
    expected = dB(1 + 1e-3) if loss is LOSSES[0] else dB(0.5 + 1e-3)
    assert float(given(target, estimate)) == pytest.approx(expected, abs=1e-5)
    # The gradient leads to silence; it is the same without a mixture, but
    # for what the threshold takes of it.
    estimate = estimate.requires_grad_()
    for objective in (given, loss):
        (slope,) = torch.autograd.grad(objective(target, estimate), estimate)
        cosine = torch.nn.functional.cosine_similarity(
            slope.flatten(), estimate.detach().flatten(), dim=0
        )
        assert float(cosine) == pytest.approx(1, abs=1e-5)
        assert slope.isfinite().all()
    assert float(loss(target, quiet)) == pytest.approx(-30, abs=1e-5)


@pytest.mark.parametrize("num_sources", [1, 2, 3, 4])
def test_the_assignment_is_the_best_of_all(loss, num_sources):
    target = voices(4, 200, num_sources, seed=1)
    target[0, :, 0] = 0
    estimate = target + voices(4, 200, num_sources, seed=2)
    estimate = estimate.flip(-1)
    value = loss(target, estimate)
    # The loss of one order: sources laid end to end cannot be exchanged,
    # so each is given alone.
    mixture = target.sum(2)
    orders = []
    for order in itertools.permutations(range(num_sources)):
        if loss is LOSSES[0]:
            one = loss(
                target.transpose(1, 2).reshape(4, -1, 1),
                estimate[..., order].transpose(1, 2).reshape(4, -1, 1),
            )
        else:
            one = torch.stack(
                [
                    loss(
                        target[..., s : s + 1],
                        estimate[..., e : e + 1],
                        mixture=mixture,
                    )
                    for s, e in enumerate(order)
                ]
            ).mean(0)
        orders.append(one)
    best = torch.stack(orders).min(0).values
    # float32 sums in another order
    torch.testing.assert_close(value, best, atol=1e-4, rtol=0)


def test_padding_counts_for_nothing(loss):
    num_frames = [400, 133, 250]
    lengths = torch.tensor(num_frames) / 400
    target, estimate = voices(3, seed=1), voices(3, seed=2)
    target[1, :, 0] = 0
    target[2] = 0
    mixture = target.sum(2) + voices(3, seed=3)[..., 0]
    for item, n in enumerate(num_frames):
        target[item, n:] = 1e3
        estimate[item, n:] = math.nan
        mixture[item, n:] = math.inf
    estimate.requires_grad_()
    values = loss(target, estimate, lengths=lengths, mixture=mixture)
    values.sum().backward()
    for item, n in enumerate(num_frames):
        whole = estimate.detach()[item : item + 1, :n].requires_grad_()
        alone = loss(
            target[item : item + 1, :n],
            whole,
            mixture=mixture[item : item + 1, :n],
        )
        alone.sum().backward()
        # masked and plain float32 sums group their terms differently
        torch.testing.assert_close(values[item], alone[0], atol=1e-4, rtol=0)
        torch.testing.assert_close(
            estimate.grad[item, :n], whole.grad[0], atol=1e-6, rtol=1e-4
        )
        assert (estimate.grad[item, n:] == 0).all()


def test_gradient_is_the_derivative(loss):
    target = voices(3, 30, dtype=torch.float64)
    target[1, :, 0] = 0
    target[2] = 0
    mixture = voices(3, 30, 1, seed=3, dtype=torch.float64).squeeze(2)
    estimate = voices(3, 30, seed=7, dtype=torch.float64)
    lengths = torch.tensor([1.0, 0.6, 0.9])
    assert torch.autograd.gradcheck(
        lambda x: loss(target, x, lengths=lengths, mixture=mixture),
        estimate.requires_grad_(),
    )


@pytest.mark.parametrize("level", [1e-30, 1e-12, 1e-6, 1.0, 1e6])
@pytest.mark.parametrize("num_frames", [1, 2, 100])
def test_no_level_and_no_length_gives_nan_in_loss_or_gradient(
    loss, level, num_frames
):
    signals = {
        "noise": voices(1, num_frames, 2) * level,
        "zero": torch.zeros(1, num_frames, 2),
        "constant": torch.full((1, num_frames, 2), level),
        "half silent": voices(1, num_frames, 2) * torch.tensor([level, 0.0]),
    }
    for target, estimate in itertools.product(signals.values(), repeat=2):
        estimate = estimate.clone().requires_grad_()
        value = loss(target, estimate)
        value.sum().backward()
        assert value.isfinite().all()
        assert estimate.grad.isfinite().all()


def test_the_level_does_not_matter(loss):
    target, estimate = voices(), voices(seed=1)
    target[0, :, 1] = 0
    value = loss(target, estimate)
    # a power of two changes no digit but those of the logarithm's argument
    torch.testing.assert_close(
        loss(target / 64, estimate / 64), value, atol=1e-5, rtol=0
    )


def test_nan_is_not_hidden(loss):
    for where in ("estimate", "target"):
        signals = {"target": voices(), "estimate": voices(seed=1)}
        signals[where][0, 3, 0] = math.nan
        assert loss(**signals).isnan().tolist() == [True, False]


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(loss, kind):
    target = (100 * voices(1, 20000)).to(kind)  # energy beyond float16
    estimate = target + (10 * voices(1, 20000, seed=1)).to(kind)
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(target, estimate.flip(-1))
    assert value.dtype == torch.float32
    # the same inputs, in float64: only the rounding of float32 differs
    expected = loss(target.double(), estimate.double())
    torch.testing.assert_close(value.double(), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("max_sdr_db", [0.0, -30.0, math.inf, math.nan])
def test_what_cannot_work_is_refused(loss, max_sdr_db):
    with pytest.raises(InputError, match=f"max_sdr_db .* got {max_sdr_db}"):
        loss(voices(), voices(), max_sdr_db=max_sdr_db)
    with pytest.raises(InputError, match=r"\(2, 400, 2\).*\(2, 300, 2\)"):
        loss(voices(num_frames=300), voices())
    with pytest.raises(InputError, match="lengths"):
        loss(voices(), voices(), lengths=torch.ones(3))
    with pytest.raises(InputError, match="mixture"):
        loss(voices(), voices(), mixture=voices())
