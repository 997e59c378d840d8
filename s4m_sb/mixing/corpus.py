"""Speech by speaker: which utterances there are, and windows of them.

A source of speech is a folder with one folder a speaker, or a manifest, a
CSV file with one row an utterance. ``drawing.py`` draws from it;
``audio/files.py`` reads the files.
"""

import difflib
import logging
import math
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch

from s4m_sb.audio.files import audio_info, read_audio
from s4m_sb.audio.resampling import resample, resampling_ratio, resampling_reach
from s4m_sb.errors import InputError
from s4m_sb.mixing.rows import Row, read_csv, write_csv
from s4m_sb.system.files import files_below

logger = logging.getLogger(__name__)

AUDIO_SUFFIXES = (".wav", ".flac", ".ogg")
# Recordings too, but not of corpora; whoever has some in a folder is told.
OTHER_SUFFIXES = (".mp3", ".m4a", ".aac", ".opus", ".wma", ".aif", ".aiff")
FILE_COLUMNS = ("file", "path", "wav")
SPEAKER_RULES = ("folder", "wsj0", "file")
WSJ0_CODE_LENGTH = 3
LIKE_A_TYPO = 0.7  # of difflib: "trian" is to "train" 0.8, "valid" 0.4
HEADER_THREADS = 4  # more than one hides the latency of network storage


@dataclass(frozen=True)
class Utterance:
    """One recording of one speaker."""

    path: str
    speaker: str
    num_frames: int
    sample_rate: int


@dataclass(frozen=True)
class Corpus:
    """The utterances of a source, by speaker, both in sorted order.

    ``root`` is where they were found, for messages.
    """

    root: Path
    speakers: dict[str, tuple[Utterance, ...]]

    @property
    def num_utterances(self) -> int:
        """Utterances of all speakers together."""
        return sum(len(spoken) for spoken in self.speakers.values())


def read_corpus(
    source: str | os.PathLike,
    split: str | None = None,
    speaker_from: str = "folder",
    kind: str = "speech",
) -> Corpus:
    """Lists the speakers of a folder or a manifest with their utterances.

    Noise is read likewise: ``speaker_from="file"``, ``kind="noise"``.

    Arguments
    ---------
    source : str or os.PathLike
        A folder with one folder a speaker, which may hold further folders;
        or a manifest: a CSV file with a column ``file`` (``path`` and
        ``wav`` are taken too), relative to the manifest's folder, a column
        ``speaker``, and optionally ``split`` and ``kind``.
    split : str, optional
        In a manifest the value of ``split`` to keep, in a folder the name
        of the folder that holds the speakers' folders. By default
        everything is taken.
    speaker_from : str
        ``"folder"``: the speaker is the name of the folder, or stands in
        the manifest. ``"wsj0"``: the speaker is the first three characters
        of the file's name, as in WSJ0, and folders mean nothing. ``"file"``:
        every file stands for itself.
    kind : str
        Which rows count of a manifest that has a column ``kind``.

    Returns
    -------
    Corpus
        The speakers and their utterances.

    Raises
    ------
    InputError
        If the source, a column, a listed file or any speech is missing, or
        a file is not audio.

    Example
    -------
    >>> import torch
    >>> from s4m_sb.audio.files import write_audio
    >>> folder = getfixture("tmp_path")
    >>> write_audio(folder / "anna" / "hello.wav", torch.ones(80), 8000)
    >>> write_audio(folder / "ben" / "hi.wav", torch.ones(40), 8000)
    >>> corpus = read_corpus(folder)
    >>> [(name, len(spoken)) for name, spoken in corpus.speakers.items()]
    [('anna', 1), ('ben', 1)]
    >>> corpus.speakers["ben"][0].num_frames
    40
    """
    if speaker_from not in SPEAKER_RULES:
        raise InputError(
            f"speaker_from is {speaker_from!r}; use one of "
            + ", ".join(SPEAKER_RULES)
        )
    source = Path(source)
    if source.is_dir():
        root = source if split is None else source / split
        files = _files_of_folder(root, speaker_from, kind)
    elif source.is_file():
        root = source.parent
        files = _files_of_manifest(source, split, speaker_from, kind)
    else:
        raise InputError(_no_source(source, kind))
    if not files:
        where = f"{source}" if split is None else f"{source}, split {split!r}"
        raise InputError(
            f"{where}: holds no {kind}; {', '.join(AUDIO_SUFFIXES)} files "
            "are expected"
        )
    return _corpus(root, files)


