#!/usr/bin/env python3
"""Trains several models alike on noisy speech and compares them in a table.

    s4m mix SPEECH MIX --noise NOISE --length 4 --count 4000 100 200
    python benchmarks/quality.py MIX results/quality

Every model gets the same clips in the same order, as many updates, the same
schedule and the same seed, in a process of its own. What is finished is not
done again, and what was interrupted goes on from its last checkpoint.

What comes next: the sizes in `networks/models.yaml`, the training in
`training.yaml`, its process in `train_model.py`, the table in
`quality_table.py`.
"""

import argparse
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent
RECIPE = REPOSITORY / "recipes/WHAMandWHAMR/separation"
sys.path[:0] = [str(REPOSITORY), str(RECIPE), str(HERE)]

import speechbrain  # noqa: E402
import torch  # noqa: E402
from machine import commit, machine  # noqa: E402
from networks import MODELS, SIZES, network_yaml  # noqa: E402
from prepare_data import prepare_wham  # noqa: E402
from quality_table import read_row, write_tables  # noqa: E402

import s4m_sb  # noqa: E402
from s4m_sb.errors import InputError, one_line  # noqa: E402
from s4m_sb.system.claim import claim_folder  # noqa: E402
from s4m_sb.system.files import replacing  # noqa: E402

SAMPLE_RATE = 8000  # in Hz; the sizes of the networks belong to it
WARMUP, COOLDOWN = 0.05, 0.5  # of all updates


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("data_folder", type=Path, help="made by `s4m mix` with --noise")
    add("output_folder", type=Path, help="gets checkpoints and tables")
    add("--size", choices=SIZES, default=SIZES[0], help="of the networks")
    add("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    add("--updates", type=int, default=1200, help="of each model")
    add("--batch_size", type=int, default=3, help="clips in an update")
    add("--segment_s", type=float, default=3.0, help="length of a clip")
    add("--lr", type=float, help="of every model, instead of its own")
    add("--seed", type=int, default=1234)
    add("--device", default="cpu", help="cpu, cuda or cuda:<number>")
    add("--precision", choices=("fp32", "bf16", "fp16"), default="fp32")
    add("--threads", type=int, default=1, help="on a CPU")
    arguments = parser.parse_args(argv)
    for name in ("updates", "batch_size", "segment_s", "threads"):
        if getattr(arguments, name) <= 0:
            parser.error(f"argument --{name}: must be above 0")
    return arguments


def is_finished(folder: Path) -> bool:
    """Whether a model has been trained and evaluated."""
    return (folder / "cost.json").is_file()


def count_mixtures(table: Path) -> int:
    """How many mixtures a CSV file lists below its header."""
    with open(table, encoding="utf-8") as file:
        return sum(1 for _ in file) - 1


def train(
    model: str,
    folder: Path,
    tables: dict[str, Path],
    arguments: argparse.Namespace,
) -> bool:
    """Trains and evaluates a model in a process; whether that went well."""
    hparams_file = folder / "model.yaml"
    shared = (HERE / "training.yaml").read_text("utf-8")
    with replacing(hparams_file) as temporary:
        temporary.write_text(shared + network_yaml(model), "utf-8")

    updates, batch_size = arguments.updates, arguments.batch_size
    updates_per_epoch = count_mixtures(tables["tr"]) // batch_size
    if updates_per_epoch == 0:
        raise InputError(f"{tables['tr']}: does not fill a batch")
    options = {
        **MODELS[model][arguments.size],
        "data_folder": arguments.data_folder.resolve(),
        "output_folder": folder.resolve(),
        "train_data": tables["tr"].resolve(),
        "valid_data": tables["cv"].resolve(),
        "test_data": tables["tt"].resolve(),
        "sample_rate": SAMPLE_RATE,
        "seed": arguments.seed,
        "num_updates": updates,
        "num_epochs": -(-updates // updates_per_epoch),
        "warmup_updates": round(WARMUP * updates),
        "cooldown_updates": round(COOLDOWN * updates),
        "batch_size": batch_size,
        "training_signal_len": round(arguments.segment_s * SAMPLE_RATE),
        "device": arguments.device,
        "precision": arguments.precision,
    }
    if arguments.lr is not None:
        options["lr"] = arguments.lr
    command = [sys.executable, str(HERE / "train_model.py"), str(hparams_file)]
    for key, value in options.items():
        command += [f"--{key}", str(value)]
    with open(folder / "log.txt", "a", encoding="utf-8") as log:
        finished = subprocess.run(
            [*command, "--noprogressbar"],
            env=environment(arguments),
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    return finished.returncode == 0


def environment(arguments: argparse.Namespace) -> dict[str, str]:
    """The environment of the processes in which models are trained."""
    paths = [str(REPOSITORY), str(RECIPE), os.environ.get("PYTHONPATH")]
    variables = dict(os.environ)
    variables["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    if arguments.device == "cpu":
        variables["OMP_NUM_THREADS"] = str(arguments.threads)
    return variables


def describe(arguments: argparse.Namespace, tables: dict[str, Path]) -> str:
    """Under which conditions the table was measured, in Markdown."""
    tr, cv, tt = (count_mixtures(tables[split]) for split in ("tr", "cv", "tt"))
    where = machine(arguments.device, arguments.threads)
    return (
        f"Networks of {arguments.size} size; two speakers over noise at "
        f"{SAMPLE_RATE} Hz: {tr} mixtures for training, {cv} for validation, "
        f"{tt} for the test (± is the 95 % confidence interval of the mean "
        f"over these). Each model: {arguments.updates} updates with "
        f"{arguments.batch_size} clips of {arguments.segment_s:g} s, seed "
        f"{arguments.seed}, {arguments.precision}, Adam, learning rate rising "
        f"over {WARMUP:.0%} of the updates and falling to 0 over the last "
        f"{COOLDOWN:.0%}. Time and memory are those of the updates, without "
        f"validation ({where}).\n\n"
        f"`python benchmarks/quality.py {shlex.join(sys.argv[1:])}` with "
        f"s4m_sb {s4m_sb.__version__}{commit()}, torch {torch.__version__}, "
        f"speechbrain {speechbrain.__version__}."
    )


def main(argv: list[str] | None = None) -> int:
    """Trains what is not finished yet; prints and writes the table."""
    arguments = parse_arguments(argv)
    output_folder = arguments.output_folder
    # One table holds models that were trained alike.
    settings = {
        key: str(value.resolve()) if isinstance(value, Path) else value
        for key, value in vars(arguments).items()
        if key not in ("output_folder", "models")
    }
    claim_folder(output_folder, settings)
    tables = prepare_wham(
        arguments.data_folder,
        output_folder / "data",
        mixture="mix_both",
        sample_rate=SAMPLE_RATE,
    )
    failed = False
    for model in arguments.models:
        folder = output_folder / model
        if is_finished(folder):
            continue
        print(f"{model}: training, see {folder}/log.txt", flush=True)
        if not train(model, folder, tables, arguments):
            failed = True
            print(f"{model}: failed, see {folder}/log.txt", file=sys.stderr)
    rows = [
        read_row(MODELS[model]["name"], output_folder / model)
        for model in MODELS
        if is_finished(output_folder / model)
    ]
    if rows:
        print(write_tables(rows, describe(arguments, tables), output_folder))
    return int(failed)


if __name__ == "__main__":
    # Whoever ends this process ends the training that it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        sys.exit(main())
    except InputError as error:
        sys.exit(f"quality.py: error: {one_line(error)}")
    except KeyboardInterrupt:
        sys.exit(130)
