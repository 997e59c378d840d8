"""What the mixtures of a data set are made from, as a CSV file.

One row is one piece of one source: mixtures whose sources are windows of
single utterances have a row a source. ``mix_dataset.py`` writes the file
and makes the same data set from it again; the plans are those of
``plans.py``.
"""

import csv
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from s4m_sb.atomic import replacing
from s4m_sb.audio import audio_info
from s4m_sb.corpus import Utterance, resampled_length
from s4m_sb.errors import InputError
from s4m_sb.plans import MixturePlan, Piece, SourcePlan

COLUMNS = (
    "split",
    "mixture",
    "source",
    "speaker",
    "file",
    "start",
    "num_frames",
    "sample_rate",
    "level_db",
)
Row = dict[str, str]


@dataclass(frozen=True)
class NamedPlan:
    """A plan with its place in a data set."""

    split: str
    name: str
    plan: MixturePlan


def plan_rows(named: NamedPlan, root: Path) -> list[Row]:
    """Writes a plan as rows of text.

    Arguments
    ---------
    named : NamedPlan
        The plan, at recorded speed.
    root : Path
        Files below this folder are named relative to it.

    Returns
    -------
    list[dict[str, str]]
        One row a piece; ``start`` and ``num_frames`` are samples at
        ``sample_rate``, ``level_db`` is the mean absolute amplitude in dB
        before the mixture was scaled to its peak.

    Raises
    ------
    ValueError
        If a source is not at recorded speed, for which there is no column.
    """
    rows = []
    for number, source in enumerate(named.plan.sources, start=1):
        if source.speed != 1.0:
            raise ValueError(f"speed {source.speed} has no column")
        for piece in source.pieces:
            path = Path(piece.utterance.path)
            if path.is_relative_to(root):
                path = path.relative_to(root)
            rows.append(
                {
                    "split": named.split,
                    "mixture": named.name,
                    "source": f"s{number}",
                    "speaker": source.speaker,
                    "file": path.as_posix(),
                    "start": str(piece.start),
                    "num_frames": str(piece.num_frames),
                    "sample_rate": str(named.plan.sample_rate),
                    "level_db": repr(source.level_db),
                }
            )
    return rows


def write_metadata(path: str | os.PathLike, rows: Iterable[Row]) -> None:
    """Writes the rows of a data set, whole or not at all.

    Arguments
    ---------
    path : str or os.PathLike
        The CSV file.
    rows : iterable of dict[str, str]
        Of ``plan_rows``.
    """
    with (
        replacing(path) as temporary,
        open(temporary, "w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def read_metadata(path: str | os.PathLike, root: Path) -> list[NamedPlan]:
    """Reads the plans of a data set.

    Arguments
    ---------
    path : str or os.PathLike
        The CSV file.
    root : Path
        Where the files lie that are named relatively.

    Returns
    -------
    list[NamedPlan]
        In the order of the file.

    Raises
    ------
    InputError
        If the file, a column or a value is missing or out of range, a
        speaker is mixed with himself, or an audio file is missing.
    """
    mixtures: dict[tuple[str, str], list[_Line]] = {}
    utterances: dict[tuple[str, str], Utterance] = {}
    for number, row in read_rows(path):
        line = _read_line(f"{path}, line {number}", row, root, utterances)
        mixtures.setdefault((row["split"], row["mixture"]), []).append(line)
    if not mixtures:
        raise InputError(f"{path}: names no mixtures")
    return [
        NamedPlan(split, name, _plan(lines, f"{path}: {name!r} of {split}"))
        for (split, name), lines in mixtures.items()
    ]


def read_rows(path: str | os.PathLike) -> list[tuple[int, Row]]:
    """Reads the rows of a data set as text, without its audio.

    Arguments
    ---------
    path : str or os.PathLike
        The CSV file.

    Returns
    -------
    list[tuple[int, dict[str, str]]]
        Line numbers and rows.

    Raises
    ------
    InputError
        If the file, a column or a value is missing.
    """
    if not os.path.isfile(path):
        raise InputError(f"{path}: no such metadata file")
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file)
            columns = table.fieldnames or []
            rows = [(table.line_num, row) for row in table]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: is not a CSV file of text") from error
    missing = [column for column in COLUMNS if column not in columns]
    if missing:
        raise InputError(f"{path}: has no column {', '.join(missing)}")
    for line, row in rows:
        for column in COLUMNS:
            if not row[column]:
                raise InputError(f"{path}, line {line}: has no {column}")
    return rows


@dataclass(frozen=True)
class _Line:
    source: str
    piece: Piece
    level_db: float
    sample_rate: int


def _read_line(
    where: str,
    row: Row,
    root: Path,
    utterances: dict[tuple[str, str], Utterance],
) -> _Line:
    for column in ("split", "mixture"):
        if row[column] in (".", "..") or Path(row[column]).name != row[column]:
            raise InputError(
                f"{where}: {column} {row[column]!r} cannot be a file's name"
            )
    key = (row["file"], row["speaker"])
    if key not in utterances:
        file = root / row["file"]
        header = audio_info(file)
        utterances[key] = Utterance(
            str(file), row["speaker"], header.num_frames, header.sample_rate
        )
    line = _Line(
        row["source"],
        Piece(
            utterances[key],
            int(_number(where, row, "start", whole=True)),
            int(_number(where, row, "num_frames", whole=True)),
        ),
        _number(where, row, "level_db"),
        int(_number(where, row, "sample_rate", whole=True)),
    )
    if line.sample_rate < 1:
        raise InputError(f"{where}: sample_rate is {line.sample_rate}")
    start, num_frames = line.piece.start, line.piece.num_frames
    total = resampled_length(line.piece.utterance, line.sample_rate)
    if start < 0 or num_frames < 1 or start + num_frames > total:
        raise InputError(
            f"{where}: samples {start} to {start + num_frames} are not inside "
            f"the {total} samples of {row['file']} at {line.sample_rate} Hz"
        )
    return line


def _plan(lines: list[_Line], where: str) -> MixturePlan:
    names = [f"s{n + 1}" for n in range(len({line.source for line in lines}))]
    there = sorted({line.source for line in lines})
    if len(names) < 2 or there != sorted(names):
        raise InputError(
            f"{where}: has the sources {', '.join(there)}; s1, s2 and so on "
            "are expected"
        )
    if len({line.sample_rate for line in lines}) > 1:
        raise InputError(f"{where}: has several sample rates")
    sources = []
    for name in names:
        parts = [line for line in lines if line.source == name]
        if len({line.level_db for line in parts}) > 1:
            raise InputError(f"{where}: pieces of {name} differ in level_db")
        if len({line.piece.utterance.speaker for line in parts}) > 1:
            raise InputError(f"{where}: pieces of {name} differ in speaker")
        pieces = tuple(line.piece for line in parts)
        sources.append(SourcePlan(pieces, parts[0].level_db))
    speakers = [source.speaker for source in sources]
    if len(set(speakers)) < len(speakers):
        raise InputError(
            f"{where}: mixes a speaker with himself ({', '.join(speakers)})"
        )
    lengths = [source.num_frames for source in sources]
    if len(set(lengths)) > 1:
        raise InputError(f"{where}: sources differ in length, {lengths}")
    return MixturePlan(tuple(sources), lines[0].sample_rate)


def _number(where: str, row: Row, column: str, whole: bool = False) -> float:
    try:
        number = int(row[column]) if whole else float(row[column])
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        kind = "a whole number" if whole else "a number"
        raise InputError(f"{where}: {column} is {row[column]!r}, not {kind}")
    return number
