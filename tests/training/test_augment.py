"""Shifts and segments know where each item ends; mixtures stay sums."""

import pytest
import torch
from small_brain import AUGMENTATIONS, make_brain, make_items, time_domain
from speechbrain.dataio.batch import PaddedBatch

from s4m_sb.errors import InputError
from s4m_sb.training.augment import (
    augment,
    change_speed,
    fit_noise,
    random_segment,
    random_shift,
)

B, T, S = 6, 50, 2


@pytest.fixture
def targets():
    """Samples that are all different and padding of zeros, and lengths."""
    samples = torch.tensor([50, 1, 2, 30, 49, 7])
    values = torch.arange(1.0, B * T * S + 1).view(B, T, S)
    frame = torch.arange(T)[None, :, None]
    return values.masked_fill(frame >= samples[:, None, None], 0), samples


def test_a_shift_rotates_each_source_within_its_length(targets):
    signals, samples = targets
    shifted = random_shift(signals, samples, -60, 60)
    shifts = set()
    for before, after, length in zip(signals, shifted, samples, strict=True):
        assert not after[length:].any()
        for source in range(S):
            start = int(after[0, source] - before[0, source]) // S
            shifts.add((int(length), source, start))
            torch.testing.assert_close(
                after[:length, source],
                before[:length, source].roll(-start),
                rtol=0,
                atol=0,
            )
    assert len({start for _, _, start in shifts}) > 3  # each its own


@pytest.mark.parametrize("shift", [-3, 0, 4, 53])
def test_a_shift_goes_forward_in_time(shift):
    signal = torch.arange(10.0).view(1, 10, 1)
    shifted = random_shift(signal, torch.tensor([10]), shift, shift + 1)
    assert torch.equal(shifted, signal.roll(shift, dims=1))


def test_bounds_of_a_shift():
    signal = torch.arange(100.0).view(1, 100, 1)
    starts = {
        int(random_shift(signal, torch.tensor([100]), -2, 3)[0, 0, 0])
        for _ in range(100)
    }
    assert starts == {0, 1, 2, 98, 99}
    with pytest.raises(InputError, match="min_shift .* got 5 and 5"):
        random_shift(signal, torch.tensor([100]), 5, 5)


def test_a_segment_is_a_piece_of_each_item(targets):
    signals, samples = targets
    for _ in range(20):
        cut, lengths = random_segment(signals, samples, 20)
        assert cut.shape == (B, 20, S)
        assert lengths.tolist() == [min(20, n) for n in samples.tolist()]
        for before, after, length in zip(signals, cut, lengths, strict=True):
            start = int(after[0, 0] - before[0, 0]) // S
            assert torch.equal(
                after[:length], before[start : start + int(length)]
            )
            assert after[:length].all()  # no padding in it


def test_every_start_is_drawn():
    signal = torch.arange(8.0).view(1, 8, 1)
    starts = {
        int(random_segment(signal, torch.tensor([8]), 5)[0][0, 0, 0])
        for _ in range(100)
    }
    assert starts == {0, 1, 2, 3}


def test_a_segment_longer_than_all_items_changes_nothing(targets):
    signals, samples = targets
    cut, lengths = random_segment(signals, samples, 1000)
    assert torch.equal(cut, signals)
    assert torch.equal(lengths, samples)


def test_an_empty_segment_is_refused(targets):
    with pytest.raises(InputError, match="training_signal_len .* got 0"):
        random_segment(*targets, 0)


def test_one_seed_governs_both(targets):
    def draw():
        torch.manual_seed(3)
        return random_shift(*targets, -9, 9), random_segment(*targets, 9)[0]

    first, again = draw(), draw()
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])


def test_each_source_has_its_own_speed_and_all_one_length():
    target = torch.randn(2, 100, 2)
    lengths = iter((90, 110))
    changed = change_speed(target, lambda x: x.new_ones(2, next(lengths)))
    assert changed.shape == (2, 90, 2)


def test_views_of_a_source_change_alike():
    views = torch.stack([torch.randn(2, 100, 3), torch.randn(2, 100, 3)])
    samples = torch.tensor([100, 60])
    torch.manual_seed(0)
    shifted = random_shift(views, samples, -50, 50)
    for view, given in zip(shifted, views, strict=True):
        torch.manual_seed(0)
        assert torch.equal(view, random_shift(given, samples, -50, 50))
    speeds = iter((0.5, 2.0, 1.0))

    def speed_perturb(signal):  # [B, T], another speed at every call
        speed = next(speeds)
        index = (torch.arange(int(100 / speed)) * speed).long()
        return signal[:, index]

    changed = change_speed(views, speed_perturb)
    assert changed.shape == (2, 2, 50, 3)  # as long as the fastest, speed 2
    assert torch.equal(changed[..., 1], views[:, :, ::2, 1])
    assert torch.equal(changed[..., 2], views[:, :, :50, 2])


@pytest.mark.parametrize("num_frames", [1, 6, 7, 40])
def test_noise_is_cut_or_repeated_within_its_length(num_frames):
    noise, samples = torch.randn(3, 7), torch.tensor([7, 3, 1])
    fitted = fit_noise(noise, samples, num_frames)
    for item, given, length in zip(fitted, noise, samples, strict=True):
        periods = given[:length].repeat(num_frames)
        assert torch.equal(item, periods[:num_frames])


