#!/usr/bin/env python3
"""Measures time and memory of S4M and of other networks, in one table.

    python benchmarks/speed.py results/speed --threads 2

The networks take turns, so that whatever else the machine does slows all of
them alike; figures are medians, ratios are medians of ratios within a turn.
Memory is measured in a process for each network and length.

What comes next: the networks in `networks/speed.yaml`, how a case is measured
in `measure.py`, the table in `speed_table.py`, the picture in
`speed_figure.py`.
"""

import argparse
import json
import os
import platform
import shlex
import signal
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent
sys.path[:0] = [str(REPOSITORY), str(HERE)]

import speechbrain  # noqa: E402
import speed_table  # noqa: E402
import torch  # noqa: E402
from machine import commit, machine  # noqa: E402
from speed_figure import plot_speed  # noqa: E402
from speed_networks import ROWS  # noqa: E402
from table import write_csv  # noqa: E402
from tqdm import tqdm  # noqa: E402

import s4m_sb  # noqa: E402
from s4m_sb.system.files import replacing  # noqa: E402

PARTS = ["sizes", "memory", "inference", "training", "import"]
PRECISIONS = {
    "fp32": "float32 without TF32",
    "tf32": "float32, TF32 in convolutions and products",
    "bf16": "bfloat16 by autocast",
}
# Of the conditions, in which one folder's figures need not agree.
MAY_DIFFER = ("repetitions", "limit_s", "no_memory")
SHORT_S = 4.0  # length of the clips whose times are compared
# A tiny network under the same names, to try the script.
SMALL = {
    "num_filters": 8,
    "d_model": 8,
    "d_hidden": 16,
    "num_repeats": 2,
    "hidden_size": 8,
    "bottleneck_size": 8,
    "num_layers": 1,
    "num_heads": 2,
    "d_ffn": 16,
}
IMPORT = """
import time, speechbrain
start = time.perf_counter()
from s4m_sb.inference.interface import S4MSeparation
S4MSeparation.from_hparams()
print(time.perf_counter() - start)
"""


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("output_folder", type=Path, help="gets table, picture, raw figures")
    add("--models", nargs="+", choices=list(ROWS), default=list(ROWS))
    add("--lengths", nargs="+", type=float, default=[1.0, 4.0, 30.0, 300.0])
    add("--repetitions", type=int, default=7, help="turns up to 4 s of audio")
    add("--training_s", type=float, default=SHORT_S, help="clip of a step")
    add("--batch_sizes", nargs="+", type=int, default=[1], help="of a step")
    add("--device", default="cpu", help="cpu, cuda or cuda:<number>")
    add(
        "--precision",
        choices=list(PRECISIONS),
        default="fp32",
        help="a folder of its own for each; tf32: on a GPU",
    )
    add("--threads", type=int, default=torch.get_num_threads())
    add("--limit_s", type=float, default=120.0, help="for one call")
    add(
        "--memory_gib",
        type=float,
        help="for one call on a CPU; default: 80 %% of free",
    )
    add("--parts", nargs="*", choices=PARTS, default=PARTS)
    add("--quick", action="store_true", help="toy networks, short: try it")
    arguments = parser.parse_args(argv)
    if arguments.quick:
        arguments.lengths = [length / 4 for length in (1.0, 4.0)]
        arguments.training_s = 0.25
        arguments.repetitions = 2
    for name in ("repetitions", "training_s", "threads", "limit_s"):
        if getattr(arguments, name) <= 0:
            parser.error(f"argument --{name}: must be above 0")
    if min(arguments.lengths) <= 0:
        parser.error("argument --lengths: must be above 0")
    if min(arguments.batch_sizes) < 1:
        parser.error("argument --batch_sizes: must be above 0")
    if arguments.precision == "tf32" and arguments.device == "cpu":
        parser.error("argument --precision: tf32 is for a GPU")
    if arguments.memory_gib is None:
        arguments.memory_gib = round(0.8 * free_gib(), 1)
    return arguments


def free_gib() -> float:
    """Memory that is free, in GiB; 0, for no limit, where that is unknown."""
    try:
        lines = Path("/proc/meminfo").read_text("utf-8").splitlines()
    except OSError:
        return 0.0
    sizes = dict(line.split(":") for line in lines)
    return int(sizes["MemAvailable"].split()[0]) / 2**20


def short_s(arguments: argparse.Namespace) -> float:
    """Which length is compared."""
    return min(arguments.lengths, key=lambda length: abs(length - SHORT_S))


