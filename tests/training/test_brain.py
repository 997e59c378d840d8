"""SeparationBrain: optimizer, loss, augmentation, order of data, stages."""

import copy
import functools
import importlib
import json
import math

import pytest
import speechbrain as sb
import torch
from data_sets import draw_on_the_fly
from small_brain import (
    AUGMENTATIONS,
    losses_of,
    make_brain,
    make_dataset,
    make_items,
    s4m,
)
from small_rooms import SmallRooms
from speechbrain.dataio.batch import PaddedBatch
from speechbrain.nnet.losses import get_si_snr_with_pitwrapper
from speechbrain.nnet.schedulers import (
    InverseSquareRootScheduler,
    LinearScheduler,
    ReduceLROnPlateau,
)

from s4m_sb import metrics
from s4m_sb.errors import InputError
from s4m_sb.metrics import pit_si_snr_loss
from s4m_sb.training.brain import SeparationBrain
from s4m_sb.training.optimizer import SSM_LR_LIMIT

time_domain = importlib.import_module("speechbrain.augment.time_domain")
LOSSES = {"ours": pit_si_snr_loss, "speechbrain": get_si_snr_with_pitwrapper}
TRAIN, VALID = sb.Stage.TRAIN, sb.Stage.VALID


def gradients(brain):
    return {
        name: parameter.grad.clone()
        for name, parameter in brain.modules.named_parameters()
    }


# -------------------------------------------------------------- optimizer


@pytest.mark.parametrize(
    "scheduler",
    [InverseSquareRootScheduler(2), LinearScheduler(0.05, 0.02, 3)],
)
def test_schedulers_and_checkpoints_respect_the_limit(tmp_path, scheduler):
    data = make_dataset(make_items([400] * 4))
    brain = make_brain(tmp_path, lr=0.05, lr_scheduler=scheduler)
    brain.fit(brain.hparams.epoch_counter, data, data)
    fast, slow = brain.optimizer.param_groups
    assert fast["lr"] > SSM_LR_LIMIT
    assert slow["lr"] == SSM_LR_LIMIT

    again = make_brain(tmp_path, lr=0.09, lr_scheduler=scheduler, N_epochs=3)
    again.fit(again.hparams.epoch_counter, data, data)
    assert again.hparams.epoch_counter.current == 3
    assert again.optimizer.param_groups[0]["lr"] > SSM_LR_LIMIT
    assert again.optimizer.param_groups[1]["lr"] == SSM_LR_LIMIT


def test_the_norm_of_all_gradients_is_clipped(tmp_path):
    brain = make_brain(
        tmp_path,
        clip_grad_norm=0.5,
        optimizer=functools.partial(torch.optim.SGD, lr=1.0),
    )
    brain.init_optimizers()
    brain.optimizer.param_groups[1]["lr"] = 1.0
    before = copy.deepcopy(brain.modules.state_dict())
    for parameter in brain.modules.parameters():
        parameter.grad = torch.ones_like(parameter)
    brain.optimizers_step()
    step = [
        before[name] - value
        for name, value in brain.modules.state_dict().items()
    ]
    total = torch.cat([s.flatten() for s in step])
    # The norm is divided by itself plus 1e-6, in float32.
    assert float(total.norm()) == pytest.approx(0.5, rel=1e-4)
    assert float(total.max() - total.min()) < 1e-5  # all alike, float32


def test_negative_clipping_is_none(tmp_path):
    brain = make_brain(
        tmp_path,
        clip_grad_norm=-1,
        optimizer=functools.partial(torch.optim.SGD, lr=1.0),
    )
    brain.init_optimizers()
    weight = brain.modules.encoder.weight
    before = weight.detach().clone()
    weight.grad = torch.full_like(weight, 100.0)
    brain.optimizers_step()
    torch.testing.assert_close(before - weight, torch.full_like(weight, 100.0))


