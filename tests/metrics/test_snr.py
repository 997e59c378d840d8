"""Metrics on signals whose true value is known."""

import builtins
import itertools
import math

import pytest
import torch
from speechbrain.nnet.losses import get_si_snr_with_pitwrapper

from s4m_sb import metrics
from s4m_sb.errors import InputError


def voices(num_items=2, num_frames=400, num_sources=2, seed=0, **kind):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(
        num_items, num_frames, num_sources, generator=generator, **kind
    )


def noise_orthogonal_to(target, level_db):
    """Noise of an exact level: mean-free, orthogonal to mean-free target."""
    target = target - target.mean(1, keepdim=True)
    noise = voices(*target.shape, seed=99, dtype=target.dtype)
    noise = noise - noise.mean(1, keepdim=True)
    along = (noise * target).sum(1, keepdim=True)
    noise = noise - along / target.square().sum(1, keepdim=True) * target
    loudness = target.norm(dim=1, keepdim=True) / noise.norm(
        dim=1, keepdim=True
    )
    return 10 ** (-level_db / 20) * loudness * noise


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


@pytest.mark.parametrize("num_sources", [1, 2, 3, 5])
def test_best_permutation_is_the_best_of_all(num_sources):
    scores = 10 * voices(20, num_sources, num_sources, seed=3)
    chosen = metrics.best_permutation(scores)
    targets = range(num_sources)
    for item in range(20):
        best = max(
            itertools.permutations(targets),
            key=lambda p: sum(float(scores[item, p[j], j]) for j in targets),
        )
        assert chosen[item].tolist() == list(best)


def test_many_speakers_agree_with_the_hungarian_method():
    from scipy.optimize import linear_sum_assignment

    scores = voices(4, 10, 10, seed=4)
    chosen = metrics.best_permutation(scores)
    for item in range(4):
        _, expected = linear_sum_assignment(
            scores[item].T.numpy(), maximize=True
        )
        assert chosen[item].tolist() == expected.tolist()


def test_every_permutation_of_eight_is_found_and_undone():
    target = voices(3, 300, 8)
    generator = torch.Generator().manual_seed(5)
    shuffles = [torch.randperm(8, generator=generator) for _ in range(3)]
    estimate = torch.stack([target[i][:, p] for i, p in enumerate(shuffles)])
    values, permutation = metrics.pit_si_snr(estimate, target)
    assert torch.equal(metrics.reorder(estimate, permutation), target)
    assert (values > 80).all()


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


def test_shapes_that_do_not_fit_are_named():
    with pytest.raises(InputError, match=r"\(2, 400, 2\).*\(2, 300, 2\)"):
        metrics.si_snr(estimate=voices(), target=voices(num_frames=300))
    with pytest.raises(InputError, match="lengths"):
        metrics.si_snr(voices(), voices(), torch.ones(3))
    with pytest.raises(InputError, match="mixture"):
        metrics.si_snr_i(voices(), voices(), voices())


def speech_like(num_frames=16000, num_sources=1, seed=0):
    """Noise in bursts of changing colour, which PESQ and STOI accept."""
    noise = voices(1, num_frames, num_sources, seed=seed)
    coloured = noise + 0.9 * noise.roll(1, 1) + 0.8 * noise.roll(2, 1)
    time = torch.arange(num_frames).view(1, -1, 1) / 8000
    return 0.1 * coloured * (1 + torch.sin(2 * math.pi * 4 * time)) ** 2


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


@pytest.mark.parametrize("name", ["pesq", "stoi"])
@pytest.mark.parametrize("sample_rate", [8000, 16000])
def test_perceptual_metrics_fall_with_noise(name, sample_rate):
    for library in ("torchmetrics", name if name == "pesq" else "pystoi"):
        pytest.importorskip(library)
    metric = getattr(metrics, name)
    target = speech_like(num_frames=3 * sample_rate)
    noise = 0.3 * voices(1, 3 * sample_rate, 1, seed=3)
    values = [
        float(metric(target + gain * noise, target, sample_rate))
        for gain in (0, 0.1, 1)
    ]
    assert values[0] > values[1] > values[2]
    if name == "stoi":
        assert values[0] == pytest.approx(1.0, abs=1e-4)
    silent = metric(target, torch.zeros_like(target), sample_rate)
    assert silent.isnan().all()


def test_perceptual_metrics_refuse_or_leave_out_what_they_cannot_rate():
    for library in ("torchmetrics", "pesq", "pystoi"):
        pytest.importorskip(library)
    with pytest.raises(InputError, match="44100"):
        metrics.pesq(voices(), voices(), sample_rate=44100)
    short = voices(1, 400, 1)
    assert metrics.stoi(short, short, sample_rate=8000).isnan().all()
    assert metrics.pesq(short, short, sample_rate=8000).isnan().all()


@pytest.mark.parametrize("sample_rate", [8000, 16000])
def test_pesq_of_an_estimate_that_is_no_speech(sample_rate):
    for library in ("torchmetrics", "pesq"):
        pytest.importorskip(library)
    target = speech_like(num_frames=sample_rate, num_sources=3)
    estimate = target.clone()
    estimate[..., 0] = 0
    estimate[0, 5, 1] = math.nan
    estimate[..., 2] *= 1e-12  # PESQ has a level of its own
    values = metrics.pesq(estimate, target, sample_rate)[0]
    assert values[0] == metrics.WORST_PESQ
    assert values[1].isnan()
    assert values[2] > 4.5


def test_pesq_rates_long_signals_in_pieces():
    # In one go the library writes behind its arrays: it has room for 50
    # bursts of speech.
    for library in ("torchmetrics", "pesq"):
        pytest.importorskip(library)
    burst = torch.cat([speech_like(4800), torch.zeros(1, 3200, 1)], dim=1)
    target = burst.repeat(1, 90, 1)  # 90 s at 8 kHz
    estimate = target + 0.03 * voices(*target.shape, seed=3)
    value = metrics.pesq(estimate, target, sample_rate=8000)
    pieces = [
        metrics.pesq(estimate[:, part], target[:, part], sample_rate=8000)
        for part in (slice(240000), slice(240000, 480000), slice(480000, None))
    ]
    assert float(value) == pytest.approx(
        float(torch.cat(pieces).mean()),
        abs=1e-6,  # float32
    )
    pause = torch.zeros(1, 240000, 1)  # a piece without speech
    shorter = metrics.pesq(
        torch.cat([estimate[:, :240000], pause], dim=1),
        torch.cat([target[:, :240000], pause], dim=1),
        sample_rate=8000,
    )
    assert torch.equal(shorter, pieces[0])


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