# ------------------------------------------------- as the YAML says


def views_of(batch, num_spks=2):
    """The targets, which are the images too."""
    signals = [batch[f"s{i + 1}_sig"].data for i in range(num_spks)]
    return torch.stack(signals, dim=-1)[None]  # [1, B, T, S]


@pytest.mark.parametrize("num_spks", [2, 3])
@pytest.mark.parametrize("kind", AUGMENTATIONS)
def test_a_mixture_stays_the_sum_of_its_targets(tmp_path, kind, num_spks):
    brain = make_brain(tmp_path, num_spks=num_spks, **AUGMENTATIONS[kind])
    items = make_items([800, 300, 517], num_spks)
    for _ in range(5):
        batch = PaddedBatch(items)
        before = (
            batch.mix_sig.data,
            views_of(batch, num_spks),
            batch.mix_sig.lengths,
        )
        mixture, (target,), lengths = augment(brain.hparams, *before)
        B, T, S = target.shape
        assert (B, S) == (3, num_spks)
        assert mixture.shape == (B, T)
        # float32 sums of numbers up to about 10
        torch.testing.assert_close(mixture, target.sum(-1), rtol=0, atol=2e-6)
        samples = (lengths * T).round().long().tolist()
        assert max(samples) == T
        if kind == "shift":
            assert samples == [800, 300, 517]
            for source, shifted in zip(
                before[1][0].unbind(-1), target.unbind(-1), strict=True
            ):
                assert torch.equal(
                    source.sort(1).values, shifted.sort(1).values
                )
        elif kind == "cut":
            assert samples == [350, 300, 350]
        elif kind == "speed":
            # At 90 % a signal is longer by 1/0.9, at 110 % shorter.
            assert 800 / 1.1 - 1 <= T <= 800 / 0.9 + 1
            for length, n in zip([800, 300, 517], samples, strict=True):
                assert n == pytest.approx(length * T / 800, abs=1)


def test_no_augmentation_changes_nothing(tmp_path):
    brain = make_brain(tmp_path)
    batch = PaddedBatch(make_items([800, 300]))
    mixture, same, lengths = augment(
        brain.hparams,
        batch.mix_sig.data,
        views_of(batch),
        batch.mix_sig.lengths,
    )
    assert torch.equal(mixture, batch.mix_sig.data)
    assert torch.equal(same, views_of(batch))
    assert torch.equal(lengths, batch.mix_sig.lengths)


@pytest.mark.parametrize("kind", ["speed", "shift"])
def test_noise_is_fitted_to_the_speech(tmp_path, kind):
    # Whether the speech gets longer or shorter: the noise follows.
    brain = make_brain(tmp_path, **AUGMENTATIONS[kind])
    batch = PaddedBatch(make_items([800, 300]))
    noise = torch.randn(2, 800)
    durations = set()
    for _ in range(10):
        mixture, (target,), lengths = augment(
            brain.hparams,
            batch.mix_sig.data + noise,
            views_of(batch),
            batch.mix_sig.lengths,
        )
        T = mixture.shape[1]
        durations.add(T)
        for i, length in enumerate((800, 300)):
            valid = round(float(lengths[i]) * T)
            fitted = noise[i, torch.arange(valid) % length]
            torch.testing.assert_close(
                (mixture - target.sum(-1))[i, :valid],
                fitted,
                rtol=0,
                atol=1e-5,  # float32 sums of numbers up to about 10
            )
    assert kind == "shift" or (min(durations) < 800 < max(durations))


@pytest.mark.parametrize("kind", AUGMENTATIONS)
def test_target_and_image_change_alike(tmp_path, kind):
    # The mixture holds the images, the loss compares with other targets.
    brain = make_brain(tmp_path, **AUGMENTATIONS[kind])
    target = 0.1 * torch.randn(2, 800, 2)
    noise = 0.1 * torch.randn(2, 800)
    for _ in range(5):
        mixture, sources, _ = augment(
            brain.hparams,
            (3 * target).sum(-1) + noise,
            torch.stack([target, 3 * target]),
            torch.ones(2),
        )
        # float32; resampling is linear
        torch.testing.assert_close(
            3 * sources[0], sources[1], rtol=0, atol=1e-6
        )
        if kind != "cut" and kind != "all":
            T = mixture.shape[1]
            torch.testing.assert_close(
                mixture,
                sources[1].sum(-1) + noise[:, torch.arange(T) % 800],
                rtol=0,
                atol=1e-6,  # float32 sums of numbers below 3
            )


def test_drops_change_the_mixture_alone(tmp_path):
    brain = make_brain(
        tmp_path,
        use_wavedrop=True,
        drop_freq=time_domain.DropFreq(),
        drop_chunk=time_domain.DropChunk(
            drop_length_low=50, drop_length_high=60
        ),
    )
    batch = PaddedBatch(make_items([800, 500]))
    mixture, same, lengths = augment(
        brain.hparams,
        batch.mix_sig.data,
        views_of(batch),
        batch.mix_sig.lengths,
    )
    assert torch.equal(same, views_of(batch))
    assert mixture.shape == batch.mix_sig.data.shape
    assert not torch.allclose(mixture, batch.mix_sig.data)