def test_accumulation_equals_one_large_batch(tmp_path):
    items = make_items([500] * 4)
    modules = s4m()
    steps = []
    for name, factor, batches in (
        ("large", 1, [items]),
        ("small", 4, [[item] for item in items]),
    ):
        brain = make_brain(
            tmp_path / name,
            copy.deepcopy(modules),
            clip_grad_norm=0.1,  # in force: the norm is larger
            optimizer=functools.partial(torch.optim.SGD, lr=0.1),
            run_opts={"grad_accumulation_factor": factor},
        )
        brain.init_optimizers()
        for batch in batches:
            brain.step += 1
            brain.fit_batch(PaddedBatch(batch))
        assert brain.optimizer_step == 1
        steps.append(brain.modules.state_dict())
    for name, value in steps[0].items():
        # float32, another order of summation
        torch.testing.assert_close(steps[1][name], value, rtol=0, atol=1e-6)
        if "weight" in name:
            assert not torch.equal(
                value, torch.nn.ModuleDict(modules).state_dict()[name]
            )


# ------------------------------------------------------------------- loss


def test_items_beyond_the_thresholds_have_no_gradient(tmp_path):
    # The losses of an untrained network stand between -30 and 60 dB.
    items = make_items([500] * 3)
    items[1]["s2_sig"] = items[1]["s1_sig"]  # easy for "one to both"
    brain = make_brain(tmp_path)
    with torch.no_grad():
        separated = brain.compute_forward(PaddedBatch(items), VALID)
        losses = losses_of(brain, separated)
    low, middle, high = losses.sort().values.tolist()
    assert low < middle < high

    def gradient_of_batch(kept, **hparams):
        for name, value in hparams.items():
            setattr(brain.hparams, name, value)
        brain.modules.zero_grad()
        separated = brain.compute_forward(PaddedBatch(items), TRAIN)
        separated.estimate.retain_grad()
        loss = brain.compute_objectives(separated, None, TRAIN)
        loss.backward()
        for item, value in enumerate(losses.tolist()):
            touched = bool(separated.estimate.grad[item].any())
            assert touched == (value in kept)
        if kept:
            assert loss.item() == pytest.approx(
                sum(kept) / len(kept),
                abs=1e-4,  # float32
            )
        else:
            assert loss.item() == 0
        return gradients(brain)

    gradient_of_batch([low, middle, high])
    gradient_of_batch([low, middle], loss_upper_lim=(middle + high) / 2)
    gradient_of_batch(
        [middle],
        threshold_byloss=True,
        threshold=(low + middle) / 2,
    )
    gradient_of_batch([middle], threshold=low)  # as SpeechBrain: not above it
    nothing = gradient_of_batch([], threshold=high)
    assert all(not gradient.any() for gradient in nothing.values())


def test_thresholds_do_not_count_outside_of_training(tmp_path):
    brain = make_brain(tmp_path, threshold_byloss=True, threshold=1000)
    batch = PaddedBatch(make_items([500] * 2))
    separated = brain.compute_forward(batch, VALID)
    assert brain.compute_objectives(separated, batch, VALID).item() != 0
    assert brain.compute_objectives(separated, batch, TRAIN).item() == 0


def test_thresholds_may_change_over_the_epochs(tmp_path):
    # A first epoch for all, a second one for none, a third one for all.
    brain = make_brain(
        tmp_path,
        N_epochs=3,
        threshold_byloss=True,
        threshold=[[1, -1000], [2, 1000], [3, -1000]],
    )
    moved = []
    step = brain.optimizers_step

    def compare_and_step():
        gradients_there = gradients(brain).values()
        moved.append(any(bool(g.any()) for g in gradients_there))
        step()

    brain.optimizers_step = compare_and_step
    data = make_dataset(make_items([400] * 2))
    brain.fit(brain.hparams.epoch_counter, data, data)
    assert moved == [True, True, False, False, True, True]
    with pytest.raises(
        InputError, match=r"loss_upper_lim is \[\[2, 10\]\]; give"
    ):
        make_brain(tmp_path, loss_upper_lim=[[2, 10]])


