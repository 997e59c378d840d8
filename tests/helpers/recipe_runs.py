"""Runs of the recipes as a user starts them, with tiny networks."""

import csv
import importlib.util
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import yaml as pyyaml
from process_groups import interruptible

REPOSITORY = Path(__file__).resolve().parents[2]
WSJ0MIX = REPOSITORY / "recipes/WSJ0Mix/separation"
WHAM = REPOSITORY / "recipes/WHAMandWHAMR/separation"
RECIPES = (WSJ0MIX, WHAM)

# A network of some thousand parameters; two mixtures of half a second in a
# batch; all in one process.
TINY = {
    "num_filters": "16",
    "kernel_size": "32",
    "kernel_stride": "16",
    "d_model": "16",
    "d_hidden": "32",
    "num_scales": "3",
    "num_repeats": "2",
    "d_state": "4",
    "training_signal_len": "4000",
    "dataloader_opts": "{batch_size: 2, num_workers: 0}",
    "batch_size": "2",
    "ckpt_interval_minutes": "0",
}


def as_options(values):
    """``{"lr": "0.1"}`` as ``["--lr", "0.1"]``."""
    return [
        word for key, value in values.items() for word in (f"--{key}", value)
    ]


def environment():
    """That of this process, with the package found from any folder."""
    path = os.pathsep.join(
        filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")])
    )
    return {**os.environ, "PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": ""}


def start(recipe, yaml, output_folder, *flags, **options):
    """Starts ``python train.py hparams/...`` in a recipe's folder."""
    return subprocess.Popen(
        [sys.executable, "train.py", str(Path("hparams") / yaml)]
        + as_options({**options, "output_folder": str(output_folder)})
        + ["--noprogressbar", "--device", "cpu", *flags],
        cwd=recipe,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=interruptible,
    )


def finish(process, timeout_s=300):
    """Waits for a process that must end well; what it printed."""
    output, _ = process.communicate(timeout=timeout_s)
    assert process.returncode == 0, output
    return output


def train(recipe, yaml, output_folder, **options):
    """Runs ``python train.py`` to its end; what it printed."""
    return finish(start(recipe, yaml, output_folder, **options))


def killed_and_resumed(recipe, yaml, output_folder, steps, **options):
    """A training, killed within its second epoch or later and started again.

    It must save every few steps. Gives the epoch and the step of the
    checkpoint that it went on from, and what was printed after the new start.
    """
    process = start(recipe, yaml, output_folder, **options)
    while process.poll() is None:
        time.sleep(0.01)
        if not _is_within_an_epoch(output_folder, steps):
            continue
        process.send_signal(signal.SIGSTOP)
        time.sleep(0.05)  # the signal arrives
        if _is_within_an_epoch(output_folder, steps):
            break
        process.send_signal(signal.SIGCONT)  # it was faster
    process.send_signal(signal.SIGKILL)
    output, _ = process.communicate()
    assert process.returncode == -signal.SIGKILL, output
    assert not (output_folder / "test_results.csv").exists()
    epoch, step = progress_in(checkpoints_in(output_folder)[-1])
    printed = train(recipe, yaml, output_folder, **options)
    return epoch, step, printed


def _is_within_an_epoch(output_folder, steps):
    """Whether the latest checkpoint is of the first half of a later epoch."""
    try:
        latest = checkpoints_in(output_folder)[-1]
        epoch, step = progress_in(latest)
    except (IndexError, ValueError, OSError, TypeError, KeyError):
        return False  # none yet, or deleted while it was read
    return not latest["end-of-epoch"] and epoch > 1 and step < steps / 2


def checkpoints_in(output_folder):
    """Meta data of the whole checkpoints, oldest first."""
    found = [
        pyyaml.safe_load((path.parent / "CKPT.yaml").read_text())
        | {"path": path.parent}
        for path in (output_folder / "save").glob("CKPT*/optimizer.ckpt")
    ]
    return sorted(found, key=lambda meta: meta["unixtime"])


def progress_in(checkpoint):
    """The epoch and the step in it at which a checkpoint was saved."""
    counter = (checkpoint["path"] / "counter.ckpt").read_text()
    brain = (checkpoint["path"] / "brain.ckpt").read_text()
    return int(counter), pyyaml.safe_load(brain)["step"]


def updates_in(output_folder):
    """How many updates the latest checkpoint has seen."""
    latest = checkpoints_in(output_folder)[-1]["path"]
    return pyyaml.safe_load((latest / "brain.ckpt").read_text())[
        "optimizer_step"
    ]


def run_s4m(*words):
    """Runs ``s4m`` to its end."""
    result = subprocess.run(
        [sys.executable, "-m", "s4m_sb", *map(str, words)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    return result


def read_results(output_folder):
    """The rows of the test results, the averages last."""
    with open(output_folder / "test_results.csv", newline="") as file:
        return list(csv.DictReader(file))


def train_losses(output_folder):
    """The training loss of each epoch in the log."""
    log = (Path(output_folder) / "train_log.txt").read_text()
    return [float(x) for x in re.findall(r"train loss: (\S+)", log)]


def load_script(recipe, name="train"):
    """A script of a recipe as a module."""
    path = recipe / f"{name}.py"
    unique = f"{recipe.parent.name}_{name}"
    sys.path.insert(0, str(recipe))  # train.py imports prepare_data
    try:
        spec = importlib.util.spec_from_file_location(unique, path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(recipe))
        sys.modules.pop("prepare_data", None)  # every recipe has one
    return module
