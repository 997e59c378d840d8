"""The files of a data set of mixtures, made one mixture at a time.

Several processes make them, and a run that was stopped goes on where it was:
whoever has written all files of a mixture notes it in a log. From the log
``metadata.csv`` is made in the end. ``making.py`` says which mixtures.
"""

import contextlib
import errno
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from s4m_sb.audio.files import write_audio
from s4m_sb.errors import InputError
from s4m_sb.mixing.datasets.layout import SPLITS, folders, signals
from s4m_sb.mixing.datasets.metadata import (
    NOISE,
    ROOM_COLUMNS,
    NamedPlan,
    Row,
    plan_rows,
    read_rows,
    write_metadata,
)
from s4m_sb.mixing.drawing import MixtureDrawer
from s4m_sb.mixing.plans import MixturePlan
from s4m_sb.mixing.rendering import render
from s4m_sb.system.files import remove_left
from s4m_sb.system.processes import run_jobs

METADATA = "metadata.csv"
PROGRESS = ".progress.jsonl"
NAME_LENGTH = 32  # of an utterance's name in that of a mixture
LOG_BUFFER = 2**20  # bytes; more than an entry, which is written at once


@dataclass(frozen=True)
class Task:
    """A mixture to be made: drawn, or by a plan, where there is one."""

    split: str
    index: int
    name: str | None = None
    plan: MixturePlan | None = None


@dataclass(frozen=True)
class Maker:
    """Makes mixtures of a data set, in whichever process.

    Arguments
    ---------
    folder : Path
        The folder that holds the splits.
    speech_root : Path
        Files of speech below it are named relative to it.
    noise_root : Path, optional
        Likewise for noise.
    drawers : dict[str, MixtureDrawer]
        By split, for tasks without a plan.
    seed : int
        Mixture i of a split is drawn by a generator of its own, seeded by
        (seed, split, i).
    """

    folder: Path
    speech_root: Path
    noise_root: Path | None
    drawers: dict[str, MixtureDrawer]
    seed: int

    def __call__(self, task: Task) -> list[Row]:
        """Makes and logs a mixture; returns its rows of the metadata."""
        if task.plan is None:
            seeds = [self.seed, SPLITS.index(task.split), task.index]
            made = self.drawers[task.split].draw(np.random.default_rng(seeds))
        else:
            made = render(task.plan)
        name = task.name or _name(task.index, made.plan)
        for folder, samples in signals(made).items():
            write_audio(
                self.folder / task.split / folder / f"{name}.wav",
                samples,
                made.plan.sample_rate,
            )
        named = NamedPlan(task.split, name, made.plan)
        rows = plan_rows(named, self.speech_root, self.noise_root)
        entry = {"split": task.split, "index": task.index, "rows": rows}
        # On a line of its own, whatever half a line there may be before it.
        with open(self.folder / PROGRESS, "ab", buffering=LOG_BUFFER) as file:
            file.write(f"\n{json.dumps(entry)}\n".encode())
        return rows


def make_files(
    maker: Maker, tasks: Sequence[Task], num_jobs: int, progress: bool
) -> None:
    """Makes the mixtures that are not there yet, and ``metadata.csv``.

    Arguments
    ---------
    maker : Maker
        Makes each of them.
    tasks : sequence of Task
        All mixtures of the data set, in the order of the metadata.
    num_jobs : int
        Processes.
    progress : bool
        Show a progress bar.

    Raises
    ------
    InputError
        If the speech, the noise or a room is unusable.
    OSError
        If a file cannot be written, as on a full disk. What is done stays,
        and the next call goes on with the rest.
    """
    folder = maker.folder
    remove_left([*folder.glob(".*.tmp.*"), *folder.glob("*/*/.*.tmp.*")])
    done = _read_done(folder)
    todo = [task for task in tasks if (task.split, task.index) not in done]
    made = run_jobs(
        maker,
        todo,
        num_jobs,
        progress=progress,
        unit="mix",
        num_done=len(done),
    )
    for task, rows in zip(todo, made, strict=True):
        done[task.split, task.index] = rows
    # In the order of the tasks, whoever made them when.
    write_metadata(
        folder / METADATA,
        [row for task in tasks for row in done[task.split, task.index]],
    )
    (folder / PROGRESS).unlink(missing_ok=True)


@contextlib.contextmanager
def one_line_of_failure(folder: Path, num_mixtures: int) -> Iterator[None]:
    """Turns what the system refuses, as space on a disk, into one line.

    Arguments
    ---------
    folder : Path
        The folder that holds the splits.
    num_mixtures : int
        How many it shall have.

    Raises
    ------
    InputError
        Instead of an ``OSError``; names the file, how many mixtures are
        done, and how to go on.
    """
    try:
        yield
    except OSError as error:
        mended = "that is mended"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            mended = "there is space"
        raise InputError(
            f"{error.filename or folder / PROGRESS}: "
            f"{error.strerror or error}; {len(_read_done(folder))} of "
            f"{num_mixtures} mixtures are done, and the same command goes on "
            f"with the rest when {mended}"
        ) from error


def _read_done(folder: Path) -> dict[tuple[str, int], list[Row]]:
    done: dict[tuple[str, int], list[Row]] = {}
    if (folder / METADATA).exists():
        mixtures: dict[tuple[str, str], list[Row]] = {}
        for _, row in read_rows(folder / METADATA):
            mixtures.setdefault((row["split"], row["mixture"]), []).append(row)
        counted = dict.fromkeys(SPLITS, 0)
        for (split, _), rows in mixtures.items():
            done[split, counted[split]] = rows
            counted[split] += 1
    if (folder / PROGRESS).exists():
        text = (folder / PROGRESS).read_text(encoding="utf-8")
        for line in text.splitlines():
            # Whoever was stopped while writing left half a line.
            with contextlib.suppress(ValueError):
                entry = json.loads(line)
                done[entry["split"], entry["index"]] = entry["rows"]
    return {
        (split, index): rows
        for (split, index), rows in done.items()
        if all(
            (folder / split / kind / f"{rows[0]['mixture']}.wav").exists()
            for kind in _folders_of(rows)
        )
    }


def _folders_of(rows: list[Row]) -> list[str]:
    sources = {row["source"] for row in rows}
    return list(
        folders(
            len(sources - {NOISE}),
            noise=NOISE in sources,
            reverb=ROOM_COLUMNS[0] in rows[0],
        )
    )


def _name(index: int, plan: MixturePlan) -> str:
    mean_db = sum(source.level_db for source in plan.sources)
    mean_db /= len(plan.sources)
    parts = [f"{index:06d}"]
    for source in plan.sources:
        stem = "silent"
        if source.said:
            stem = Path(source.said[0].utterance.path).stem
        parts.append(re.sub(r"[^A-Za-z0-9.-]", "-", stem)[:NAME_LENGTH])
        level_db = round(source.level_db - mean_db, 2)
        parts.append(f"{level_db + 0.0:.2f}")
    return "_".join(parts)