def test_a_masked_batch_leaves_the_parameters(tmp_path):
    brain = make_brain(
        tmp_path,
        threshold_byloss=True,
        threshold=1000,
        optimizer=functools.partial(torch.optim.SGD, lr=1.0),
    )
    brain.init_optimizers()
    before = copy.deepcopy(brain.modules.state_dict())
    brain.fit_batch(PaddedBatch(make_items([500] * 2)))
    for name, value in brain.modules.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_nan_is_counted_and_skipped(tmp_path):
    items = make_items([500] * 6)
    items[2]["mix_sig"][100] = float("nan")
    brain = make_brain(tmp_path, run_opts={"skip_nonfinite_grads": True})
    brain.fit(
        range(1, 2),
        make_dataset(items),
        train_loader_kwargs={"batch_size": 1},
    )
    assert brain.nonfinite_count == 1
    assert brain.optimizer_step == 6
    for name, parameter in brain.modules.named_parameters():
        assert parameter.isfinite().all(), name


@pytest.mark.parametrize("loss", LOSSES)
def test_padding_does_not_enter_the_loss(tmp_path, loss):
    items = make_items([800, 300, 517])
    brain = make_brain(tmp_path, loss=LOSSES[loss])
    batch = PaddedBatch(items)
    for signal in (batch.mix_sig, batch.s1_sig, batch.s2_sig):
        signal.data[1, 300:] = torch.randn(500)  # noise instead of zeros
        signal.data[2, 517:] = float("nan")
    with torch.no_grad():
        together = losses_of(brain, brain.compute_forward(batch, VALID))
        alone = [
            losses_of(
                brain,
                brain.compute_forward(PaddedBatch([item]), VALID),
            )
            for item in items
        ]
    torch.testing.assert_close(
        together,
        torch.cat(alone),
        rtol=0,
        atol=1e-4,  # dB, float32
    )


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("lengths", [[400, 400], [400, 250]])
def test_both_losses_train(tmp_path, loss, lengths):
    brain = make_brain(tmp_path, loss=LOSSES[loss])
    brain.init_optimizers()
    value = brain.fit_batch(PaddedBatch(make_items(lengths)))
    assert value.shape == ()
    assert value.isfinite()


def test_both_losses_agree(tmp_path):
    batch = PaddedBatch(make_items([700, 450, 600]))
    brain = make_brain(tmp_path)
    with torch.no_grad():
        separated = brain.compute_forward(batch, VALID)
        ours = losses_of(brain, separated)
        brain.hparams.loss = get_si_snr_with_pitwrapper
        theirs = losses_of(brain, separated)
    # dB; float32 sums over hundreds of samples, in another order
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-3)


def test_mixed_precision_trains(tmp_path):
    brain = make_brain(tmp_path, run_opts={"precision": "bf16"})
    brain.init_optimizers()
    value = brain.fit_batch(PaddedBatch(make_items([500, 300])))
    assert value.isfinite()
    for parameter in brain.modules.parameters():
        assert parameter.isfinite().all()


