"""Every scheduler of SpeechBrain sets the rates, and the limits hold."""

import importlib
import inspect

import pytest
import torch

from s4m_sb.errors import InputError
from s4m_sb.training.schedule import (
    after_epoch,
    after_update,
    at_epoch,
    check_epochs,
    check_scheduler,
    limit_rates,
)

# SpeechBrain's packages import their modules lazily, this does it now.
schedulers = importlib.import_module("speechbrain.nnet.schedulers")
LR = 0.1
# What each needs so that the rate changes within 3 epochs of 4 updates.
OPTIONS = {
    "WarmAndExpDecayLRSchedule": {
        "lr": LR,
        "n_warmup_steps": 3,
        "total_steps": 9,
    },
    "NewBobScheduler": {"initial_value": LR, "improvement_threshold": 0.5},
    "LinearScheduler": {
        "initial_value": LR,
        "final_value": 0.0,
        "epoch_count": 3,
    },
    "LinearWarmupScheduler": {
        "initial_value": LR,
        "num_warmup_steps": 3,
        "num_training_steps": 12,
    },
    "StepScheduler": {
        "initial_value": LR,
        "decay_factor": 0.5,
        "decay_drop": 1,
    },
    "NoamScheduler": {"lr_initial": LR, "n_warmup_steps": 3},
    "NoamIntervalScheduler": {
        "lr_initial": LR,
        "n_warmup_steps": 3,
        "anneal_steps": [6],
        "anneal_rates": [0.5],
    },
    "LinearNoamScheduler": {
        "lr_initial": LR,
        "n_warmup_steps": 3,
        "n_keep_steps": 2,
    },
    "CyclicCosineScheduler": {
        "n_warmup_steps": 3,
        "lr_initial": LR,
        "total_steps": 12,
    },
    "ReduceLROnPlateau": {"patience": 0, "dont_halve_until_epoch": 0},
    "CyclicLRScheduler": {"base_lr": 0.01, "max_lr": LR, "step_size": 3},
    "IntervalScheduler": {"intervals": [{"steps": 5, "lr": 0.01}]},
    "InverseSquareRootScheduler": {"warmup_steps": 3},
    "WarmCoolDecayLRSchedule": {
        "lr": LR,
        "warmup": 3,
        "cooldown": 2,
        "total_steps": 12,
        "decay_every": 2,
    },
    "TriStageLRSchedule": {
        "lr": LR,
        "warmup_steps": 3,
        "hold_steps": 3,
        "decay_steps": 3,
        "total_steps": 12,
    },
}
NO_SCHEDULERS = {"ScheduledLoss"}  # it stands in the same module


def optimizer_of_two_groups():
    return torch.optim.SGD(
        [
            {"params": [torch.nn.Parameter(torch.zeros(1))]},
            {"params": [torch.nn.Parameter(torch.zeros(1))], "lr_limit": 1e-3},
        ],
        lr=LR,
    )


def test_all_of_them_are_listed():
    classes = {
        name
        for name, member in inspect.getmembers(schedulers, inspect.isclass)
        if member.__module__ == schedulers.__name__
    }
    assert classes - NO_SCHEDULERS == set(OPTIONS)


@pytest.mark.parametrize("name", OPTIONS)
def test_it_sets_the_rates(name):
    scheduler = getattr(schedulers, name)(**OPTIONS[name])
    check_scheduler(scheduler)
    optimizer = optimizer_of_two_groups()
    free, limited = optimizer.param_groups
    rates = []
    for epoch in (1, 2, 3):
        for update in range(4):
            after_update(scheduler, optimizer, 4 * (epoch - 1) + update + 1)
            limit_rates(optimizer)
            rates.append(free["lr"])
            assert limited["lr"] == min(free["lr"], 1e-3)
        after_epoch(scheduler, optimizer, epoch, valid_loss=float(epoch))
        limit_rates(optimizer)
        rates.append(free["lr"])
        assert limited["lr"] == min(free["lr"], 1e-3)
    assert len(set(rates)) > 1, rates
    assert all(0 <= rate < 10 for rate in rates)


def test_each_works_once_per_update_or_once_per_epoch():
    linear = schedulers.LinearScheduler(LR, 0.0, 3)
    optimizer = optimizer_of_two_groups()
    after_update(linear, optimizer, 1)
    assert optimizer.param_groups[0]["lr"] == LR
    after_epoch(linear, optimizer, 1, valid_loss=0.0)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(LR / 2)

    noam = schedulers.NoamScheduler(LR, 4)
    after_update(noam, optimizer, 1)
    assert noam.n_steps == 1
    after_epoch(noam, optimizer, 1, valid_loss=0.0)
    assert noam.n_steps == 1


def test_plateau_halves_when_the_loss_stays():
    scheduler = schedulers.ReduceLROnPlateau(
        factor=0.5, patience=1, dont_halve_until_epoch=0
    )
    optimizer = optimizer_of_two_groups()
    rates = []
    for epoch, loss in enumerate([5.0, 4.0, 4.5, 4.5, 4.5], start=1):
        after_epoch(scheduler, optimizer, epoch, loss)
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates[:2] == [LR, LR]
    assert rates[-1] < LR


@pytest.mark.parametrize(
    "scheduler", [torch.nn.Identity(), "0.1", lambda step, loss: None]
)
def test_others_are_refused(scheduler):
    with pytest.raises(InputError, match="lr_scheduler"):
        check_scheduler(scheduler)


@pytest.mark.parametrize("losses, halved", [((-5, -9), 0), ((-9, -5), 1)])
def test_newbob_halves_when_a_loss_below_zero_rises(losses, halved):
    scheduler = schedulers.NewBobScheduler(LR, annealing_factor=0.5)
    optimizer = optimizer_of_two_groups()
    for epoch, loss in enumerate(losses, start=1):
        after_epoch(scheduler, optimizer, epoch, loss)
    assert optimizer.param_groups[0]["lr"] == LR * 0.5**halved


def test_a_number_may_change_with_the_epochs():
    steps = [[1, -30], [5, -20], [9, -12.5]]
    assert [at_epoch(steps, epoch) for epoch in range(1, 11)] == (
        [-30] * 4 + [-20] * 4 + [-12.5] * 2
    )
    assert [at_epoch(-30, epoch) for epoch in (1, 99)] == [-30, -30]
    for given in (steps, -30, 99.5, [(1, 0)]):
        check_epochs("threshold", given)


@pytest.mark.parametrize(
    "given",
    [None, "-30", True, float("nan"), [], [-30, -20], [[1, -30, 5]]]
    + [[[2, -30]], [[1, "low"]], [[1, -30], [2.5, -20]], [[1, -30], [1, 0]]]
    + [[[1, -30], [9, -20], [5, -10]], {1: -30}],
)
def test_numbers_that_are_unknown_in_an_epoch_are_refused(given):
    with pytest.raises(InputError, match="threshold is .*; give a number, or"):
        check_epochs("threshold", given)