def source_splits(source: str | os.PathLike, kind: str = "speech") -> set[str]:
    """Lists what may be given as ``split`` for a source.

    Arguments
    ---------
    source : str or os.PathLike
        A folder or a manifest.
    kind : str
        Which rows count of a manifest that has a column ``kind``.

    Returns
    -------
    set[str]
        Folders of the folder, or values in the manifest's column ``split``.

    Raises
    ------
    InputError
        If there is no such source.
    """
    source = Path(source)
    if source.is_dir():
        return {path.name for path in source.iterdir() if path.is_dir()}
    if not source.is_file():
        raise InputError(_no_source(source, kind))
    return {
        row["split"]
        for _, row in read_csv(source)[1]
        if "split" in row and row.get("kind", kind) == kind
    }


def write_manifest(
    path: str | os.PathLike, splits: Mapping[str, Corpus]
) -> None:
    """Writes a manifest of speech, whole or not at all.

    ``read_corpus`` reads each split of it back, wherever the file is moved;
    the speech itself is named by absolute paths.

    Arguments
    ---------
    path : str or os.PathLike
        The CSV file, with the columns ``file``, ``speaker`` and ``split``.
    splits : mapping of str to Corpus
        The speech of each split.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> anna = Utterance(str(folder / "1.wav"), "anna", 8000, 8000)
    >>> corpus = Corpus(folder, {"anna": (anna,)})
    >>> write_manifest(folder / "speech.csv", {"train": corpus})
    >>> source_splits(folder / "speech.csv")
    {'train'}
    """
    write_csv(
        path,
        [
            {
                FILE_COLUMNS[0]: os.path.abspath(utterance.path),
                "speaker": speaker,
                "split": split,
            }
            for split, corpus in splits.items()
            for speaker, spoken in corpus.speakers.items()
            for utterance in spoken
        ],
    )


