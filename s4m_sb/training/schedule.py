"""What changes while a training goes on: learning rates and thresholds.

SpeechBrain's learning-rate schedulers stand behind two calls. Those of
`speechbrain.nnet.schedulers` are called in different ways: after an update
with the optimizer, or after an epoch with its number, its loss or both.
`after_update` and `after_epoch` tell them apart by the names of their
arguments, so that a YAML may use any of them. `at_epoch` reads a number of
the YAML that may be another one from some epoch on.
"""

import inspect
import math
from collections.abc import Sequence
from typing import Any

import torch

from s4m_sb.errors import InputError

WAYS = (
    ["opt"],
    ["opt", "num_updates"],
    ["optim_list", "current_epoch", "current_loss"],
    ["metric_value"],
    ["current_epoch"],
)


def check_scheduler(scheduler: Any) -> None:
    """Makes sure that it is known how to call a scheduler.

    Arguments
    ---------
    scheduler : object
        One of SpeechBrain's.

    Raises
    ------
    InputError
        If it is called in another way than those.
    """
    if hasattr(scheduler, "on_batch_end"):
        return
    names = _argument_names(scheduler)
    if names not in WAYS:
        raise InputError(
            f"lr_scheduler: {type(scheduler).__name__} takes "
            f"({', '.join(names)}), which is not a way that SpeechBrain's "
            "schedulers are called"
        )


def after_update(
    scheduler: Any, optimizer: torch.optim.Optimizer, num_updates: int
) -> None:
    """Lets a scheduler that works per update set the learning rate.

    Arguments
    ---------
    scheduler : object
        One of SpeechBrain's; those that work per epoch are left alone.
    optimizer : torch.optim.Optimizer
        Its learning rates are changed.
    num_updates : int
        Updates done so far.
    """
    names = _argument_names(scheduler)
    if hasattr(scheduler, "on_batch_end"):
        scheduler.on_batch_end(optimizer)
    elif names == ["opt"]:
        scheduler(optimizer)
    elif names == ["opt", "num_updates"]:
        scheduler(optimizer, num_updates)


def after_epoch(
    scheduler: Any,
    optimizer: torch.optim.Optimizer,
    epoch: int,
    valid_loss: float,
) -> None:
    """Lets a scheduler that works per epoch set the learning rate.

    Arguments
    ---------
    scheduler : object
        One of SpeechBrain's; those that work per update are left alone.
    optimizer : torch.optim.Optimizer
        Its learning rates are changed.
    epoch : int
        The epoch that has ended, from 1.
    valid_loss : float
        Loss on the valid set, lower is better.
    """
    names = _argument_names(scheduler)
    if hasattr(scheduler, "on_batch_end"):
        return
    if names == ["optim_list", "current_epoch", "current_loss"]:
        _, new_lr = scheduler([optimizer], epoch, valid_loss)
    elif names == ["metric_value"]:
        # It compares ratios, which a loss in dB below 0 turns round.
        _, new_lr = scheduler(10 ** (valid_loss / 10))
    elif names == ["current_epoch"]:
        _, new_lr = scheduler(epoch)
    else:
        return
    for group in optimizer.param_groups:
        group["lr"] = new_lr


def after_resuming(
    scheduler: Any, optimizer: torch.optim.Optimizer, epoch: int
) -> None:
    """Lets a scheduler that knows epochs alone set the rate of the next one.

    A checkpoint holds the rate of the schedule that it was saved under.

    Arguments
    ---------
    scheduler : object
        One of SpeechBrain's; those that depend on anything else are left
        alone.
    optimizer : torch.optim.Optimizer
        Its learning rates are changed.
    epoch : int
        The last epoch that has ended; 0 for none.
    """
    if epoch > 0 and _argument_names(scheduler) == ["current_epoch"]:
        after_epoch(scheduler, optimizer, epoch, math.nan)


def limit_rates(optimizer: torch.optim.Optimizer) -> None:
    """Keeps each parameter group below its ``lr_limit``, where it has one."""
    for group in optimizer.param_groups:
        group["lr"] = min(group["lr"], group.get("lr_limit", float("inf")))


def check_epochs(name: str, given: Any) -> None:
    """Makes sure that a number is known in every epoch.

    Arguments
    ---------
    name : str
        Of the YAML's key.
    given : float or list of pairs
        See `at_epoch`.

    Raises
    ------
    InputError
        If it is neither a number nor numbers by epochs, the first of them 1.
    """
    steps = given if isinstance(given, (list, tuple)) else [(1, given)]
    pairs = all(isinstance(s, (list, tuple)) and len(s) == 2 for s in steps)
    epochs = [step[0] for step in steps] if pairs else []
    if (
        epochs[:1] != [1]
        or not all(isinstance(epoch, int) for epoch in epochs)
        or sorted(set(epochs)) != epochs
        or not all(_is_number(number) for _, number in steps)
    ):
        raise InputError(
            f"{name} is {given}; give a number, or pairs of an epoch and the "
            "number from then on, as [[1, -30], [50, -15]]"
        )


def at_epoch(given: float | Sequence[tuple[int, float]], epoch: int) -> float:
    """A number that may change from one epoch to another.

    Arguments
    ---------
    given : float or sequence of tuple[int, float]
        A number, or pairs of the epoch from which on it holds and a number.
    epoch : int
        From 1 on.

    Returns
    -------
    float
        The number of that epoch.

    Example
    -------
    >>> threshold = [(1, -30), (50, -15)]
    >>> at_epoch(threshold, 49), at_epoch(threshold, 50), at_epoch(-30, 50)
    (-30, -15, -30)
    """
    if not isinstance(given, Sequence):
        return given
    return [number for first, number in given if first <= epoch][-1]


def _is_number(value: Any) -> bool:
    return (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and not math.isnan(value)
    )


def _argument_names(scheduler: Any) -> list[str]:
    if not callable(scheduler):
        return []
    return list(inspect.signature(scheduler.__call__).parameters)