def case(
    kind: str, model: str, length_s: float, part: str = "", batch_size: int = 1
) -> dict:
    """What `measure.py` is told of a call."""
    return {
        "kind": kind,
        "model": model,
        "length_s": length_s,
        "batch_size": batch_size,
        "training": part.startswith("training"),
        "checkpoint": part == "training, checkpointed",
    }


class Process:
    """`measure.py`, which is sent one case after the other.

    Arguments
    ---------
    arguments : argparse.Namespace
        Of the command line.
    """

    def __init__(self, arguments: argparse.Namespace):
        self.folder = arguments.output_folder
        job = {
            "options": SMALL if arguments.quick else {},
            "device": arguments.device,
            "precision": arguments.precision,
            "threads": arguments.threads,
            "limit_s": arguments.limit_s,
            "memory_gib": arguments.memory_gib,
        }
        threads = {"OMP_NUM_THREADS": str(arguments.threads)}
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "measure.py"), json.dumps(job)],
            env={**os.environ, **threads},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.communicate()

    def run(self, name: str, cases: list[dict]) -> None:
        """Measures cases, and keeps them in ``<name>.json``.

        What was there of other networks and lengths stays.
        """
        measured = {key(run) for one in cases for run in one.get("runs", [one])}
        path = self.folder / f"{name}.json"
        found = [
            one
            for one in read_cases(path)
            if measured.isdisjoint(map(key, one.get("runs", [one])))
        ]
        for one in tqdm(cases, desc=name, mininterval=0):
            print(json.dumps(one), file=self.process.stdin, flush=True)
            line = self.process.stdout.readline()
            if not line:
                sys.exit(f"speed.py: error: {name}: measure.py broke off")
            found.append(json.loads(line))
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(found, indent=1) + "\n", "utf-8")


def read_cases(path: Path) -> list:
    """What was measured before."""
    return json.loads(path.read_text("utf-8")) if path.exists() else []


def run_inference(arguments: argparse.Namespace) -> None:
    """Measures separation, and the sizes of the networks."""
    models, lengths = arguments.models, sorted(arguments.lengths)
    short = short_s(arguments)
    with Process(arguments) as process:
        if "sizes" in arguments.parts:
            process.run("sizes", [case("size", m, 0) for m in models])
        if "memory" in arguments.parts:
            cases = [case("memory", m, s) for s in lengths for m in models]
            process.run("memory", cases)
        if "inference" in arguments.parts:
            process.run("first", [case("first", m, short) for m in models])
            turns = []
            for length in lengths:
                runs = [case("call", model, length) for model in models]
                count = repetitions_for(length, short, arguments.repetitions)
                turns.append(take_turns(runs, count, "memory", arguments))
            process.run("inference", turns)


