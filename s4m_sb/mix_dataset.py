"""Data sets of mixtures on disk, in the layout of WSJ0-mix, WHAM! or WHAMR!.

The folders are those of ``layout.py``; files are 32-bit float, so that every
mixture is the sum of its parts to the last bit. Beside the splits lie
``metadata.csv`` (see ``mix_metadata.py``), ``speech.csv``, ``noise.csv`` and
``settings.json``.

``speech.csv`` is a manifest of the speech by split, ``train``, ``valid`` and
``test``. Dynamic mixing that draws from its split ``train`` meets none of the
speakers held out for ``cv`` and ``tt``, however they were chosen;
``noise.csv`` does the same for noise.

Mixture i of a split is drawn by a generator of its own, seeded by (seed,
split, i); neither the number of processes nor a restart can change it.
"""

import contextlib
import hashlib
import json
import multiprocessing
import os
import re
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from s4m_sb.atomic import replacing
from s4m_sb.audio import write_audio
from s4m_sb.corpus import Corpus, Utterance, write_manifest
from s4m_sb.errors import InputError
from s4m_sb.layout import SPLITS, folders, rate_folder, signals
from s4m_sb.mix_metadata import (
    NOISE,
    ROOM_COLUMNS,
    NamedPlan,
    Row,
    plan_rows,
    read_metadata,
    read_rows,
    write_metadata,
)
from s4m_sb.mixtures import MixtureDrawer
from s4m_sb.noise import SNR_RANGE_DB, NoiseDrawer
from s4m_sb.plans import MixturePlan, Piece
from s4m_sb.rendering import render
from s4m_sb.rooms import FreshRooms
from s4m_sb.splits import SPLIT_NAMES, noise_splits, speech_splits

