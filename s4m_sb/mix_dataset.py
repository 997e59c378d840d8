"""Data sets of mixtures on disk, in the layout of WSJ0-mix.

``<root>/wav8k/min/{tr,cv,tt}/{mix,s1,s2,...}/<name>.wav``, as 32-bit float,
so that every mixture is the sum of its sources to the last bit. Beside the
splits lie ``metadata.csv`` (see ``mix_metadata.py``), ``speech.csv`` and
``settings.json``.

``speech.csv`` is a manifest of the speech by split, ``train``, ``valid`` and
``test``. Dynamic mixing that draws from its split ``train`` meets none of the
speakers held out for ``cv`` and ``tt``, however they were chosen.

Mixture i of a split is drawn by a generator of its own, seeded by (seed,
split, i); neither the number of processes nor a restart can change it.
"""

import contextlib
import hashlib
import json
import logging
import multiprocessing
import os
import re
import signal
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from s4m_sb.atomic import replacing
from s4m_sb.audio import write_audio
from s4m_sb.corpus import (
    Corpus,
    Utterance,
    read_corpus,
    source_splits,
    write_manifest,
)
from s4m_sb.errors import InputError
from s4m_sb.mix_metadata import (
    NamedPlan,
    Row,
    plan_rows,
    read_metadata,
    read_rows,
    write_metadata,
)
from s4m_sb.mixtures import MixtureDrawer
from s4m_sb.plans import MixturePlan
from s4m_sb.rendering import render

logger = logging.getLogger(__name__)

SPLITS = ("tr", "cv", "tt")
SPLIT_NAMES = {"train": "tr", "valid": "cv", "test": "tt"}
NUM_MIXTURES = (2000, 500, 300)
# The levels of two speakers in WSJ0-mix lie at most 5 dB apart.
LEVEL_RANGE_DB = (-5.0, 5.0)
HELD_OUT = 0.1  # share of the speakers for cv, and for tt
DIVISION = len(SPLITS)  # seeds the division of the speakers
NAME_LENGTH = 32  # of an utterance's name in that of a mixture
CHUNK = 4  # mixtures that a process takes at a time
PROGRESS = ".progress.jsonl"
MANIFEST = "speech.csv"


def rate_folder(sample_rate: int) -> str:
    """Names the folder of a sample rate in the layout of WSJ0-mix.

    Arguments
    ---------
    sample_rate : int
        In Hz.

    Returns
    -------
    str
        The folder's name.

    Example
    -------
    >>> rate_folder(8000), rate_folder(16000)
    ('wav8k', 'wav16k')
    """
    return f"wav{sample_rate / 1000:g}k"


