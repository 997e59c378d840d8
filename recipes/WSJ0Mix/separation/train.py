#!/usr/bin/env python3
"""Trains and evaluates a speech separation network on WSJ0-2mix or -3mix.

    python train.py hparams/s4m-tiny.yaml --data_folder /data/wsj0-mix/2speakers
    torchrun --nproc_per_node=2 train.py hparams/s4m.yaml --data_folder ...

Data sets made by `s4m mix` are read in the same way, and SpeechBrain's own
YAMLs of its WSJ0Mix recipe run as well. What comes next: the network in
`hparams/*.yaml`, the training in `s4m_sb/brain.py`.
"""

import os
import sys

import speechbrain as sb
from prepare_data import prepare_wsj0mix
from speechbrain.dataio.dataset import DynamicItemDataset
from speechbrain.utils.distributed import (
    MainProcessContext,
    ddp_init_group,
    if_main_process,
    infer_device,
    run_on_main,
)

from s4m_sb.audio import read_audio
from s4m_sb.brain import SeparationBrain
from s4m_sb.checkpoints import check_same_run
from s4m_sb.dynamic_mixing import DynamicMixing
from s4m_sb.errors import InputError, one_line
from s4m_sb.hparams import load_hparams
from s4m_sb.inference import load_pretrained


def dataio_prep(hparams, csv_path):
    """The mixtures listed in a CSV, with their sources."""
    if not os.path.isfile(csv_path):
        raise InputError(f"{csv_path}: no such file; is skip_prep meant?")
    data = DynamicItemDataset.from_csv(
        csv_path, replacements={"data_root": hparams["data_folder"]}
    )
    signals = ["mix"] + [f"s{i + 1}" for i in range(hparams["num_spks"])]

    def read(wav):
        signal, rate = read_audio(wav)
        if rate != hparams["sample_rate"]:
            raise InputError(
                f"{wav}: has {rate} Hz, sample_rate is {hparams['sample_rate']}"
            )
        return signal

    for name in signals:
        data.add_dynamic_item(read, takes=f"{name}_wav", provides=f"{name}_sig")
    data.set_output_keys(["id"] + [f"{name}_sig" for name in signals])
    return data


def dynamic_mixing_prep(hparams, num_mixtures):
    """Mixtures drawn on the fly from the utterances in base_folder_dm."""
    rate = hparams["sample_rate"]
    options = {
        "speaker_from": "wsj0",
        "segment_s": hparams["training_signal_len"] / rate,
        "num_mixtures": num_mixtures,
        **hparams.get("dynamic_mixing_opts", {}),
    }
    try:
        return DynamicMixing(
            hparams["base_folder_dm"],
            num_spks=hparams["num_spks"],
            sample_rate=rate,
            seed=hparams["seed"],
            **options,
        )
    except TypeError as error:
        raise InputError(f"dynamic_mixing_opts: {error}") from error


def main(argv):
    """Prepares the data, trains, evaluates the best checkpoint."""
    hparams_file, run_opts, overrides = sb.parse_arguments(argv)
    hparams = load_hparams(hparams_file, overrides)
    ddp_init_group(run_opts)
    run_on_main(
        check_same_run, args=[hparams["output_folder"], hparams_file, overrides]
    )
    sb.create_experiment_directory(
        experiment_directory=hparams["output_folder"],
        hyperparams_to_save=hparams_file,
        overrides=overrides,
    )
    device = run_opts["device"] or infer_device()
    if device == "cpu" and hparams.get("precision") == "fp16":
        hparams["precision"] = "bf16"  # there is no fp16 on CPUs

    opts = hparams.get("dynamic_mixing_opts", {})
    uses_tr = not (hparams["dynamic_mixing"] and "num_mixtures" in opts)
    if not hparams["skip_prep"]:
        keys = ("data_folder", "save_folder", "num_spks", "sample_rate")
        kwargs = {key: hparams[key] for key in keys}
        kwargs["version"] = hparams.get("version", "min")
        kwargs["splits"] = ["tr", "cv", "tt"] if uses_tr else ["cv", "tt"]
        run_on_main(prepare_wsj0mix, kwargs=kwargs)
    valid_data = dataio_prep(hparams, hparams["valid_data"])
    test_data = dataio_prep(hparams, hparams["test_data"])
    train_data = []
    if uses_tr:
        train_data = dataio_prep(hparams, hparams["train_data"])
    if hparams["dynamic_mixing"]:
        train_data = dynamic_mixing_prep(hparams, len(train_data))

    if "pretrained_separator" in hparams:
        run_on_main(hparams["pretrained_separator"].collect_files)
        hparams["pretrained_separator"].load_collected()

    checkpointer = hparams["checkpointer"]
    if hparams.get("pretrained_model") is not None:
        load_pretrained(hparams["pretrained_model"], hparams["modules"])
        if run_opts["test_only"]:
            checkpointer = None  # that model is evaluated, no other

    brain = SeparationBrain(
        modules=hparams["modules"],
        opt_class=hparams["optimizer"],
        hparams=hparams,
        run_opts=run_opts,
        checkpointer=checkpointer,
    )
    loader_opts = hparams["dataloader_opts"]
    valid_opts = hparams.get("valid_dataloader_opts", loader_opts)
    brain.fit(
        hparams["epoch_counter"],
        train_data,
        valid_data,
        train_loader_kwargs=dict(loader_opts),
        valid_loader_kwargs=dict(valid_opts),
    )
    if if_main_process():
        with MainProcessContext():  # the other ranks have finished
            brain.evaluate(
                test_data, min_key="si-snr", test_loader_kwargs=dict(valid_opts)
            )


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except InputError as error:
        sys.exit(f"train.py: error: {one_line(error)}")
