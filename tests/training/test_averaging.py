"""The average of the weights: what it is, where it is used, that it lasts."""

import copy
import functools
import os

import pytest
import speechbrain as sb
import torch
from hyperpyyaml import load_hyperpyyaml
from small_brain import (
    losses_of,
    make_brain,
    make_dataset,
    make_items,
    s4m,
    sepformer,
)
from small_model import MODULES, NETWORK
from speechbrain.dataio.batch import PaddedBatch

from s4m_sb.errors import InputError
from s4m_sb.inference.interface import S4MSeparation
from s4m_sb.pretrained.model import load_pretrained
from s4m_sb.training.averaging import WeightAverage
from s4m_sb.training.export import export_model
from s4m_sb.training.summary import about_test

DECAY = 0.4  # reached by (1 + n) / (10 + n) at n = 5
SGD = functools.partial(torch.optim.SGD, lr=0.1)
EPOCHS, BATCHES = 2, 4


def state_of(modules):
    return {k: v.clone() for k, v in modules.state_dict().items()}


def equal(one, other):
    return list(one) == list(other) and all(
        torch.equal(value, other[key]) for key, value in one.items()
    )


def recursion(history, decay):
    """The average after each update, in float64, as the equation has it."""
    average, averages = {}, []
    for n, weights in enumerate(history):
        d = 0.0 if n == 0 else min(decay, (1 + n) / (10 + n))
        average = {
            key: d * average.get(key, 0) + (1 - d) * value.double()
            for key, value in weights.items()
        }
        averages.append(average)
    return averages


def close(averaged, expected):
    for key, value in expected.items():
        torch.testing.assert_close(
            averaged[key].double(),
            value,
            rtol=1e-6,  # float32, some ten roundings
            atol=1e-7,
        )


def fit(brain, data=None, **loader):
    data = data or make_dataset(make_items([400] * BATCHES))
    brain.fit(
        brain.hparams.epoch_counter,
        data,
        data,
        train_loader_kwargs={"batch_size": 1, **loader},
    )
    return brain


def recorded(brain):
    """The weights after each update that the brain is going to make."""
    history = []
    step = brain.optimizers_step

    def step_and_record():
        step()
        history.append(state_of(brain.modules))

    brain.optimizers_step = step_and_record
    return history


def averaging(folder, modules=None, **hparams):
    hparams = {"ema_decay": DECAY, "optimizer": SGD, **hparams}
    return make_brain(folder, modules, N_epochs=EPOCHS, **hparams)


@pytest.mark.parametrize("decay", [0.05, 0.4, 0.999])
def test_the_average_follows_its_equation(decay):
    modules = torch.nn.ModuleDict(s4m())
    modules["norm"] = torch.nn.BatchNorm1d(3)  # has buffers, one of integers
    average = WeightAverage(modules, decay)
    history = []
    for number in range(12):
        with torch.no_grad():
            for parameter in modules.parameters():
                parameter.add_(torch.randn_like(parameter))
        modules["norm"](torch.randn(4, 3) + number)
        average.update()
        history.append(state_of(modules))
    expected = recursion(history, decay)[-1]
    for key, buffer in modules.named_buffers():
        assert torch.equal(average.modules.state_dict()[key], buffer), key
        del expected[key]
    close(average.modules.state_dict(), expected)


@pytest.mark.parametrize("decay", [0, 1, 1.5, -0.1, float("nan")])
def test_decays_out_of_range_are_refused(tmp_path, decay):
    with pytest.raises(InputError, match=f"ema_decay is {decay}; give"):
        averaging(tmp_path, ema_decay=decay)


@pytest.mark.parametrize("network", [s4m, sepformer])
def test_checkpoints_hold_the_average_as_the_model(tmp_path, network):
    brain = averaging(tmp_path, network())
    history = recorded(brain)
    fit(brain)
    assert len(history) == EPOCHS * BATCHES
    best = brain.checkpointer.find_checkpoint(min_key="si-snr")
    expected = recursion(history, DECAY)[
        best.meta["epoch"] * BATCHES - 1  # updates so far
    ]
    for name in ("encoder", "masknet", "decoder"):
        close(
            torch.load(best.path / f"{name}.ckpt"),
            {
                key.removeprefix(f"{name}."): value
                for key, value in expected.items()
                if key.startswith(f"{name}.")
            },
        )
    kept = torch.load(best.path / "training_weights.ckpt")
    assert equal(kept["weights"], history[best.meta["epoch"] * BATCHES - 1])


def test_training_is_the_same_with_and_without(tmp_path):
    modules = s4m()
    ends, files = [], []
    for decay in (None, DECAY):
        brain = averaging(
            tmp_path / str(decay), copy.deepcopy(modules), ema_decay=decay
        )
        ends.append(state_of(fit(brain).modules))
        files.append(set(os.listdir(brain.checkpointer.find_checkpoint().path)))
    assert equal(*ends)
    assert files[1] - files[0] == {"training_weights.ckpt"}
    assert files[0] <= files[1]


