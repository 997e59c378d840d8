"""Metrics on signals whose true value is known."""

import itertools
import math

import pytest
import torch
from known_signals import noise_orthogonal_to, voices
from speechbrain.nnet.losses import get_si_snr_with_pitwrapper

from s4m_sb import metrics


@pytest.mark.parametrize("level_db", [-20.0, 0.0, 7.5, 30.0])
def test_orthogonal_noise_of_known_power_gives_its_ratio(level_db):
    target = voices(dtype=torch.float64)
    estimate = target + noise_orthogonal_to(target, level_db)
    values = metrics.si_snr(estimate=estimate, target=target)
    # EPS = 1e-8 adds to energies of about 400 and to the ratio itself
    expected = torch.full_like(values, level_db)
    torch.testing.assert_close(values, expected, atol=1e-5, rtol=0)


def test_scale_and_offset_of_the_estimate_do_not_matter():
    target = voices()
    estimate = target + noise_orthogonal_to(target, 10.0)
    values = metrics.si_snr(estimate=estimate, target=target)
    moved = metrics.si_snr(estimate=-3.7 * estimate + 0.5, target=target)
    # float32 rounding of 400 samples, relative to values of 10 dB
    torch.testing.assert_close(moved, values, atol=1e-4, rtol=0)


@pytest.mark.parametrize("num_sources", [1, 2, 3, 4])
def test_loss_equals_speechbrain_on_full_batches(num_sources):
    target = voices(3, 1000, num_sources, seed=1)
    estimate = target + voices(3, 1000, num_sources, seed=2)
    estimate = estimate.flip(-1).requires_grad_()
    ours = metrics.pit_si_snr_loss(target, estimate)
    (gradient,) = torch.autograd.grad(ours.sum(), estimate)
    theirs = get_si_snr_with_pitwrapper(target, 1 * estimate)
    (expected,) = torch.autograd.grad(theirs.sum(), estimate)
    # the same sums over 1000 float32 samples in another order
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)
    torch.testing.assert_close(gradient, expected, atol=1e-6, rtol=1e-4)


def test_pairwise_is_si_snr_of_each_pair():
    target, estimate = voices(num_sources=3), voices(num_sources=3, seed=6)
    pairs = metrics.pairwise_si_snr(estimate=estimate, target=target)
    for i, j in itertools.product(range(3), range(3)):
        one = metrics.si_snr(
            estimate=estimate[..., i : i + 1], target=target[..., j : j + 1]
        )
        # float32 sums in another order
        torch.testing.assert_close(pairs[:, i, j], one[:, 0], atol=1e-4, rtol=0)


def test_gradient_is_the_derivative():
    target = voices(2, 30, 2, dtype=torch.float64)
    estimate = voices(2, 30, 2, seed=7, dtype=torch.float64)
    lengths = torch.tensor([1.0, 0.6])
    target[1, :, 0] = 0  # a silent target among active ones
    assert torch.autograd.gradcheck(
        lambda x: metrics.pit_si_snr_loss(target, x, lengths),
        estimate.requires_grad_(),
    )


@pytest.mark.parametrize("constant", [0.0, 1.0, -3000.1])
def test_a_silent_target_is_left_out(constant):
    target, estimate = voices(seed=1), voices(seed=2)
    target[0, :, 1] = constant
    estimate.requires_grad_()
    values, permutation = metrics.pit_si_snr(estimate, target)
    assert values.isnan().tolist() == [[False, True], [False, False]]
    assert sorted(permutation[0].tolist()) == [0, 1]
    loss = metrics.pit_si_snr_loss(target, estimate)
    pairs = metrics.pairwise_si_snr(estimate=estimate, target=target)
    # the same pair, computed on tensors of another shape
    torch.testing.assert_close(
        loss[0], -pairs[0, :, 0].max(), atol=1e-4, rtol=0
    )
    loss.sum().backward()
    assert estimate.grad.isfinite().all()
    assert (estimate.grad[0, :, permutation[0, 1]] == 0).all()


def test_no_active_target_gives_zero_loss_and_zero_gradient():
    target = torch.zeros(2, 50, 2)
    for estimate in (voices(2, 50), torch.zeros(2, 50, 2)):
        estimate.requires_grad_()
        loss = metrics.pit_si_snr_loss(target, estimate)
        loss.sum().backward()
        assert loss.tolist() == [0.0, 0.0]
        assert (estimate.grad == 0).all()


