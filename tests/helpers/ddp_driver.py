"""What each rank does in `test_distributed.py`, under torchrun.

    torchrun --nproc_per_node=2 ddp_driver.py ARGUMENTS.json

It runs ``train.py`` and notes what every rank has seen and learned, and then
a few trainings of the brain itself.
"""

import functools
import json
import os
import sys
from pathlib import Path

import torch

from s4m_sb.training import experiment


def record_recipe(train, argv, path):
    """Runs ``train.main``; notes mixtures and last parameters."""
    seen = []

    class Recording(experiment.SeparationBrain):
        def fit_batch(self, batch):
            epoch = self.hparams.epoch_counter.current
            for name, signal in zip(batch.id, batch.mix_sig.data, strict=True):
                seen.append((epoch, name, signal.double().sum().item()))
            return super().fit_batch(batch)

        def fit(self, *args, **kwargs):
            super().fit(*args, **kwargs)
            torch.save(
                {"seen": seen, "parameters": self.modules.state_dict()}, path
            )

    train.run_experiment = functools.partial(
        experiment.run_experiment, brain_class=Recording
    )
    train.main(argv)


def state(modules):
    """A copy of all parameters, of the modules inside the distributed ones."""
    parameters = torch.nn.ModuleDict(modules).state_dict()
    return {name: value.clone() for name, value in parameters.items()}


def train_brain(folder, threshold, num_items, loader, run_opts):
    """Trains two epochs by SGD; gives first, last and averaged weights."""
    from small_brain import make_brain, make_dataset, make_items, s4m

    torch.manual_seed(5)
    modules = s4m()
    before = state(modules)
    brain = make_brain(
        folder,
        modules,
        optimizer=functools.partial(torch.optim.SGD, lr=0.1),
        clip_grad_norm=-1,
        threshold_byloss=True,
        threshold=threshold,
        ema_decay=0.9,
        run_opts=run_opts,
    )
    brain.checkpointer = None
    brain.fit(
        range(1, 3),
        make_dataset(make_items([400] * num_items)),
        train_loader_kwargs=loader,
    )
    return before, state(modules), state(brain._average.modules)


def main(arguments):
    """All parts, one after the other."""
    from recipe_runs import load_script

    torch.set_num_threads(1)
    rank = int(os.environ["RANK"])
    folder = Path(arguments["folder"])
    for name, (recipe, argv) in arguments["runs"].items():
        train = load_script(Path(recipe))
        record_recipe(train, argv, folder / f"{name}{rank}.pt")
        # The process group stays for what comes next.
        experiment.ddp_init_group = lambda run_opts: None

    parts = {}
    for name, thresholds in arguments["thresholds"].items():
        parts[name] = train_brain(
            folder / name,
            thresholds[rank],
            arguments["num_items"],
            {"batch_size": 1},
            {"distributed_backend": "gloo"},
        )
    torch.save(parts, folder / f"brain{rank}.pt")
    torch.distributed.barrier()


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
