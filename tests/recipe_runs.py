"""Runs of the WSJ0Mix recipe as a user starts them, with tiny networks."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
RECIPE = REPOSITORY / "recipes/WSJ0Mix/separation"
HPARAMS = RECIPE / "hparams"

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


def start(yaml, output_folder, *flags, **options):
    """Starts ``python train.py`` in the recipe's folder."""
    return subprocess.Popen(
        [sys.executable, "train.py", str(yaml)]
        + as_options({**options, "output_folder": str(output_folder)})
        + ["--noprogressbar", "--device", "cpu", *flags],
        cwd=RECIPE,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process, timeout_s=120):
    """Waits for a process that must end well; what it printed."""
    output, _ = process.communicate(timeout=timeout_s)
    assert process.returncode == 0, output
    return output


def train(yaml, output_folder, **options):
    """Runs ``python train.py`` to its end; what it printed."""
    return finish(start(yaml, output_folder, **options))


def train_losses(output_folder):
    """The training loss of each epoch in the log."""
    log = (Path(output_folder) / "train_log.txt").read_text()
    return [float(x) for x in re.findall(r"train loss: (\S+)", log)]


def load_train():
    """The recipe's ``train.py`` as a module."""
    sys.path.insert(0, str(RECIPE))  # it imports prepare_data
    try:
        spec = importlib.util.spec_from_file_location(
            "wsj0mix_train", RECIPE / "train.py"
        )
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(RECIPE))
    return module