def test_validation_and_test_use_the_average(tmp_path):
    brain = averaging(tmp_path)
    history = recorded(brain)
    data = make_dataset(make_items([400] * BATCHES))
    fit(brain, data)
    batch = PaddedBatch(make_items([400] * BATCHES))
    for stage in (sb.Stage.VALID, sb.Stage.TEST):
        losses = {}
        for name, weights in {
            "average": recursion(history, DECAY)[-1],
            "last": history[-1],
        }.items():
            plain = make_brain(tmp_path / name)
            plain.modules.load_state_dict(weights)
            plain.modules.eval()
            with torch.no_grad():
                separated = plain.compute_forward(batch, stage)
                losses[name] = float(losses_of(plain, separated).mean())
        # dB; the average is compared with its float64 twin, rounded
        assert losses["average"] != pytest.approx(losses["last"], abs=1e-3)
        with torch.no_grad():
            separated = brain.compute_forward(batch, stage)
        assert float(losses_of(brain, separated).mean()) == pytest.approx(
            losses["average"], abs=1e-3
        )
    last = brain.checkpointer.find_checkpoint()
    assert last.meta["si-snr"] == pytest.approx(losses["average"], abs=1e-3)
    # Training goes on from the weights themselves.
    with torch.no_grad():
        training = brain.compute_forward(batch, sb.Stage.TRAIN)
    assert float(losses_of(brain, training).mean()) == pytest.approx(
        losses["last"], abs=1e-4
    )


class Killed(Exception):
    """Stands for the end of a process."""


@pytest.mark.parametrize("updates", [1, 2, 4, 5, 7])
def test_a_resumed_training_equals_one_that_ran_through(tmp_path, updates):
    modules = s4m()
    optimizer = functools.partial(torch.optim.Adam, lr=1e-2)

    def brain_in(name):
        torch.manual_seed(len(name))  # another process
        return averaging(
            tmp_path / name,
            copy.deepcopy(modules),
            optimizer=optimizer,
            seed=7,
            run_opts={"ckpt_interval_steps": 1},
        )

    through = fit(brain_in("through"))
    stopped = brain_in("stopped")
    step, left = stopped.optimizers_step, updates

    def step_until_killed():
        nonlocal left
        if left == 0:
            raise Killed
        left -= 1
        step()

    stopped.optimizers_step = step_until_killed
    with pytest.raises(Killed):
        fit(stopped)
    resumed = fit(brain_in("stopped"))
    assert resumed.optimizer_step == through.optimizer_step == EPOCHS * BATCHES
    assert equal(state_of(resumed.modules), state_of(through.modules))
    assert equal(
        state_of(resumed._average.modules), state_of(through._average.modules)
    )
    assert not equal(
        state_of(resumed.modules), state_of(resumed._average.modules)
    )


def test_the_exported_model_is_the_average(tmp_path):
    yaml = NETWORK.format(num_spks=2) + MODULES
    modules = load_hyperpyyaml(yaml)["modules"]
    results = tmp_path / "results"
    results.mkdir()
    (results / "hyperparams.yaml").write_text(yaml)
    brain = averaging(results, modules)
    history = recorded(brain)
    fit(brain)
    best = brain.checkpointer.find_checkpoint(min_key="si-snr")
    expected = recursion(history, DECAY)[best.meta["epoch"] * BATCHES - 1]
    folder = export_model(results, tmp_path / "model")
    model = S4MSeparation.from_hparams(source=str(folder))
    close(model.mods.state_dict(), expected)
    # It can be trained further.
    again = load_hyperpyyaml(yaml)["modules"]
    load_pretrained(folder, again)
    assert equal(state_of(torch.nn.ModuleDict(again)), state_of(model.mods))


def test_a_test_without_training_rates_the_model_given(tmp_path):
    items = make_items([500] * 3)
    modules = s4m()
    losses = []
    for decay in (None, DECAY):
        brain = averaging(
            tmp_path / str(decay), copy.deepcopy(modules), ema_decay=decay
        )
        brain.checkpointer = None  # these modules as they are
        losses.append(brain.evaluate(make_dataset(items)))
    assert losses[0] == losses[1]


def test_averaging_may_begin_and_end_with_a_new_start(tmp_path):
    def brain_of(epochs, decay):
        return make_brain(
            tmp_path, N_epochs=epochs, ema_decay=decay, optimizer=SGD
        )

    first = fit(brain_of(1, None))
    begun = brain_of(2, DECAY)
    begun.on_fit_start()
    for modules in (begun.modules, begun._average.modules):
        assert equal(state_of(modules), state_of(first.modules))
    begun = brain_of(2, DECAY)
    history = recorded(begun)
    fit(begun)
    assert len(history) == BATCHES
    close(begun._average.modules.state_dict(), recursion(history, DECAY)[-1])
    # Without an average the model is what there is to go on from.
    ended = brain_of(3, None)
    ended.on_fit_start()
    assert equal(state_of(ended.modules), state_of(begun._average.modules))


def test_the_summary_names_the_decay(tmp_path):
    def about(brain):
        return about_test(brain.hparams, brain.modules, 1, "cpu", "fp32")

    assert "ema_decay" not in about(make_brain(tmp_path / "off"))
    assert about(averaging(tmp_path / "on"))["ema_decay"] == DECAY
