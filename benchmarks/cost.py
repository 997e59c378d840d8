"""What a training costs: time and memory of its updates.

Above this file: `train_model.py`.
"""

import contextlib
import json
import resource
import sys
import time
from collections.abc import Iterator

import torch
from speechbrain.utils.checkpoints import (
    mark_as_loader,
    mark_as_saver,
    register_checkpoint_hooks,
)

from s4m_sb.training.brain import SeparationBrain

RSS_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes


@register_checkpoint_hooks
class TrainingCost:
    """Time and memory of the updates so far; part of a checkpoint.

    What was done after the last checkpoint before an interruption is done
    again, and counted once.

    Example
    -------
    >>> cost = TrainingCost()
    >>> with cost.of_update(torch.device("cpu")):
    ...     _ = torch.ones(3).sum()
    >>> cost.num_updates
    1
    """

    def __init__(self) -> None:
        self.num_updates = 0
        self.wall_s = 0.0
        self.processor_s = 0.0  # of all threads of this process
        self.peak_memory_bytes = 0

    @contextlib.contextmanager
    def of_update(self, device: torch.device) -> Iterator[None]:
        """Adds what is done inside."""
        wall_s, processor_s = time.perf_counter(), time.process_time()
        yield
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        self.num_updates += 1
        self.wall_s += time.perf_counter() - wall_s
        self.processor_s += time.process_time() - processor_s
        self.peak_memory_bytes = max(self.peak_memory_bytes, peak(device))

    @mark_as_saver
    def save(self, path):
        """Called by SpeechBrain's checkpointer."""
        with open(path, "w", encoding="utf-8") as file:
            json.dump(vars(self), file)

    @mark_as_loader
    def load(self, path, end_of_epoch):
        """Called by SpeechBrain's checkpointer.

        An interrupted training goes on counting from there; the evaluation
        of an earlier checkpoint than the last takes nothing back.
        """
        with open(path, encoding="utf-8") as file:
            saved = json.load(file)
        if saved["num_updates"] > self.num_updates:
            vars(self).update(saved)


def peak(device: torch.device) -> int:
    """The most memory that has been in use, in bytes.

    That of PyTorch's tensors on a GPU, or of the whole process on a CPU.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * RSS_UNIT


class TimedBrain(SeparationBrain):
    """Adds the cost of each update to ``cost`` of the YAML."""

    def fit_batch(self, batch):
        """One update."""
        with self.hparams.cost.of_update(torch.device(self.device)):
            return super().fit_batch(batch)
