"""Data sets of mixtures on disk, in the layout of WSJ0-mix, WHAM! or WHAMR!.

The folders are those of ``layout.py``; files are 32-bit float, so that every
mixture is the sum of its parts to the last bit. Beside the splits lie
``metadata.csv`` (see ``metadata.py``), ``speech.csv``, ``noise.csv`` and
``settings.json``; ``files.py`` makes the files.

``speech.csv`` is a manifest of the speech by split, ``train``, ``valid`` and
``test``. Dynamic mixing that draws from its split ``train`` meets none of the
speakers held out for ``cv`` and ``tt``, however they were chosen;
``noise.csv`` does the same for noise.

Mixture i of a split is drawn by a generator of its own, seeded by (seed,
split, i); neither the number of processes nor a restart can change it.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, fields, replace
from pathlib import Path

from s4m_sb.errors import InputError
from s4m_sb.mixing.corpus import Corpus, Utterance, write_manifest
from s4m_sb.mixing.datasets.files import (
    Maker,
    Task,
    make_files,
    one_line_of_failure,
)
from s4m_sb.mixing.datasets.layout import SPLITS, rate_folder
from s4m_sb.mixing.datasets.metadata import NamedPlan, read_metadata
from s4m_sb.mixing.datasets.splits import (
    SPLIT_NAMES,
    noise_splits,
    speech_splits,
)
from s4m_sb.mixing.drawing import MixtureDrawer
from s4m_sb.mixing.options import MixingOptions
from s4m_sb.mixing.plans import MixturePlan, Piece
from s4m_sb.mixing.rooms import FreshRooms
from s4m_sb.system.claim import claim_folder

NUM_MIXTURES = (2000, 500, 300)
# The levels of two speakers in WSJ0-mix lie at most 5 dB apart.
LEVEL_RANGE_DB = (-5.0, 5.0)
OPTIONS = MixingOptions(
    num_spks=2, sample_rate=8000, level_range_db=LEVEL_RANGE_DB
)
# What settings.json calls the options that it always names.
SETTINGS = {
    "num_spks": "num_spks",
    "sample_rate": "sample_rate",
    "length": "segment_s",
    "levels": "level_range_db",
}
# Options of which the metadata do not tell.
NOT_WRITTEN = (
    "speed_range",
    "filter_range_db",
    "noise_probability",
    "room_probability",
)
MANIFEST = "speech.csv"
NOISE_MANIFEST = "noise.csv"


def make_mix_dataset(
    speech: str | os.PathLike,
    output: str | os.PathLike,
    options: MixingOptions = OPTIONS,
    num_mixtures: tuple[int, int, int] = NUM_MIXTURES,
    seed: int = 0,
    num_jobs: int = 1,
    speaker_from: str = "folder",
    noise: str | os.PathLike | None = None,
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
    options : MixingOptions
        What the mixtures are like. Where they have a length, ``segment_s``, it
        is filled with several utterances of a speaker (``join_short``).
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
        If a value is out of its range, the speech or the noise is unusable,
        ``output`` holds something else, or a file cannot be written, as on
        a full disk: what is done stays.

    Example
    -------
    >>> import torch
    >>> from s4m_sb.audio.files import write_audio
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
    options = replace(options, join_short=options.segment_s is not None)
    _check_written(options)
    _check_counts(num_mixtures, seed, num_jobs)
    _check_apart("speech", speech, Path(output))
    counts = dict(zip(SPLITS, num_mixtures, strict=True))
    needed = [split for split in SPLITS if counts[split]]
    num_spks, sample_rate = options.num_spks, options.sample_rate
    said = speech_splits(speech, speaker_from, needed, num_spks, seed)
    settings = {
        **{key: getattr(options, name) for key, name in SETTINGS.items()},
        "count": num_mixtures,
        "seed": seed,
        "speaker_from": speaker_from,
        "speech": _fingerprint("speech", said, needed, speech),
    }
    heard: dict[str, Corpus] = {}
    if noise is not None:
        _check_apart("noise", noise, Path(output))
        heard = noise_splits(noise, needed, seed)
        settings["noise"] = _fingerprint("noise", heard, needed, noise)
        settings["snr"] = options.snr_range_db
    if reverb:
        settings["reverb"] = True
    settings |= _unusual(options)
    rooms = FreshRooms(num_spks, sample_rate) if reverb else None
    drawers = {
        split: MixtureDrawer(said[split], options, heard.get(split), rooms)
        for split in needed
    }
    maker = Maker(
        folder=Path(output) / rate_folder(sample_rate) / "min",
        speech_root=_root(speech),
        noise_root=None if noise is None else _root(noise),
        drawers=drawers,
        seed=seed,
    )
    tasks = [
        Task(split, index) for split in SPLITS for index in range(counts[split])
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
        Task(split, index, named.name, named.plan)
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
    maker = Maker(
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


def _check_written(options: MixingOptions) -> None:
    for name in NOT_WRITTEN:
        value = getattr(options, name)
        if value != getattr(OPTIONS, name):
            raise InputError(
                f"{name} is {value}; metadata.csv does not tell of it, so it "
                "is for dynamic mixing alone"
            )


def _unusual(options: MixingOptions) -> dict:
    """The rarer options that are not as usual."""
    named = {*SETTINGS.values(), "join_short", "snr_range_db"}
    return {
        field.name: getattr(options, field.name)
        for field in fields(options)
        if field.name not in named
        and getattr(options, field.name) != field.default
    }


def _make_all(
    maker: Maker,
    tasks: list[Task],
    settings: dict,
    manifests: dict[str, dict[str, Corpus]],
    num_jobs: int,
    progress: bool,
) -> Path:
    # Through JSON, which has no tuples.
    settings = json.loads(json.dumps(settings, default=asdict))
    claim_folder(maker.folder, settings)
    with one_line_of_failure(maker.folder, len(tasks)):
        for file_name, corpora in manifests.items():
            listed = {
                name: corpora[split]
                for name, split in SPLIT_NAMES.items()
                if split in corpora
            }
            if listed:
                write_manifest(maker.folder / file_name, listed)
        make_files(maker, tasks, num_jobs, progress)
    return maker.folder


def _pieces_of_speech(plan: MixturePlan) -> Iterator[Piece]:
    for source in plan.sources:
        yield from source.said


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
