"""Two ranks on one machine: gloo, CPU, started by torchrun."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from data_sets import make_data_set
from ddp_driver import train_brain
from recipe_runs import TINY, WHAM, WSJ0MIX, as_options, environment
from torch.utils.data import DistributedSampler

NUM_ITEMS = 4
EPOCHS = 2


# Mixtures of an epoch in each run.
RUNS = {"plain": 8, "dynamic": 12, "whamr-plain": 16, "whamr-dynamic": 12}


@pytest.fixture(scope="module")
def ranks(speech_folder, whamr_folder, tmp_path_factory):
    """Results of plain and dynamic trainings, and of the brain alone."""
    folder = tmp_path_factory.mktemp("ranks")
    make_data_set(
        speech_folder,
        folder / "data",
        num_mixtures=(8, 2, 2),
        segment_s=0.5,
    )
    options = {
        **TINY,
        "N_epochs": str(EPOCHS),
        "use_rand_shift": "True",
        "save_audio": "False",
        "ckpt_interval_steps": "3",
        "distributed_backend": "gloo",
        "device": "cpu",
    }
    wsj0mix = (WSJ0MIX, "s4m-tiny.yaml", folder / "data")
    whamr = (WHAM, "s4m-whamr-tiny.yaml", whamr_folder)
    dynamic = {
        "dynamic_mixing": "True",
        "base_folder_dm": str(speech_folder / "train"),
        "dynamic_mixing_opts": "{speaker_from: folder, num_mixtures: 12}",
    }
    rooms = {"rooms_folder": str(folder / "rooms"), "num_rooms": "3"}

    def run(name, recipe, yaml, data_folder, **more):
        values = {**options, "data_folder": str(data_folder), **more}
        argv = [
            str(recipe / "hparams" / yaml),
            *as_options({**values, "output_folder": str(folder / name)}),
            "--noprogressbar",
        ]
        return name, (str(recipe), argv)

    arguments = {
        "folder": str(folder),
        "runs": dict(
            [
                run("plain", *wsj0mix),
                run("dynamic", *wsj0mix, **dynamic),
                run("whamr-plain", *whamr),
                run("whamr-dynamic", *whamr, **dynamic, **rooms),
            ]
        ),
        # The loss of a mixture is above -1000 and below 1000 dB: a threshold
        # of 1000 masks every batch of the rank.
        "thresholds": {"averaged": [-1000, -1000], "masked": [-1000, 1000]},
        "num_items": NUM_ITEMS,
    }
    (folder / "arguments.json").write_text(json.dumps(arguments))
    driver = Path(__file__).parents[1] / "helpers/ddp_driver.py"
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *("--nproc_per_node=2", str(driver)),
            str(folder / "arguments.json"),
        ],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=240)
    finally:  # ranks that wait for each other would stay
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, output[-5000:]
    return folder


def load(folder, name):
    return [torch.load(folder / f"{name}{rank}.pt") for rank in (0, 1)]


@pytest.mark.parametrize("name", RUNS)
def test_ranks_end_with_the_same_parameters(ranks, name):
    first, second = (record["parameters"] for record in load(ranks, name))
    assert list(first) == list(second)
    for key, value in first.items():
        assert torch.equal(value, second[key]), key


@pytest.mark.parametrize("name, total", RUNS.items())
def test_ranks_see_different_mixtures(ranks, name, total):
    first, second = (record["seen"] for record in load(ranks, name))
    assert len(first) == len(second) == EPOCHS * total // 2
    epochs = []
    for epoch in range(1, EPOCHS + 1):
        here, there = (
            {item[1:] for item in seen if item[0] == epoch}
            for seen in (first, second)
        )
        assert len(here) == len(there) == total // 2
        for part in (0, 1):  # neither names nor signals
            assert not {item[part] for item in here} & {
                item[part] for item in there
            }
        epochs.append(here | there)
    if "dynamic" in name:  # new mixtures in every epoch
        assert not epochs[0] & epochs[1]
    else:
        assert epochs[0] == epochs[1]


@pytest.mark.parametrize("name", RUNS)
def test_the_first_rank_evaluates_alone(ranks, name):
    rows = (ranks / name / "test_results.csv").read_text().splitlines()
    summary = json.loads((ranks / name / "summary.json").read_text())
    assert len(rows) == 1 + summary["num_items"] + 1
    assert summary["num_items"] == (3 if "whamr" in name else 2)
    assert rows[-1].startswith("avg,")
    log = (ranks / name / "train_log.txt").read_text().splitlines()
    assert [line.split(" - ")[0].split(",")[0] for line in log] == [
        "epoch: 1",
        "epoch: 2",
        f"Epoch loaded: {summary['epoch']}",
    ]


def test_gradients_are_averaged(ranks, tmp_path):
    """Two ranks with one item each are one process with two."""
    (before, *first), (_, *second) = (
        p["averaged"] for p in load(ranks, "brain")
    )
    halves = [
        DistributedSampler(range(NUM_ITEMS), num_replicas=2, rank=rank)
        for rank in (0, 1)
    ]

    class Pairs:
        """The two ranks' items side by side, epoch by epoch."""

        def __iter__(self):
            for half in halves:
                half.set_epoch(half.epoch + 1)
            return iter([list(pair) for pair in zip(*halves, strict=True)])

        def __len__(self):
            return NUM_ITEMS // 2

    loader = {"batch_sampler": Pairs()}
    same, *alone = train_brain(tmp_path, -1000, NUM_ITEMS, loader, {})
    assert all(torch.equal(before[key], same[key]) for key in before)
    # The weights, and their average over the updates.
    for here, there, value in zip(first, second, alone, strict=True):
        for key in before:
            assert torch.equal(here[key], there[key]), key
            # float32: four updates with gradients summed in another order
            torch.testing.assert_close(here[key], value[key], rtol=0, atol=1e-5)
        moved = (before["encoder.weight"] - here["encoder.weight"]).abs().max()
        assert moved > 0.01
    assert not torch.equal(
        first[0]["encoder.weight"], first[1]["encoder.weight"]
    )


def test_a_rank_without_a_loss_neither_stops_nor_parts(ranks):
    (before, first, _), (_, second, _) = (
        p["masked"] for p in load(ranks, "brain")
    )
    for key, value in first.items():
        assert torch.equal(value, second[key]), key
    assert not torch.equal(before["encoder.weight"], first["encoder.weight"])