@pytest.mark.parametrize("num_spks, rooms", [(1, False), (2, False), (2, True)])
def test_the_mixture_heard_is_the_sum_of_the_parts_known(
    tmp_path, speech_folder, num_spks, rooms
):
    # From dynamic mixing over noise, in rooms, through every augmentation
    # but cutting, to what the network gets and the loss compares.
    speed, shift = AUGMENTATIONS["speed"], AUGMENTATIONS["shift"]
    brain = make_brain(
        tmp_path, s4m(num_spks), num_spks=num_spks, **speed, **shift
    )
    mixtures = draw_on_the_fly(
        speech_folder,
        num_mixtures=4,
        num_spks=num_spks,
        sample_rate=8000,
        segment_s=0.3,
        noise=speech_folder,  # babble
        rooms=SmallRooms(num_spks, 8000) if rooms else None,
    )
    durations = set()
    for index in range(4):
        separated = brain.compute_forward(PaddedBatch([mixtures[index]]), TRAIN)
        T = separated.mixture.shape[1]
        durations.add(T)
        noise = mixtures.draw(index).noise[torch.arange(T) % 2400]
        torch.testing.assert_close(
            separated.mixture[0],
            separated.image[0].sum(-1) + noise,
            rtol=0,
            atol=1e-6,  # float32 sums of four signals below 1
        )
        assert rooms != torch.equal(separated.image, separated.target)
    assert len(durations) > 1  # the speed did change


def test_only_training_augments(tmp_path):
    brain = make_brain(tmp_path, **AUGMENTATIONS["all"])
    batch = PaddedBatch(make_items([800, 500]))
    assert brain.compute_forward(batch, VALID).mixture.shape == (2, 800)
    separated = brain.compute_forward(batch, TRAIN)
    assert separated.mixture.shape == (2, 350)
    assert separated.estimate.shape == separated.target.shape == (2, 350, 2)


# ------------------------------------------------------------ data's order


class Recorder(SeparationBrain):
    """Notes which items it sees instead of training on them."""

    def on_fit_start(self):
        super().on_fit_start()
        self.epochs = []

    def on_stage_start(self, stage, epoch=None):
        super().on_stage_start(stage, epoch)
        self.epochs.append([])

    def fit_batch(self, batch):
        self.epochs[-1] += batch.id
        return torch.zeros(())


def recorder(folder):
    brain = make_brain(folder)
    brain.__class__ = Recorder
    return brain


def test_training_data_are_shuffled_anew_in_every_epoch(tmp_path):
    data = make_dataset(make_items([10] * 20))
    ids = list(data.data)
    brain = recorder(tmp_path / "one")
    brain.fit(range(1, 4), data, train_loader_kwargs={"batch_size": 3})
    first, second, third = brain.epochs
    assert sorted(first) == sorted(second) == sorted(third) == sorted(ids)
    assert len({tuple(order) for order in (ids, first, second, third)}) == 4
    # An order is that of its epoch, whatever came before: what was
    # interrupted goes on with the same one.
    again = recorder(tmp_path / "two")
    again.fit(range(2, 4), data, train_loader_kwargs={"batch_size": 3})
    assert again.epochs == [second, third]


def test_a_given_order_is_kept(tmp_path):
    data = make_dataset(make_items([10] * 5))
    ids = list(data.data)
    for name, train_set, options, expected in (
        ("unshuffled", data, {"shuffle": False}, ids),
        ("sampled", data, {"sampler": [3, 1]}, [ids[3], ids[1]]),
        ("loaded", sb.dataio.dataloader.make_dataloader(data), {}, ids),
    ):
        brain = recorder(tmp_path / name)
        brain.fit(range(1, 2), train_set, train_loader_kwargs=options)
        assert brain.epochs == [expected], name


def test_data_that_change_are_told_the_epoch(tmp_path):
    data = make_dataset(make_items([10] * 4))
    told = []
    data.set_epoch = told.append
    brain = recorder(tmp_path)
    brain.fit(range(3, 6), data)
    assert told == [3, 4, 5]


def test_an_interrupted_training_ends_with_the_same_parameters(tmp_path):
    data = make_dataset(make_items([600, 500, 400, 550]))
    modules = s4m()
    ends = []
    for name, stops in (("through", [3]), ("stopped", [1, 3])):
        for stop in stops:
            torch.manual_seed(stop)  # a new process
            brain = make_brain(
                tmp_path / name,
                copy.deepcopy(modules),
                N_epochs=stop,
                seed=7,
                **AUGMENTATIONS["all"],
            )
            brain.fit(
                brain.hparams.epoch_counter,
                data,
                data,
                train_loader_kwargs={"batch_size": 2},
            )
        ends.append(brain.modules.state_dict())
    for key, value in ends[0].items():
        assert torch.equal(value, ends[1][key]), key


