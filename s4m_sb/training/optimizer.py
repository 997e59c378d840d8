"""The optimizer, with a group of its own for the state-space dynamics.

Above this file: `brain.py`. Below it: `schedule.py`, `network/kernel.py`.
"""

from collections.abc import Callable
from typing import Any

import torch
from speechbrain.core import rm_vector_weight_decay

from s4m_sb.errors import InputError, one_line
from s4m_sb.network.kernel import SSMKernel
from s4m_sb.training.schedule import limit_rates

GIVEN_RATE = "initial_lr"  # PyTorch's name of what a schedule starts from
SSM_LR_LIMIT = 1e-3  # A, B and the step diverge at larger rates


def make_optimizer(
    opt_class: Callable[[list[dict[str, Any]]], torch.optim.Optimizer],
    modules: torch.nn.ModuleDict,
    no_decay_of_vectors: bool = False,
) -> torch.optim.Optimizer:
    """Makes the optimizer of all parameters.

    A, B and the steps of the state-space layers get no weight decay and a
    learning rate of at most 1e-3, which schedulers keep to as well.

    Arguments
    ---------
    opt_class : callable
        Makes the optimizer of parameter groups.
    modules : torch.nn.ModuleDict
        What is trained.
    no_decay_of_vectors : bool
        No weight decay of biases and other vectors, as SpeechBrain has it.

    Returns
    -------
    torch.optim.Optimizer
        The optimizer.

    Raises
    ------
    InputError
        If the optimizer refuses a value.

    Example
    -------
    >>> modules = torch.nn.ModuleDict({"encoder": torch.nn.Linear(2, 1)})
    >>> len(make_optimizer(torch.optim.Adam, modules).param_groups)
    1
    """
    groups: list[dict[str, Any]] = (
        rm_vector_weight_decay(modules)
        if no_decay_of_vectors
        else [{"params": list(modules.parameters())}]
    )
    dynamics = [
        parameter
        for module in modules.modules()
        if isinstance(module, SSMKernel)
        for parameter in module.dynamics()
    ]
    if dynamics:
        slow = {id(parameter) for parameter in dynamics}
        for group in groups:
            group["params"] = [p for p in group["params"] if id(p) not in slow]
        groups.append(
            {
                "params": dynamics,
                "weight_decay": 0.0,
                "lr_limit": SSM_LR_LIMIT,
            }
        )
    try:
        optimizer = opt_class(groups)
    except (ValueError, TypeError) as error:
        raise InputError(f"optimizer: {one_line(error)}") from error
    for group in optimizer.param_groups:
        group[GIVEN_RATE] = group["lr"]
    limit_rates(optimizer)
    return optimizer


def settings_of(optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    """What an optimizer was made with, group by group.

    Arguments
    ---------
    optimizer : torch.optim.Optimizer
        From `make_optimizer`.

    Returns
    -------
    list of dict
        For `restore_settings`.
    """
    return [
        {key: value for key, value in group.items() if key != "params"}
        for group in optimizer.param_groups
    ]


def restore_settings(
    optimizer: torch.optim.Optimizer, settings: list[dict[str, Any]]
) -> None:
    """Gives an optimizer its settings back that a checkpoint has replaced.

    The checkpoint's learning rate, which a schedule may have changed, stays
    if the training was started with the same one as now.

    Arguments
    ---------
    optimizer : torch.optim.Optimizer
        The state of a checkpoint was loaded into it.
    settings : list of dict
        Those of before, see `settings_of`.

    Example
    -------
    >>> modules = torch.nn.ModuleDict({"encoder": torch.nn.Linear(2, 1)})
    >>> old, new = (
    ...     make_optimizer(lambda groups: torch.optim.SGD(groups, lr), modules)
    ...     for lr in (0.1, 0.2)
    ... )
    >>> settings = settings_of(new)
    >>> new.load_state_dict(old.state_dict())
    >>> restore_settings(new, settings)
    >>> new.param_groups[0]["lr"]
    0.2
    """
    for group, given in zip(optimizer.param_groups, settings, strict=True):
        loaded = group["lr"]
        same = group.get(GIVEN_RATE, given[GIVEN_RATE]) == given[GIVEN_RATE]
        group.update(given)
        if same:
            group["lr"] = loaded