def make_mix_dataset(
    speech: str | os.PathLike,
    output: str | os.PathLike,
    num_spks: int = 2,
    sample_rate: int = 8000,
    segment_s: float | None = None,
    level_range_db: tuple[float, float] = LEVEL_RANGE_DB,
    num_mixtures: tuple[int, int, int] = NUM_MIXTURES,
    seed: int = 0,
    num_jobs: int = 1,
    speaker_from: str = "folder",
    progress: bool = False,
) -> Path:
    """Makes a data set of mixtures from recordings of single speakers.

    Called again with the same arguments it goes on where it was stopped.

    Arguments
    ---------
    speech : str or os.PathLike
        A folder or a manifest, see ``corpus.read_corpus``. The splits are
        those of the manifest's column ``split``, or folders ``train``,
        ``valid`` and ``test`` (or ``tr``, ``cv``, ``tt``) that hold the
        speakers' folders; where there are none, a tenth of the speakers
        goes to ``cv`` and another tenth to ``tt``.
    output : str or os.PathLike
        The data set's folder.
    num_spks : int
        Speakers in a mixture.
    sample_rate : int
        In Hz.
    segment_s : float, optional
        Length of every mixture in seconds, filled with several utterances
        of a speaker where they are shorter. By default a mixture is as
        long as the shortest of its utterances.
    level_range_db : tuple[float, float]
        The level of every further speaker against the first, in dB.
    num_mixtures : tuple[int, int, int]
        Mixtures in ``tr``, ``cv`` and ``tt``; 0 leaves a split out, but
        not its speech out of ``speech.csv``.
    seed : int
        At least 0.
    num_jobs : int
        Processes.
    speaker_from : str
        ``"folder"`` or ``"wsj0"``.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Path
        The folder that holds the splits.

    Raises
    ------
    InputError
        If a value is out of its range, the speech is unusable, or
        ``output`` holds something else.

    Example
    -------
    >>> import torch
    >>> folder = getfixture("tmp_path")
    >>> noise = torch.rand(2, 8000) - 0.5
    >>> write_audio(folder / "speech" / "anna" / "1.wav", noise[0], 8000)
    >>> write_audio(folder / "speech" / "ben" / "1.wav", noise[1], 8000)
    >>> os.renames(folder / "speech", folder / "in" / "test")
    >>> made = make_mix_dataset(
    ...     folder / "in", folder / "out", num_mixtures=(0, 0, 3)
    ... )
    >>> made.relative_to(folder).as_posix()
    'out/wav8k/min'
    >>> sorted(path.name for path in (made / "tt").iterdir())
    ['mix', 's1', 's2']
    >>> len(list((made / "tt" / "mix").glob("*.wav")))
    3
    """
    speech = Path(speech)
    _check_counts(num_mixtures, seed, num_jobs)
    _check_apart(speech, Path(output))
    counts = dict(zip(SPLITS, num_mixtures, strict=True))
    listed = _read_splits(speech, speaker_from, counts, num_spks, seed)
    corpora = {split: listed[split] for split in SPLITS if counts[split]}
    drawers = {
        split: MixtureDrawer(
            corpus,
            num_spks,
            sample_rate,
            segment_s=segment_s,
            join_short=segment_s is not None,
            level_range_db=level_range_db,
        )
        for split, corpus in corpora.items()
    }
    maker = _Maker(
        folder=Path(output) / rate_folder(sample_rate) / "min",
        speech_root=_root(speech),
        drawers=drawers,
        seed=seed,
    )
    settings = {
        "num_spks": num_spks,
        "sample_rate": sample_rate,
        "length": segment_s,
        "levels": list(level_range_db),
        "count": list(num_mixtures),
        "seed": seed,
        "speaker_from": speaker_from,
        "speech": _fingerprint(corpora, _root(speech)),
    }
    tasks = [
        _Task(split, index)
        for split in SPLITS
        for index in range(counts[split])
    ]
    return _make_all(maker, tasks, settings, listed, num_jobs, progress)


def remake_mix_dataset(
    metadata: str | os.PathLike,
    speech: str | os.PathLike,
    output: str | os.PathLike,
    num_jobs: int = 1,
    progress: bool = False,
) -> Path:
    """Makes a data set again from its metadata, sample for sample.

    Its ``speech.csv`` has the utterances that the metadata names; more is
    not known of the division.

    Arguments
    ---------
    metadata : str or os.PathLike
        The ``metadata.csv`` of a data set.
    speech : str or os.PathLike
        The folder or the manifest that it was made from.
    output : str or os.PathLike
        The data set's folder.
    num_jobs : int
        Processes.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Path
        The folder that holds the splits.

    Raises
    ------
    InputError
        If the metadata or the speech are unusable, or ``output`` holds
        something else.
    """
    speech = Path(speech)
    if not speech.exists():
        raise InputError(f"{speech}: no such folder of speech or manifest")
    _check_counts((1, 1, 1), 0, num_jobs)
    _check_apart(speech, Path(output))
    plans = read_metadata(metadata, _root(speech))
    rates = {named.plan.sample_rate for named in plans}
    numbers = {len(named.plan.sources) for named in plans}
    for what, values in (("sample rates", rates), ("speakers", numbers)):
        if len(values) > 1:
            raise InputError(
                f"{metadata}: has mixtures of different {what}: "
                + ", ".join(str(value) for value in sorted(values))
            )
    tasks = [
        _Task(split, index, named.name, named.plan)
        for split in SPLITS
        for index, named in enumerate(
            named for named in plans if named.split == split
        )
    ]
    if len(tasks) < len(plans):
        splits = sorted({named.split for named in plans} - set(SPLITS))
        raise InputError(
            f"{metadata}: has the splits {', '.join(splits)}; only "
            f"{', '.join(SPLITS)} are known"
        )
    maker = _Maker(
        folder=Path(output) / rate_folder(rates.pop()) / "min",
        speech_root=_root(speech),
        drawers={},
        seed=0,
    )
    digest = hashlib.sha256(Path(metadata).read_bytes()).hexdigest()
    settings = {"metadata": digest}
    listed = _used(plans, _root(speech))
    return _make_all(maker, tasks, settings, listed, num_jobs, progress)