def run_training(arguments: argparse.Namespace) -> None:
    """Measures training steps, with checkpointing where there is any."""
    parts = [(model, "training") for model in arguments.models]
    parts += [
        (model, "training, checkpointed")
        for model in arguments.models
        if model.startswith("s4m")
    ]
    length = arguments.training_s
    sizes = sorted(set(arguments.batch_sizes))

    def steps(kind: str, size: int) -> list[dict]:
        return [case(kind, m, length, part, size) for m, part in parts]

    with Process(arguments) as process:
        if "memory" in arguments.parts:
            cases = [step for size in sizes for step in steps("memory", size)]
            process.run("training-memory", cases)
        if "training" in arguments.parts:
            count = -(-arguments.repetitions // 2)
            turns = [
                take_turns(
                    steps("call", size), count, "training-memory", arguments
                )
                for size in sizes
            ]
            process.run("training", turns)


def take_turns(
    runs: list[dict], count: int, name: str, arguments: argparse.Namespace
) -> dict:
    """A case of several calls, less those beyond the limits."""
    path = arguments.output_folder / f"{name}.json"
    skipped = [key(found) for found in read_cases(path) if "mark" in found]
    return {
        "kind": "times",
        "runs": [run for run in runs if key(run) not in skipped],
        "repetitions": count,
        "warm_up_s": short_s(arguments),
    }


def repetitions_for(length_s: float, short: float, repetitions: int) -> int:
    """Turns at a length: fewer for long calls, whose noise averages out."""
    return max(1, min(repetitions, round(repetitions * short / length_s)))


def key(found: dict) -> tuple:
    """What tells calls apart."""
    names = ("model", "length_s", "training", "checkpoint")
    return found.get("batch_size", 1), *(found[name] for name in names)


def import_times(repetitions: int = 3) -> list[float]:
    """Seconds from the import of the interface to a loaded model."""
    paths = [str(REPOSITORY), os.environ.get("PYTHONPATH")]
    path = os.pathsep.join(filter(None, paths))
    return [
        float(
            subprocess.run(
                [sys.executable, "-c", IMPORT],
                env=dict(os.environ, PYTHONPATH=path),
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            ).stdout.split()[-1]
        )
        for _ in range(repetitions)
    ]


def conditions(arguments: argparse.Namespace) -> dict:
    """Under which figures are measured."""
    if arguments.device == "cpu":
        most = f"more than {arguments.memory_gib:g} GiB"
    else:
        about = torch.cuda.get_device_properties(arguments.device)
        most = f"more than the GPU's {about.total_memory / 2**30:.0f} GiB"
    where = machine(arguments.device, arguments.threads)
    return {
        "networks": "toy networks" if arguments.quick else "published sizes",
        "precision": PRECISIONS[arguments.precision],
        "machine": f"{platform.system()}, {where}",
        "torch": torch.__version__,
        "speechbrain": speechbrain.__version__,
        "training_s": arguments.training_s,
        "repetitions": arguments.repetitions,
        "limit_s": arguments.limit_s,
        "no_memory": most,
    }


def remember(arguments: argparse.Namespace) -> dict:
    """Conditions and commands of all that is in the folder, in a file there.

    Without parts to measure, what was written before.
    """
    folder = arguments.output_folder
    path = folder / "measured.json"
    before = json.loads(path.read_text("utf-8")) if path.exists() else {}
    if not arguments.parts:
        if not before:
            sys.exit(f"speed.py: error: {folder}: nothing was measured here")
        return before
    now = conditions(arguments)
    for name, value in before.get("conditions", now).items():
        if name not in MAY_DIFFER and value != now[name]:
            sys.exit(
                f"speed.py: error: {folder}: was measured with {name} "
                f"{value!r}, not {now[name]!r}; give another folder"
            )
    command = f"`python benchmarks/speed.py {shlex.join(sys.argv[1:])}`"
    commands = [*before.get("commands", []), f"{command}{commit()}"]
    now = {"conditions": now, "commands": list(dict.fromkeys(commands))}
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(now, indent=1) + "\n", "utf-8")
    return now


def describe(measured: dict, short: float) -> str:
    """Under which conditions the table was measured, in Markdown."""
    known = measured["conditions"]
    return (
        f"Batches of one and clips of {short:g} s, unless said otherwise "
        f"({known['training_s']:g} s in training), {known['networks']}, "
        f"{known['precision']}, {known['machine']}. Networks take turns; times "
        f"are medians of {known['repetitions']} calls (fewer where they are "
        "longer), ratios are medians of ratios within a turn. Memory is what "
        'a call takes on top of the loaded network. "too long": more than '
        f'{known["limit_s"]:g} s for a call; "no memory": '
        f"{known['no_memory']}.\n\n"
        f"{', '.join(measured['commands'])} with s4m_sb {s4m_sb.__version__}, "
        f"torch {known['torch']}, speechbrain {known['speechbrain']}."
    )


def main(argv: list[str] | None = None) -> int:
    """Measures; prints and writes the table."""
    arguments = parse_arguments(argv)
    folder = arguments.output_folder
    folder.mkdir(parents=True, exist_ok=True)
    measured = remember(arguments)
    training_s = measured["conditions"]["training_s"]
    if {"sizes", "memory", "inference"} & set(arguments.parts):
        run_inference(arguments)
    if {"memory", "training"} & set(arguments.parts):
        run_training(arguments)
    if "import" in arguments.parts:
        with replacing(folder / "import.json") as temporary:
            temporary.write_text(json.dumps(import_times()), "utf-8")
    names = ("sizes", "memory", "training-memory", "first", "inference")
    cases = [
        found
        for name in (*names, "training")
        for found in read_cases(folder / f"{name}.json")
    ]
    rows = speed_table.collect_rows(cases)
    import_s = read_cases(folder / "import.json")
    targets = speed_table.check_targets(
        rows,
        (short_s(arguments), max(arguments.lengths)),
        training_s,
        statistics.median(import_s) if import_s else None,
    )
    text = speed_table.markdown(
        rows,
        targets,
        short_s(arguments),
        training_s,
        describe(measured, short_s(arguments)),
    )
    write_csv(rows, speed_table.COLUMNS, folder / "speed.csv")
    with replacing(folder / "speed.md") as temporary:
        temporary.write_text(text, "utf-8")
    plot_speed(folder / "speed.png", rows)
    print(text)
    return 0


if __name__ == "__main__":
    # Whoever ends this process ends the measurement that it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