def test_a_silent_estimate_gets_the_floor_and_is_pulled_to_its_target():
    target = voices()
    estimate = torch.zeros_like(target).requires_grad_()
    loss = metrics.pit_si_snr_loss(target, estimate)
    # log10 of the float32 nearest to 1e-8
    torch.testing.assert_close(loss, torch.full((2,), 80.0), atol=1e-5, rtol=0)
    loss.sum().backward()
    assert estimate.grad.isfinite().all()
    values, permutation = metrics.pit_si_snr(estimate, target)
    assert (values < -79.99).all()
    assert permutation.tolist() == [[0, 1], [0, 1]]  # a tie changes nothing
    step = -estimate.grad
    # downhill is the target itself: 60 dB is float32's own noise floor here
    assert (metrics.si_snr(estimate=step, target=target) > 60).all()


@pytest.mark.parametrize("level", [1e-30, 1e-12, 1e-6, 1.0, 1e6])
@pytest.mark.parametrize("num_frames", [1, 2, 100])
def test_no_level_and_no_length_gives_nan_in_loss_or_gradient(
    level, num_frames
):
    signals = {
        "noise": voices(1, num_frames, 2) * level,
        "zero": torch.zeros(1, num_frames, 2),
        "constant": torch.full((1, num_frames, 2), level),
        "half silent": voices(1, num_frames, 2) * torch.tensor([level, 0.0]),
    }
    for target, estimate in itertools.product(signals.values(), repeat=2):
        estimate = estimate.clone().requires_grad_()
        loss = metrics.pit_si_snr_loss(target, estimate)
        loss.sum().backward()
        assert loss.isfinite().all()
        assert estimate.grad.isfinite().all()


def test_improvement_of_the_mixture_is_zero_and_of_known_noise_known():
    target = voices(1, 4000, 1, dtype=torch.float64)
    mixture = (target + noise_orthogonal_to(target, 3.0))[..., 0]
    estimate = target + noise_orthogonal_to(target, 18.0)
    value = metrics.si_snr_i(estimate=estimate, target=target, mixture=mixture)
    assert float(value) == pytest.approx(15.0, abs=1e-5)  # EPS in the ratio


def test_a_lone_voice_has_no_improvement_but_over_noise():
    target = voices(1, 4000, 2, dtype=torch.float64)
    target[..., 1] = 0
    estimate = target + noise_orthogonal_to(target + 1e-9, 20.0)
    for noise_db, expected in ((math.inf, math.nan), (5.0, 15.0)):
        noise = noise_orthogonal_to(target[..., :1], noise_db)
        mixture = (target[..., :1] + noise).squeeze(2)
        value = metrics.si_snr_i(
            estimate=estimate, target=target, mixture=mixture
        )[0]
        # EPS in the ratio
        assert float(value[0]) == pytest.approx(expected, abs=1e-5, nan_ok=True)
        assert value[1].isnan()


def test_sdr_forgives_a_short_delay_and_si_snr_does_not():
    pytest.importorskip("torchmetrics")
    target = voices(1, 8000)
    delayed = target.roll(20, dims=1)
    assert (metrics.sdr(estimate=delayed, target=target) > 15).all()
    assert (metrics.si_snr(estimate=delayed, target=target) < -10).all()


def test_sdr_of_white_noise_is_its_level():
    pytest.importorskip("torchmetrics")
    target = voices(1, 80000)
    estimate = target + 0.1 * voices(1, 80000, seed=8)
    value = metrics.sdr(estimate=estimate, target=target)
    # 512 taps also explain 512 / 80000 of the noise: 0.03 dB
    torch.testing.assert_close(
        value, torch.full_like(value, 20.0), atol=0.1, rtol=0
    )
    mixture = (target + voices(1, 80000, seed=9))[..., 0]
    gain = metrics.sdr_i(
        estimate=estimate[..., :1], target=target[..., :1], mixture=mixture
    )
    assert float(gain) == pytest.approx(20 - metrics.sdr(
        mixture.unsqueeze(2), target[..., :1]
    ).item(), abs=0.1)  # fmt: skip


def test_sdr_in_silence_with_lengths_and_of_the_target_itself():
    pytest.importorskip("torchmetrics")
    target, estimate = voices(3, 2000), voices(3, 2000, seed=1)
    target[0, :, 0] = 0
    estimate[1, :, 1] = 0
    estimate[2] = target[2]
    lengths = torch.tensor([1.0, 0.5, 1.0])
    estimate[1, 1000:, 0] = 1e3
    values = metrics.sdr(estimate, target, lengths)
    assert values[0].isnan().tolist() == [True, False]
    assert float(values[1, 1]) == pytest.approx(metrics.FLOOR_DB)
    alone = metrics.sdr(estimate[1:2, :1000], target[1:2, :1000])
    assert torch.equal(values[1:2], alone)
    assert (values[2] > 80).all()
    assert values[2].isfinite().all()