# ----------------------------------------------------------------- stages


def test_a_padded_batch_is_evaluated_as_its_items(tmp_path):
    items = make_items([800, 300, 517, 640])
    modules = s4m()
    results = []
    for batch_size in (1, 4):
        folder = tmp_path / str(batch_size)
        brain = make_brain(folder, copy.deepcopy(modules))
        brain.checkpointer = None  # these modules as they are
        loss = brain.evaluate(
            make_dataset(items), test_loader_kwargs={"batch_size": batch_size}
        )
        rows = (folder / "test_results.csv").read_text().splitlines()
        results.append((loss, [row.split(",") for row in rows]))
    (loss_1, rows_1), (loss_4, rows_4) = results
    assert loss_1 == pytest.approx(loss_4, abs=1e-4)  # dB, float32
    columns = ["sdr", "sdr_i", "si-snr", "si-snr_i"]
    always = [*metrics.ITEM_METRICS, "overlap"]
    assert rows_1[0] == rows_4[0] == ["snt_id", *columns, *always]
    assert len(rows_1) == len(rows_4) == 6
    for row_1, row_4 in zip(rows_1[1:], rows_4[1:], strict=True):
        assert row_1[0] == row_4[0]
        # dB; SDR solves for 512 taps in float32
        assert [float(x) for x in row_1[1:5]] == pytest.approx(
            [float(x) for x in row_4[1:5]], abs=1e-2
        )
        assert row_1[5:] == row_4[5:]


def test_stages_log_means_over_items(tmp_path):
    """4 items in batches of 3 and 1: a mean over batches would differ."""
    items = make_items([500] * 4)
    brain = make_brain(tmp_path, N_epochs=1)
    data = make_dataset(items)
    loader = {"batch_size": 3}
    brain.fit(
        brain.hparams.epoch_counter,
        data,
        data,
        train_loader_kwargs=dict(loader),
        valid_loader_kwargs=dict(loader),
    )
    brain.evaluate(data, min_key="si-snr", test_loader_kwargs=dict(loader))
    with torch.no_grad():
        separated = brain.compute_forward(PaddedBatch(items), VALID)
        loss = float(losses_of(brain, separated).mean())
        improvement = float(
            pit_si_snr_loss(
                target=separated.target,
                estimate=separated.mixture[..., None].expand(-1, -1, 2),
            ).mean()
            - loss
        )
    valid, test = (tmp_path / "train_log.txt").read_text().splitlines()
    assert valid.startswith("epoch: 1, lr: 1.00e-03 - train loss: ")
    assert f"valid loss: {loss:.2f}" in valid
    assert "valid si-snr_i: " in valid
    assert test.startswith(f"Epoch loaded: 1 - test loss: {loss:.2f}")
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["si-snr"] == pytest.approx(-loss, abs=1e-4)  # float32
    assert summary["si-snr_i"] == pytest.approx(improvement, abs=1e-4)
    assert summary["num_items"] == 4
    assert summary["epoch"] == 1
    assert summary["num_parameters"] == sum(
        p.numel() for p in brain.modules.parameters()
    )
    (checkpoint,) = brain.checkpointer.list_checkpoints()
    assert checkpoint.meta["si-snr"] == pytest.approx(loss, abs=1e-4)
    assert checkpoint.meta["epoch"] == 1


