"""An average of the weights over a training, which becomes the model.

The weights of a training never rest; their exponential moving average does,
and mostly separates better. Training goes on from the weights themselves.
"""

import os
from typing import Any, cast

import torch
from speechbrain.utils.checkpoints import (
    Checkpointer,
    mark_as_loader,
    mark_as_saver,
    register_checkpoint_hooks,
)
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from s4m_sb.errors import InputError

TRAINING_WEIGHTS = "training_weights"  # in a checkpoint, with .ckpt


@register_checkpoint_hooks
class WeightAverage:
    r"""The exponential moving average of the weights of modules.

    After the first update the average is the weights, after update n + 1

        average = d average + (1 - d) weights,
        d = min(decay, (1 + n) / (10 + n)),

    so that the weights of the beginning, which are worth little, are soon
    forgotten. Buffers are not averaged; they are those of the modules.

    Arguments
    ---------
    modules : nn.ModuleDict
        What is trained. The average is on the same device.
    decay : float
        Above 0 and below 1. About 1 / (1 - decay) updates are averaged.

    Raises
    ------
    InputError
        If ``decay`` is out of its range.

    Example
    -------
    >>> modules = nn.ModuleDict({"gain": nn.Linear(1, 1, bias=False)})
    >>> average = WeightAverage(modules, decay=0.9)
    >>> for weight in (1.0, 2.0):
    ...     _ = nn.init.constant_(modules["gain"].weight, weight)
    ...     average.update()
    >>> round(average.modules["gain"].weight.item(), 4)  # 2 / 11 and 9 / 11
    1.8182
    """

    def __init__(self, modules: nn.ModuleDict, decay: float):
        if not 0 < decay < 1:
            raise InputError(
                f"ema_decay is {decay}; give a number above 0 and below 1"
            )
        self.decay = decay
        # A dictionary of its own: distributed training wraps what is in it.
        self.trained = nn.ModuleDict(dict(modules.items()))
        self._average = AveragedModel(self.trained, multi_avg_fn=self._add)
        self._average.requires_grad_(False).eval()
        # The same modules with averaged weights, in evaluation mode.
        self.modules = cast(nn.ModuleDict, self._average.module)

    def update(self) -> None:
        """Takes in the weights as they are now."""
        self._average.update_parameters(self.trained)

    def restart(self) -> None:
        """Begins again: the trained modules get the averaged weights."""
        self.trained.load_state_dict(self.modules.state_dict())
        self._average.n_averaged.zero_()

    def save_in(self, checkpointer: Checkpointer) -> None:
        """Has checkpoints hold the averaged weights and those in training.

        A module's own file then holds the average, which is what whoever
        wants the model looks for; what training goes on from is in
        ``training_weights.ckpt``.

        Arguments
        ---------
        checkpointer : Checkpointer
            Has the modules.
        """
        for name, module in self.trained.items():
            if checkpointer.recoverables.get(name) is module:
                checkpointer.recoverables[name] = self.modules[name]
        # Checkpoints of a training without an average do not have it.
        checkpointer.add_recoverable(TRAINING_WEIGHTS, self, optional_load=True)

    def _add(self, averages: Any, weights: Any, num_updates: Any) -> None:
        n = int(num_updates)
        decay = min(self.decay, (1 + n) / (10 + n))
        get_ema_multi_avg_fn(decay)(averages, weights, num_updates)

    @mark_as_saver
    def _save(self, path: str | os.PathLike) -> None:
        state = {
            "weights": self.trained.state_dict(),
            "num_updates": int(self._average.n_averaged),
        }
        torch.save(state, path)

    @mark_as_loader
    def _load(self, path: str | os.PathLike, end_of_epoch: bool) -> None:
        state = torch.load(path, map_location="cpu", weights_only=True)
        self.trained.load_state_dict(state["weights"])
        self._average.n_averaged.fill_(state["num_updates"])