NUM_MIXTURES = (2000, 500, 300)
# The levels of two speakers in WSJ0-mix lie at most 5 dB apart.
LEVEL_RANGE_DB = (-5.0, 5.0)
NAME_LENGTH = 32  # of an utterance's name in that of a mixture
CHUNK = 4  # mixtures that a process takes at a time
PROGRESS = ".progress.jsonl"
MANIFEST = "speech.csv"
NOISE_MANIFEST = "noise.csv"


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
    noise: str | os.PathLike | None = None,
    snr_range_db: tuple[float, float] = SNR_RANGE_DB,
    reverb: bool = False,
    progress: bool = False,
) -> Path:
    """Makes a data set of mixtures from recordings of single speakers.

    Called again with the same arguments it goes on where it was stopped.

    Arguments
    ---------
    speech : str or os.PathLike
        A folder or a manifest, divided into splits or not, see
        ``splits.speech_splits``.
    output : str or os.PathLike
        The data set's folder.
    num_spks : int
        Speakers in a mixture; 1 if there is noise or reverberation.
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
    noise : str or os.PathLike, optional
        Adds noise: a folder or a manifest, see ``splits.noise_splits``.
    snr_range_db : tuple[float, float]
        Loudness of the loudest speaker over the noise, drawn uniformly from
        this range in dB; by default WHAM!'s.
    reverb : bool
        Put every mixture into a room of its own, drawn as in WHAMR!; needs
        the extra ``[reverb]``.
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
    noise = None if noise is None else Path(noise)
    _check_counts(num_mixtures, seed, num_jobs)
    _check_apart("speech", speech, Path(output))
    counts = dict(zip(SPLITS, num_mixtures, strict=True))
    needed = [split for split in SPLITS if counts[split]]
    said = speech_splits(speech, speaker_from, needed, num_spks, seed)
    settings = {
        "num_spks": num_spks,
        "sample_rate": sample_rate,
        "length": segment_s,
        "levels": list(level_range_db),
        "count": list(num_mixtures),
        "seed": seed,
        "speaker_from": speaker_from,
        "speech": _fingerprint("speech", said, needed, speech),
    }
    heard: dict[str, Corpus] = {}
    noise_drawers: dict[str, NoiseDrawer] = {}
    if noise is not None:
        _check_apart("noise", noise, Path(output))
        heard = noise_splits(noise, needed, seed)
        noise_drawers = {
            split: NoiseDrawer(heard[split], sample_rate, snr_range_db)
            for split in needed
        }
        settings["noise"] = _fingerprint("noise", heard, needed, noise)
        settings["snr"] = list(snr_range_db)
    if reverb:
        settings["reverb"] = True
    drawers = {
        split: MixtureDrawer(
            said[split],
            num_spks,
            sample_rate,
            segment_s=segment_s,
            join_short=segment_s is not None,
            level_range_db=level_range_db,
            noise=noise_drawers.get(split),
            rooms=FreshRooms(num_spks, sample_rate) if reverb else None,
        )
        for split in needed
    }
    maker = _Maker(
        folder=Path(output) / rate_folder(sample_rate) / "min",
        speech_root=_root(speech),
        noise_root=None if noise is None else _root(noise),
        drawers=drawers,
        seed=seed,
    )
    tasks = [
        _Task(split, index)
        for split in SPLITS
        for index in range(counts[split])
    ]
    manifests = {MANIFEST: said, NOISE_MANIFEST: heard}
    return _make_all(maker, tasks, settings, manifests, num_jobs, progress)


def remake_mix_dataset(
    metadata: str | os.PathLike,
    speech: str | os.PathLike,
    output: str | os.PathLike,
    num_jobs: int = 1,
    noise: str | os.PathLike | None = None,
    progress: bool = False,
) -> Path:
    """Makes a data set again from its metadata, sample for sample.

    Its ``speech.csv`` and ``noise.csv`` have the recordings that the metadata
    names; more is not known of the division.

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
    noise : str or os.PathLike, optional
        The folder or the manifest of the noise that it was made from.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Path
        The folder that holds the splits.

    Raises
    ------
    InputError
        If the metadata, the speech or the noise are unusable, or ``output``
        holds something else.
    """
    speech_root = _existing_root("speech", Path(speech), Path(output))
    noise_root = None
    if noise is not None:
        noise_root = _existing_root("noise", Path(noise), Path(output))
    _check_counts((1, 1, 1), 0, num_jobs)
    plans = read_metadata(metadata, speech_root, noise_root)
    if noise is not None and plans[0].plan.noise is None:
        raise InputError(f"{metadata}: has no noise; leave {noise} out")
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
        speech_root=speech_root,
        noise_root=noise_root,
        drawers={},
        seed=0,
    )
    digest = hashlib.sha256(Path(metadata).read_bytes()).hexdigest()
    settings = {"metadata": digest}
    manifests = {
        MANIFEST: _used(plans, speech_root, _pieces_of_speech),
        NOISE_MANIFEST: _used(plans, noise_root, _pieces_of_noise),
    }
    return _make_all(maker, tasks, settings, manifests, num_jobs, progress)


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
    noise_root: Path | None
    drawers: dict[str, MixtureDrawer]
    seed: int

    def __call__(self, task: _Task) -> tuple[_Task, list[Row]]:
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
        return task, plan_rows(named, self.speech_root, self.noise_root)


def _make_all(
    maker: _Maker,
    tasks: list[_Task],
    settings: dict,
    manifests: dict[str, dict[str, Corpus]],
    num_jobs: int,
    progress: bool,
) -> Path:
    folder = maker.folder
    _claim(folder, settings)
    for file_name, corpora in manifests.items():
        listed = {
            name: corpora[split]
            for name, split in SPLIT_NAMES.items()
            if split in corpora
        }
        if listed:
            write_manifest(folder / file_name, listed)
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
            for kind in _folders_of(rows)
        )
    }


def _folders_of(rows: list[Row]) -> Iterable[str]:
    sources = {row["source"] for row in rows}
    return folders(
        len(sources - {NOISE}),
        noise=NOISE in sources,
        reverb=ROOM_COLUMNS[0] in rows[0],
    )


def _pieces_of_speech(plan: MixturePlan) -> Iterator[Piece]:
    for source in plan.sources:
        yield from source.pieces


def _pieces_of_noise(plan: MixturePlan) -> Iterator[Piece]:
    if plan.noise is not None:
        yield from plan.noise.pieces


def _used(
    plans: list[NamedPlan],
    root: Path | None,
    pieces_of: Callable[[MixturePlan], Iterator[Piece]],
) -> dict[str, Corpus]:
    if root is None:
        return {}
    found: dict[str, dict[str, set[Utterance]]] = {}
    for named in plans:
        for piece in pieces_of(named.plan):
            found.setdefault(named.split, {}).setdefault(
                piece.utterance.speaker, set()
            ).add(piece.utterance)
    return {
        split: Corpus(
            root,
            {
                speaker: tuple(sorted(spoken, key=lambda u: u.path))
                for speaker, spoken in sorted(by_speaker.items())
            },
        )
        for split, by_speaker in found.items()
    }


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


def _fingerprint(
    kind: str, corpora: dict[str, Corpus], splits: list[str], source: Path
) -> str:
    used = {split: corpora[split] for split in splits}
    digest = hashlib.sha256()
    for split, corpus in used.items():
        for speaker, spoken in corpus.speakers.items():
            for utterance in spoken:
                path = os.path.relpath(utterance.path, _root(source))
                digest.update(
                    f"{split}\t{speaker}\t{path}\t{utterance.num_frames}\t"
                    f"{utterance.sample_rate}\n".encode()
                )
    files = sum(corpus.num_utterances for corpus in used.values())
    counted = f"{files} recordings"
    if kind == "speech":
        speakers = sum(len(corpus.speakers) for corpus in used.values())
        counted = f"{files} utterances of {speakers} speakers"
    return f"{counted} ({digest.hexdigest()[:16]})"


def _root(source: Path) -> Path:
    return source if source.is_dir() else source.parent


def _existing_root(kind: str, source: Path, output: Path) -> Path:
    if not source.exists():
        raise InputError(f"{source}: no such folder of {kind} or manifest")
    _check_apart(kind, source, output)
    return _root(source)


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


def _check_apart(kind: str, source: Path, output: Path) -> None:
    if source.is_dir() and output.resolve().is_relative_to(source.resolve()):
        raise InputError(
            f"{output}: lies inside the {kind}; mixtures there would be taken "
            f"for {kind} the next time"
        )
