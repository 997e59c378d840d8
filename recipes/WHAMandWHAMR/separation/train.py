#!/usr/bin/env python3
"""Trains and evaluates a network that separates speakers in noise and rooms.

    python train.py hparams/s4m-wham.yaml --data_folder /data/wham
    python train.py hparams/s4m-whamr.yaml --data_folder /data/whamr
    python train.py hparams/s4m-wham.yaml --data_folder /data/wham \
        --mixture mix_single --num_spks 1

Data sets made by `s4m mix` with `--noise` and `--reverb` are read in the same
way. What comes next: the network in `hparams/*.yaml`, the training in
`s4m_sb/training/brain.py`, which `s4m_sb/training/experiment.py` starts.
"""

from functools import partial

from prepare_data import check_keys, prepare_wham
from speechbrain.utils.distributed import run_on_main

from s4m_sb.errors import InputError
from s4m_sb.mixing.datasets.tables import find_root, read_signal, read_table
from s4m_sb.mixing.room_cache import CachedRooms
from s4m_sb.system.processes import num_cores
from s4m_sb.training.experiment import (
    draw_training_data,
    run_experiment,
    run_script,
    start_experiment,
    tables_used,
)

NEEDED = """dataset mixture target version data_folder train_data valid_data
    test_data dynamic_mixing skip_prep""".split()


def dataio_prep(hparams, csv_path):
    """The mixtures listed in a CSV, with targets and images."""
    sources = [f"s{i + 1}" for i in range(hparams["num_spks"])]
    signals = ["mix", *sources]
    if hparams["dataset"] == "whamr" and hparams["target"] == "anechoic":
        signals += [f"{source}_image" for source in sources]
    data = read_table(
        csv_path, hparams["data_folder"], [f"{name}_wav" for name in signals]
    )
    read = partial(read_signal, sample_rate=hparams["sample_rate"])
    for name in signals:
        data.add_dynamic_item(read, takes=f"{name}_wav", provides=f"{name}_sig")
    outputs = {key: key for key in ("id", *(f"{name}_sig" for name in signals))}
    if "rt60_s" in data.data[data.data_ids[0]]:
        data.add_dynamic_item(float, takes="rt60_s", provides="rt60")
        outputs["rt60_s"] = "rt60"
    data.set_output_keys(outputs)
    return data


def dynamic_mixing_prep(hparams, num_mixtures, progress):
    """Mixtures drawn on the fly, over noise and in rooms."""
    decided = {"target": hparams["target"], "noise": None, "rooms": None}
    if hparams["mixture"] != "mix_clean":
        decided["noise"] = hparams["noise_folder_dm"]
        if decided["noise"] is None:
            root = find_root(
                hparams["data_folder"],
                hparams["dataset"],
                hparams["sample_rate"],
                hparams["version"],
            )
            decided["noise"] = root / "tr" / "noise"
    if hparams["dataset"] == "whamr":
        if "rooms_folder" not in hparams:
            raise InputError("dataset whamr needs rooms; see s4m-whamr.yaml")
        decided["rooms"] = CachedRooms(
            hparams["rooms_folder"],
            num_rooms=hparams["num_rooms"],
            num_sources=hparams["num_spks"],
            sample_rate=hparams["sample_rate"],
            seed=hparams["rooms_seed"],
        )
        kwargs = {"num_jobs": num_cores(), "progress": progress}
        run_on_main(decided["rooms"].prepare, kwargs=kwargs)
    return draw_training_data(hparams, num_mixtures, **decided)


def main(argv):
    """Prepares the data, trains, evaluates the best checkpoint."""
    hparams, run_opts = start_experiment(argv, needed=NEEDED)
    check_keys(
        hparams["dataset"],
        hparams["mixture"],
        hparams["target"],
        hparams["num_spks"],
    )
    tables = tables_used(hparams, run_opts)
    if not hparams["skip_prep"]:
        kwargs = {
            "data_folder": hparams["data_folder"],
            "save_folder": hparams["save_folder"],
            "dataset": hparams["dataset"],
            "mixture": hparams["mixture"],
            "target": hparams["target"],
            "num_spks": hparams["num_spks"],
            "sample_rate": hparams["sample_rate"],
            "version": hparams["version"],
            "reverb_params": hparams.get("reverb_params"),
            "splits": list(tables),
        }
        run_on_main(prepare_wham, kwargs=kwargs)
    data = {split: dataio_prep(hparams, tables[split]) for split in tables}
    if hparams["dynamic_mixing"] and not run_opts["test_only"]:
        data["tr"] = dynamic_mixing_prep(
            hparams,
            len(data.get("tr", [])),
            progress=not run_opts["noprogressbar"],
        )
    run_experiment(hparams, run_opts, data)


if __name__ == "__main__":
    run_script(main)