def test_a_silent_reference_does_not_stop_the_evaluation(tmp_path):
    items = make_items([500] * 3)
    items[1]["s1_sig"] = items[1]["s2_sig"] = torch.zeros(500)
    items[1]["mix_sig"] = torch.zeros(500)
    brain = make_brain(tmp_path, save_audio=True)
    brain.checkpointer = None  # these modules as they are
    loss = brain.evaluate(make_dataset(items))
    assert torch.isfinite(torch.tensor(loss))
    # The silent item is in no average, that of the log included.
    summary = json.loads((tmp_path / "summary.json").read_text())
    log = (tmp_path / "train_log.txt").read_text()
    assert f"test loss: {-summary['si-snr']:.2f}" in log
    rows = (tmp_path / "test_results.csv").read_text().splitlines()
    assert rows[2] == "item1,,,,,,,,"
    assert all(rows[3].split(",")[:5])
    assert len(list((tmp_path / "save/audio_results").iterdir())) == 15


@pytest.mark.parametrize(
    "loss", [metrics.pit_sa_sdr_loss, metrics.pit_thresholded_snr_loss]
)
def test_training_and_validation_with_silent_targets(tmp_path, loss):
    items = make_items([500, 500, 300, 500])
    for item, silent in ((1, ["s1"]), (2, ["s2"]), (3, ["s1", "s2"])):
        for name in silent:
            items[item][f"{name}_sig"] = torch.zeros_like(
                items[item][f"{name}_sig"]
            )
        items[item]["mix_sig"] = (
            items[item]["s1_sig"] + items[item]["s2_sig"]
        )  # one talks alone
    data = make_dataset(items)
    brain = make_brain(tmp_path, N_epochs=1, loss=loss)
    loader = {"batch_size": 2}
    brain.fit(
        brain.hparams.epoch_counter,
        data,
        data,
        train_loader_kwargs=loader,
        valid_loader_kwargs=loader,
    )
    separated = [
        brain.compute_forward(PaddedBatch([item]), VALID) for item in items
    ]
    losses = [float(losses_of(brain, each).detach()) for each in separated]
    (checkpoint,) = brain.checkpointer.list_checkpoints()
    # The item that is all silent is in no average; the best checkpoint is
    # that of the lowest loss over all others. float32
    expected = sum(losses[:3]) / 3
    assert checkpoint.meta["si-snr"] == pytest.approx(expected, abs=1e-4)
    assert checkpoint.meta["objective"] == loss.__name__
    # Only the first item has something to improve.
    improvement = -pit_si_snr_loss(
        separated[0].target, separated[0].estimate.detach()
    ) + pit_si_snr_loss(
        separated[0].target, separated[0].mixture[..., None].expand(-1, -1, 2)
    )
    log = (tmp_path / "train_log.txt").read_text()
    assert f"valid si-snr_i: {float(improvement):.2e}" in log
    assert "nan" not in log


@pytest.mark.parametrize("takes_lengths", [True, False])
def test_a_loss_that_takes_the_mixture_gets_it(tmp_path, takes_lengths):
    seen = []

    def by_item(target, estimate, mixture):
        seen.append(mixture)
        return (estimate.square().sum(dim=(1, 2))) / mixture.square().sum(1)

    def by_batch(target, estimate, lengths=None, mixture=None):
        seen.append(mixture)
        return estimate.square().sum(dim=(1, 2))

    brain = make_brain(tmp_path, loss=by_batch if takes_lengths else by_item)
    batch = PaddedBatch(make_items([500, 300]))
    brain.compute_objectives(
        brain.compute_forward(batch, TRAIN), batch, TRAIN
    ).backward()
    expected = batch.mix_sig.data
    if takes_lengths:
        assert torch.equal(seen[0], expected)
    else:  # without the padding
        assert torch.equal(seen[0], expected[:1])
        assert torch.equal(seen[1], expected[1:, :300])


