"""Trains and evaluates one model, in a process of its own.

    python train_model.py RUN/model.yaml --output_folder RUN --data_folder ...

`quality.py` starts it, so that time and memory are those of one model. It is
a recipe's `train.py` that also writes what the training cost.

Above this file: `quality.py`. Below it: `cost.py`,
`networks.py`, `train.py` of a recipe.
"""

import json
import os

from cost import TimedBrain
from networks import count_macs, count_parameters
from train import dataio_prep

from s4m_sb.system.files import replacing
from s4m_sb.training.experiment import (
    run_experiment,
    run_script,
    start_experiment,
)


def main(argv):
    """Trains, evaluates, writes ``cost.json``."""
    hparams, run_opts = start_experiment(argv)
    modules = hparams["modules"]
    parameters = count_parameters(modules)
    macs = count_macs(modules, hparams["sample_rate"])
    splits = {"tr": "train_data", "cv": "valid_data", "tt": "test_data"}
    data = {
        split: dataio_prep(hparams, hparams[key])
        for split, key in splits.items()
    }
    run_experiment(hparams, run_opts, data, brain_class=TimedBrain)
    cost = {
        "parameters": parameters,
        "macs_per_s": macs,
        "lr": hparams["lr"],
        **vars(hparams["cost"]),
    }
    path = os.path.join(hparams["output_folder"], "cost.json")
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(cost, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    run_script(main)