@dataclass(frozen=True)
class _Task:
    split: str
    index: int
    name: str | None = None  # where they are known
    plan: MixturePlan | None = None


@dataclass(frozen=True)
class _Maker:
    """Makes one mixture of the data set, in whichever process."""

    folder: Path
    speech_root: Path
    drawers: dict[str, MixtureDrawer]
    seed: int

    def __call__(self, task: _Task) -> tuple[_Task, list[Row]]:
        if task.plan is None:
            seeds = [self.seed, SPLITS.index(task.split), task.index]
            made = self.drawers[task.split].draw(np.random.default_rng(seeds))
        else:
            made = render(task.plan)
        name = task.name or _name(task.index, made.plan)
        signals = {"mix": made.mixture}
        for number, source in enumerate(made.sources.unbind(dim=1), start=1):
            signals[f"s{number}"] = source
        for kind, signal_ in signals.items():
            write_audio(
                self.folder / task.split / kind / f"{name}.wav",
                signal_,
                made.plan.sample_rate,
            )
        named = NamedPlan(task.split, name, made.plan)
        return task, plan_rows(named, self.speech_root)


def _make_all(
    maker: _Maker,
    tasks: list[_Task],
    settings: dict,
    listed: dict[str, Corpus],
    num_jobs: int,
    progress: bool,
) -> Path:
    folder = maker.folder
    _claim(folder, settings)
    write_manifest(
        folder / MANIFEST,
        {
            name: listed[split]
            for name, split in SPLIT_NAMES.items()
            if split in listed
        },
    )
    # A killed run leaves its half files under hidden names.
    for left in folder.glob("*/*/.*.tmp.wav"):
        left.unlink()
    done = _read_done(folder)
    log = folder / PROGRESS
    todo = [task for task in tasks if (task.split, task.index) not in done]
    with (
        open(log, "a", encoding="utf-8") as file,
        tqdm(
            total=len(tasks),
            initial=len(done),
            unit="mix",
            disable=not progress,
        ) as bar,
    ):
        if file.tell():
            file.write("\n")  # ends the half line that a kill may have left
        for task, rows in _results(maker, todo, num_jobs):
            done[task.split, task.index] = rows
            entry = {"split": task.split, "index": task.index, "rows": rows}
            file.write(json.dumps(entry) + "\n")
            file.flush()
            bar.update()
    # In the order of the tasks, whoever made them when.
    write_metadata(
        folder / "metadata.csv",
        [row for task in tasks for row in done[task.split, task.index]],
    )
    log.unlink()
    return folder


def _results(
    maker: _Maker, tasks: list[_Task], num_jobs: int
) -> Iterator[tuple[_Task, list[Row]]]:
    if num_jobs == 1 or len(tasks) < 2:
        yield from map(maker, tasks)
        return
    with ProcessPoolExecutor(
        num_jobs, initializer=_start_process, initargs=(maker,)
    ) as pool:
        yield from pool.map(_make_in_process, tasks, chunksize=CHUNK)