def read_segment(
    utterance: Utterance,
    start: int,
    num_frames: int,
    sample_rate: int,
    speed: float = 1.0,
) -> torch.Tensor:
    """Reads a window of an utterance, at any sample rate and speed.

    The result is that window of the whole utterance resampled; only the
    samples that reach into it are read from disk.

    Arguments
    ---------
    utterance : Utterance
        What to read.
    start : int
        First sample, counted at ``sample_rate`` and ``speed``.
    num_frames : int
        Samples to return, counted likewise.
    sample_rate : int
        Sample rate of the result in Hz.
    speed : float
        How much faster than recorded (tempo and pitch together).

    Returns
    -------
    torch.Tensor
        Samples, ``[num_frames]``.

    Raises
    ------
    InputError
        If the window is not inside the utterance, or the file is no longer
        what it was.
    """
    total = resampled_length(utterance, sample_rate, speed)
    if start < 0 or num_frames < 1 or start + num_frames > total:
        raise InputError(
            f"{utterance.path}: samples {start} to {start + num_frames} are "
            f"not inside its {total} samples at {sample_rate} Hz"
        )
    old, new = resampling_ratio(utterance.sample_rate, sample_rate, speed)
    # Resampling makes `new` samples out of every `old`: begin with a whole
    # block, so far outside that the filter sees all it would see.
    reach = resampling_reach(old, new)
    first_block = max(0, start // new - math.ceil(reach / old))
    last_block = (start + num_frames - 1) // new
    read_from = first_block * old
    read_to = min((last_block + 1) * old + reach, utterance.num_frames)
    signal, file_rate = read_audio(
        utterance.path, start=read_from, num_frames=read_to - read_from
    )
    if file_rate != utterance.sample_rate or len(signal) != read_to - read_from:
        raise InputError(
            f"{utterance.path}: is not the file it was; it had "
            f"{utterance.num_frames} samples at {utterance.sample_rate} Hz"
        )
    if old != new:
        signal = resample(signal, old, new)
    skipped = start - first_block * new
    return signal[skipped : skipped + num_frames]


def resampled_length(
    utterance: Utterance, sample_rate: int, speed: float = 1.0
) -> int:
    """Counts the samples of an utterance at another rate and speed.

    Arguments
    ---------
    utterance : Utterance
        The recording.
    sample_rate : int
        In Hz.
    speed : float
        How much faster than recorded.

    Returns
    -------
    int
        Samples.

    Example
    -------
    >>> recording = Utterance("a.wav", "anna", 16000, 16000)
    >>> resampled_length(recording, 8000)
    8000
    >>> resampled_length(recording, 8000, speed=1.25)
    6400
    """
    old, new = resampling_ratio(utterance.sample_rate, sample_rate, speed)
    return -(-utterance.num_frames * new // old)


def _files_of_folder(
    root: Path, speaker_from: str, kind: str
) -> list[tuple[Path, str]]:
    if not root.is_dir():
        raise InputError(f"{root}: no such folder of {kind}")
    files = []
    others = []
    for path in files_below(root, AUDIO_SUFFIXES + OTHER_SUFFIXES):
        if not path.name.lower().endswith(AUDIO_SUFFIXES):
            others.append(path)
            continue
        if speaker_from == "wsj0":
            speaker = _wsj0_speaker(path)
        elif speaker_from == "file":
            speaker = path.relative_to(root).with_suffix("").as_posix()
        elif path.parent == root:
            raise InputError(
                f"{path}: lies beside the speakers' folders; put it into the "
                "folder of its speaker, or, if file names begin with WSJ0's "
                "speaker codes, take the speaker from them (speaker_from: "
                "wsj0, on the command line --speaker-from wsj0)"
            )
        else:
            speaker = path.relative_to(root).parts[0]
        files.append((path, speaker))
    if others:
        logger.warning(
            f"{min(others)}: is left out, as is whatever else ({len(others)} "
            f"in all) is not {', '.join(AUDIO_SUFFIXES)}"
        )
    return files


def _files_of_manifest(
    manifest: Path, split: str | None, speaker_from: str, kind: str
) -> list[tuple[Path, str]]:
    columns, rows = read_csv(manifest)
    file_column = next((name for name in FILE_COLUMNS if name in columns), None)
    missing = [] if file_column else [FILE_COLUMNS[0]]
    if speaker_from == "folder" and "speaker" not in columns:
        missing.append("speaker")
    if split is not None and "split" not in columns:
        missing.append("split")
    if file_column is None or missing:
        raise InputError(
            f"{manifest}: has no column {', '.join(missing)}; its columns "
            f"are: {', '.join(columns)}"
        )
    files = []
    if split is not None:
        _tell_of_typos(manifest, rows, split)
    for line, row in rows:
        if split is not None and row["split"] != split:
            continue
        if row.get("kind", kind) != kind:
            continue
        if not row[file_column]:
            raise InputError(f"{manifest}, line {line}: names no file")
        path = manifest.parent / row[file_column]
        if speaker_from == "wsj0":
            speaker = _wsj0_speaker(path)
        elif speaker_from == "file":
            speaker = Path(row[file_column]).with_suffix("").as_posix()
        else:
            speaker = row["speaker"]
        if not speaker:
            raise InputError(f"{manifest}, line {line}: names no speaker")
        files.append((path, speaker))
    return files


def _tell_of_typos(
    manifest: Path, rows: list[tuple[int, Row]], split: str
) -> None:
    """Names the rows whose split is none, or all but the one that is read."""
    lines: dict[str, list[int]] = {}
    for line, row in rows:
        lines.setdefault(row["split"], []).append(line)
    for name, where in lines.items():
        given = name.strip().lower()
        likeness = difflib.SequenceMatcher(None, given, split.lower()).ratio()
        if name != split and (not given or likeness > LIKE_A_TYPO):
            logger.warning(
                f"{manifest}, line {where[0]}: split is {name!r}; it is not "
                f"taken for {split!r}, nor are {len(where) - 1} rows like it"
            )


def _no_source(source: Path, kind: str) -> str:
    return f"{source}: no such folder of {kind}, nor a manifest of that name"


def _wsj0_speaker(path: Path) -> str:
    if len(path.stem) <= WSJ0_CODE_LENGTH:
        raise InputError(
            f"{path}: its name is too short to begin with a speaker code of "
            f"{WSJ0_CODE_LENGTH} characters, as WSJ0's do"
        )
    return path.stem[:WSJ0_CODE_LENGTH].lower()


def _corpus(root: Path, files: list[tuple[Path, str]]) -> Corpus:
    with ThreadPoolExecutor(HEADER_THREADS) as pool:
        headers = list(pool.map(lambda file: audio_info(file[0]), files))
    by_speaker: dict[str, list[Utterance]] = {}
    for (path, speaker), header in zip(files, headers, strict=True):
        if header.num_frames == 0:
            raise InputError(f"{path}: has no samples")
        by_speaker.setdefault(speaker, []).append(
            Utterance(str(path), speaker, header.num_frames, header.sample_rate)
        )
    return Corpus(
        root,
        {
            speaker: tuple(sorted(spoken, key=lambda utterance: utterance.path))
            for speaker, spoken in sorted(by_speaker.items())
        },
    )
