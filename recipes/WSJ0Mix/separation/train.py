#!/usr/bin/env python3
"""Trains and evaluates a speech separation network on WSJ0-2mix or -3mix.

    python train.py hparams/s4m-tiny.yaml --data_folder /data/wsj0-mix/2speakers
    torchrun --nproc_per_node=2 train.py hparams/s4m.yaml --data_folder ...

Data sets made by `s4m mix` are read in the same way, and SpeechBrain's own
YAMLs of its WSJ0Mix recipe run as well. What comes next: the network in
`hparams/*.yaml`, the training in `s4m_sb/training/brain.py`, which
`s4m_sb/training/experiment.py` starts.
"""

from functools import partial

from prepare_data import prepare_wsj0mix
from speechbrain.utils.distributed import run_on_main

from s4m_sb.mixing.datasets.tables import read_signal, read_table
from s4m_sb.training.experiment import (
    draw_training_data,
    run_experiment,
    run_script,
    start_experiment,
    tables_used,
)

NEEDED = """data_folder train_data valid_data test_data dynamic_mixing
    skip_prep""".split()


def dataio_prep(hparams, csv_path):
    """The mixtures listed in a CSV, with their sources."""
    signals = ["mix"] + [f"s{i + 1}" for i in range(hparams["num_spks"])]
    data = read_table(
        csv_path, hparams["data_folder"], [f"{name}_wav" for name in signals]
    )
    read = partial(read_signal, sample_rate=hparams["sample_rate"])
    for name in signals:
        data.add_dynamic_item(read, takes=f"{name}_wav", provides=f"{name}_sig")
    data.set_output_keys(["id"] + [f"{name}_sig" for name in signals])
    return data


def main(argv):
    """Prepares the data, trains, evaluates the best checkpoint."""
    hparams, run_opts = start_experiment(argv, needed=NEEDED)
    tables = tables_used(hparams, run_opts)
    if not hparams["skip_prep"]:
        keys = ("data_folder", "save_folder", "num_spks", "sample_rate")
        kwargs = {key: hparams[key] for key in keys}
        kwargs["version"] = hparams.get("version", "min")
        run_on_main(prepare_wsj0mix, kwargs=kwargs | {"splits": list(tables)})
    data = {split: dataio_prep(hparams, tables[split]) for split in tables}
    if hparams["dynamic_mixing"] and not run_opts["test_only"]:
        data["tr"] = draw_training_data(hparams, len(data.get("tr", [])))
    run_experiment(hparams, run_opts, data)


if __name__ == "__main__":
    run_script(main)