_maker_of_process: _Maker | None = None


def _start_process(maker: _Maker) -> None:
    global _maker_of_process
    _maker_of_process = maker
    torch.set_num_threads(1)
    # The main process hears the interrupt and ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _make_in_process(task: _Task) -> tuple[_Task, list[Row]]:
    assert _maker_of_process is not None
    return _maker_of_process(task)


def _claim(folder: Path, settings: dict) -> None:
    path = folder / "settings.json"
    if path.exists():
        try:
            there = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            there = {}
        for key in [*settings, *there]:
            if there.get(key) != settings.get(key):
                raise InputError(
                    f"{folder}: was made with {key} {there.get(key)}, now it "
                    f"is {settings.get(key)}; give another output folder, or "
                    "remove this one first"
                )
        return
    try:
        if folder.exists() and any(folder.iterdir()):
            raise InputError(
                f"{folder}: holds files that are not of such a data set; "
                "give another output folder"
            )
        with replacing(path) as temporary:
            temporary.write_text(
                json.dumps(settings, indent=2) + "\n", encoding="utf-8"
            )
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be written ({error.strerror})"
        ) from error


def _read_done(folder: Path) -> dict[tuple[str, int], list[Row]]:
    done: dict[tuple[str, int], list[Row]] = {}
    if (folder / "metadata.csv").exists():
        mixtures: dict[tuple[str, str], list[Row]] = {}
        for _, row in read_rows(folder / "metadata.csv"):
            mixtures.setdefault((row["split"], row["mixture"]), []).append(row)
        counted = dict.fromkeys(SPLITS, 0)
        for (split, _), rows in mixtures.items():
            done[split, counted[split]] = rows
            counted[split] += 1
    elif (folder / PROGRESS).exists():
        text = (folder / PROGRESS).read_text(encoding="utf-8")
        for line in text.splitlines():
            # Whoever was killed while writing left half a line.
            with contextlib.suppress(ValueError):
                entry = json.loads(line)
                done[entry["split"], entry["index"]] = entry["rows"]
    return {
        (split, index): rows
        for (split, index), rows in done.items()
        if all(
            (folder / split / kind / f"{rows[0]['mixture']}.wav").exists()
            for kind in ["mix", *(row["source"] for row in rows)]
        )
    }


def _read_splits(
    speech: Path,
    speaker_from: str,
    counts: dict[str, int],
    num_spks: int,
    seed: int,
) -> dict[str, Corpus]:
    known = {name: name for name in SPLITS} | SPLIT_NAMES
    names: dict[str, str] = {}
    for name in sorted(source_splits(speech) & set(known)):
        if known[name] in names:
            raise InputError(
                f"{speech}: has both {names[known[name]]!r} and {name!r}; "
                "keep one of them"
            )
        names[known[name]] = name
    if not names:
        corpus = read_corpus(speech, speaker_from=speaker_from)
        return _divide(corpus, num_spks, seed)
    for split in SPLITS:
        if counts[split] and split not in names:
            raise InputError(
                f"{speech}: has the splits {', '.join(names.values())} but "
                f"none for {split}; add it, or ask for 0 mixtures of it"
            )
    corpora = {}
    for split in SPLITS:
        if split not in names:
            continue
        try:
            corpora[split] = read_corpus(speech, names[split], speaker_from)
        except InputError as error:
            if counts[split]:
                raise
            logger.warning(f"{MANIFEST} goes without {split}: {error}")
    _warn_of_shared_speakers(corpora)
    return corpora