def test_tensorboard_writes_events(tmp_path):
    brain = make_brain(
        tmp_path, N_epochs=1, use_tensorboard=True, target="reverb"
    )
    data = make_dataset(make_items([400] * 2))
    brain.fit(brain.hparams.epoch_counter, data, data)
    brain.evaluate(data)
    brain._logs._loggers[1].writer.close()
    log = (tmp_path / "train_log.txt").read_text()
    assert log.count(", target: reverb - ") == 2  # beside every number
    from tensorboard.backend.event_processing import event_accumulator

    events = event_accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert {"loss/train", "loss/valid", "si-snr_i/test"} <= set(
        events.Tags()["scalars"]
    )


def test_without_tensorboard_the_key_is_refused(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(InputError, match="use_tensorboard: .* tensorboard"):
        make_brain(tmp_path, use_tensorboard=True)


def test_what_cannot_work_is_refused_at_once(tmp_path):
    modules = s4m()
    del modules["masknet"]
    with pytest.raises(InputError, match="modules: masknet missing"):
        make_brain(tmp_path, modules)
    with pytest.raises(InputError, match="test_metrics: 'snr' is unknown"):
        make_brain(tmp_path, test_metrics=["snr"])
    with pytest.raises(InputError, match="lr_scheduler: Identity"):
        make_brain(tmp_path, lr_scheduler=torch.nn.Identity())


@pytest.mark.parametrize("num_spks", [2, 3])
def test_it_learns(tmp_path, num_spks):
    """Tones of different pitch: the loss falls by decibels in few steps."""
    t = torch.arange(400) / 8000
    pitches = torch.tensor([500.0, 1500.0, 2900.0])[:num_spks]
    sources = torch.sin(2 * torch.pi * pitches[:, None] * t)
    item = {"id": "tones", "mix_sig": sources.sum(0)}
    item |= {f"s{i + 1}_sig": source for i, source in enumerate(sources)}
    brain = make_brain(tmp_path, s4m(num_spks), lr=0.02, num_spks=num_spks)
    brain.init_optimizers()
    brain.modules.train()
    losses = [float(brain.fit_batch(PaddedBatch([item]))) for _ in range(12)]
    assert losses[-1] < losses[0] - 10


def test_a_seed_below_zero_is_named(tmp_path):
    with pytest.raises(InputError, match="seed must be at least 0, got -1"):
        make_brain(tmp_path, seed=-1)


# ------------------------------------------------- numbers that are not finite


def nan_after(num_calls):
    """A loss that is NaN from some call on."""
    calls = iter(range(10**6))

    def loss(target, estimate):
        value = (target - estimate).square().mean((1, 2))
        return value * (float("nan") if next(calls) >= num_calls else 1)

    return loss


def test_a_training_gives_up_on_a_loss_that_is_not_finite(tmp_path, caplog):
    data = make_dataset(make_items([300] * 6))
    brain = make_brain(
        tmp_path, loss=nan_after(1), skip_nonfinite_grads=True, seed=1
    )
    with pytest.raises(
        InputError, match="epoch 1: the loss of item. is nan, the 4. in"
    ):
        brain.fit(brain.hparams.epoch_counter, data, data)
    assert caplog.text.count("the batch is left out") == 3
    for parameter in brain.modules.parameters():
        assert parameter.isfinite().all()
    assert not brain.checkpointer.list_checkpoints()


def test_an_epoch_without_a_finite_loss_is_no_epoch(tmp_path):
    """Fewer batches than patience: the log would say 0.0 of each epoch."""
    data = make_dataset(make_items([300] * 2))
    brain = make_brain(tmp_path, loss=nan_after(0), skip_nonfinite_grads=True)
    with pytest.raises(InputError, match="epoch 1: no batch has a finite loss"):
        brain.fit(brain.hparams.epoch_counter, data, data)
    assert not brain.checkpointer.list_checkpoints()


@pytest.mark.parametrize("clip_grad_norm", [5, -1])
def test_gradients_that_are_not_finite_do_not_spoil_the_weights(
    tmp_path, clip_grad_norm
):
    data = make_dataset(make_items([300] * 2))
    brain = make_brain(
        tmp_path, loss=nan_after(1), clip_grad_norm=clip_grad_norm
    )
    with pytest.raises(InputError, match="skip_nonfinite_grads: True leaves"):
        brain.fit(brain.hparams.epoch_counter, data, data)
    for parameter in brain.modules.parameters():
        assert parameter.isfinite().all()


@pytest.mark.parametrize("spoiled", ["voices", "loss"])
def test_what_is_not_finite_does_not_pass_for_silence(tmp_path, spoiled):
    """NaN in an average means a silent target, which is left out of it."""
    data = make_dataset(make_items([300] * 3))
    brain = make_brain(
        tmp_path, loss=nan_after(3) if spoiled == "loss" else pit_si_snr_loss
    )
    if spoiled == "voices":
        decoder = brain.modules["decoder"]
        decoder.register_forward_hook(
            lambda module, _, output: output if module.training else output / 0
        )
    with pytest.raises(InputError, match="the voices of item0, or their loss"):
        brain.fit(brain.hparams.epoch_counter, data, data)
    assert not brain.checkpointer.list_checkpoints()


# ------------------------------------------------------------ going on


def rates_of(folder, data, N_epochs, scheduler=None, **options):
    """The rate of every update of a training, begun or going on."""
    rates = []
    brain = make_brain(
        folder, N_epochs=N_epochs, lr_scheduler=scheduler, **options
    )
    step = brain.optimizers_step

    def noted():
        rates.append(brain.optimizer.param_groups[0]["lr"])
        step()

    brain.optimizers_step = noted
    brain.fit(brain.hparams.epoch_counter, data, data)
    return rates


def test_another_rate_holds_from_the_next_update_on(tmp_path):
    data = make_dataset(make_items([300]))
    assert rates_of(tmp_path, data, 2, lr=1e-3) == [1e-3] * 2
    assert rates_of(tmp_path, data, 3, lr=1e-3) == [1e-3]
    assert rates_of(tmp_path, data, 4, lr=2e-3) == [2e-3]


def test_a_lowered_rate_stays_unless_another_one_is_given(tmp_path):
    data = make_dataset(make_items([300]))

    def halves(factor=0.5):  # whatever the loss
        scheduler = ReduceLROnPlateau(factor=factor, patience=0)
        scheduler.dont_halve_until_epoch = 0
        scheduler.anchor = -math.inf
        return scheduler

    run = functools.partial(rates_of, tmp_path, data)
    assert run(2, halves(), lr=1e-3) == [1e-3, 5e-4]
    assert run(3, halves(), lr=1e-3) == [2.5e-4]
    assert run(5, halves(0.1), lr=1e-3) == pytest.approx([1.25e-4, 1.25e-5])
    assert run(6, halves(), lr=4e-3) == [4e-3]


def test_another_schedule_holds_from_the_next_update_on(tmp_path):
    data = make_dataset(make_items([300]))

    def line(first, last):
        return LinearScheduler(first, last, epoch_count=5)

    run = functools.partial(rates_of, tmp_path, data)
    assert run(2, line(5, 1), lr=5) == [5, 4]
    assert run(3, line(5, 1), lr=5) == [3]
    assert run(5, line(50, 10), lr=50) == [20, 10]


def test_other_settings_of_the_optimizer_hold_from_then_on(tmp_path):
    data = make_dataset(make_items([300]))
    for N_epochs, decay in enumerate((0.1, 0.2), start=1):
        optimizer = functools.partial(
            torch.optim.Adam, lr=1e-3, weight_decay=decay
        )
        brain = make_brain(tmp_path, N_epochs=N_epochs, optimizer=optimizer)
        brain.fit(brain.hparams.epoch_counter, data, data)
        groups = brain.optimizer.param_groups
        # The dynamics of the state-space layers have none.
        assert [group["weight_decay"] for group in groups] == [decay, 0.0]