def _divide(corpus: Corpus, num_spks: int, seed: int) -> dict[str, Corpus]:
    speakers = list(corpus.speakers)
    held_out = max(num_spks, round(HELD_OUT * len(speakers)))
    if len(speakers) < 2 * held_out + num_spks:
        raise InputError(
            f"{corpus.root}: holds {len(speakers)} speakers; to divide them "
            f"into tr, cv and tt, at least {3 * num_spks} are needed"
        )
    order = np.random.default_rng([seed, DIVISION]).permutation(len(speakers))
    bounds = {
        "cv": slice(0, held_out),
        "tt": slice(held_out, 2 * held_out),
        "tr": slice(2 * held_out, None),
    }
    return {
        split: Corpus(
            corpus.root,
            {
                speakers[i]: corpus.speakers[speakers[i]]
                for i in sorted(order[bounds[split]])
            },
        )
        for split in SPLITS
    }


def _used(plans: list[NamedPlan], root: Path) -> dict[str, Corpus]:
    said: dict[str, dict[str, set[Utterance]]] = {}
    for named in plans:
        for source in named.plan.sources:
            spoken = said.setdefault(named.split, {}).setdefault(
                source.speaker, set()
            )
            spoken.update(piece.utterance for piece in source.pieces)
    return {
        split: Corpus(
            root,
            {
                speaker: tuple(sorted(spoken, key=lambda u: u.path))
                for speaker, spoken in sorted(by_speaker.items())
            },
        )
        for split, by_speaker in said.items()
    }


def _warn_of_shared_speakers(corpora: dict[str, Corpus]) -> None:
    splits = list(corpora)
    for i, first in enumerate(splits):
        for second in splits[i + 1 :]:
            shared = sorted(
                corpora[first].speakers.keys() & corpora[second].speakers
            )
            if shared:
                logger.warning(
                    f"{first} and {second} share {len(shared)} speakers "
                    f"({', '.join(shared[:3])}, ...); scores on {second} will "
                    "not tell how unknown voices are separated"
                )


def _name(index: int, plan: MixturePlan) -> str:
    mean_db = sum(source.level_db for source in plan.sources)
    mean_db /= len(plan.sources)
    parts = [f"{index:06d}"]
    for source in plan.sources:
        stem = Path(source.pieces[0].utterance.path).stem
        parts.append(re.sub(r"[^A-Za-z0-9.-]", "-", stem)[:NAME_LENGTH])
        level_db = round(source.level_db - mean_db, 2)
        parts.append(f"{level_db + 0.0:.2f}")
    return "_".join(parts)


def _fingerprint(corpora: dict[str, Corpus], root: Path) -> str:
    digest = hashlib.sha256()
    for split, corpus in corpora.items():
        for speaker, spoken in corpus.speakers.items():
            for utterance in spoken:
                path = os.path.relpath(utterance.path, root)
                digest.update(
                    f"{split}\t{speaker}\t{path}\t{utterance.num_frames}\t"
                    f"{utterance.sample_rate}\n".encode()
                )
    speakers = sum(len(corpus.speakers) for corpus in corpora.values())
    utterances = sum(corpus.num_utterances for corpus in corpora.values())
    return (
        f"{utterances} utterances of {speakers} speakers "
        f"({digest.hexdigest()[:16]})"
    )


def _root(speech: Path) -> Path:
    return speech if speech.is_dir() else speech.parent


def _check_counts(
    num_mixtures: Iterable[int], seed: int, num_jobs: int
) -> None:
    counts = list(num_mixtures)
    if len(counts) != len(SPLITS) or min(counts) < 0 or max(counts) == 0:
        raise InputError(
            f"num_mixtures is {counts}; give three numbers, for "
            f"{', '.join(SPLITS)}, not all of them 0"
        )
    if seed < 0:
        raise InputError(f"seed is {seed}; give at least 0")
    if num_jobs < 1:
        raise InputError(f"num_jobs is {num_jobs}; give at least 1")


def _check_apart(speech: Path, output: Path) -> None:
    if speech.is_dir() and output.resolve().is_relative_to(speech.resolve()):
        raise InputError(
            f"{output}: lies inside the speech; mixtures there would be taken "
            "for speech the next time"
        )
