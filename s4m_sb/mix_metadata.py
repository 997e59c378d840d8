"""What the mixtures of a data set are made from, as a CSV file.

One row is one piece of one source: mixtures whose sources are windows of
single utterances have a row a source. ``mix_dataset.py`` writes the file
and makes the same data set from it again; the plans are those of
``mixtures.py``.
"""

import csv
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s4m_sb.atomic import replacing
from s4m_sb.audio import audio_info
from s4m_sb.corpus import Utterance
from s4m_sb.errors import InputError
from s4m_sb.mixtures import MixturePlan, Piece, SourcePlan

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
    lines: dict[tuple[str, str], list[tuple[int, Row]]] = {}
    for line, row in read_rows(path):
        for column in ("split", "mixture"):
            if row[column] != Path(row[column]).name:
                raise InputError(
                    f"{path}, line {line}: {column} {row[column]!r} cannot be "
                    "the name of a file"
                )
        lines.setdefault((row["split"], row["mixture"]), []).append((line, row))
    utterances: dict[tuple[str, str], Utterance] = {}
    plans = []
    for (split, name), rows in lines.items():
        sources: dict[str, list[tuple[Piece, float]]] = {}
        for line, row in rows:
            start, num_frames = (
                _number(path, line, row, column, int)
                for column in ("start", "num_frames")
            )
            level_db = _number(path, line, row, "level_db", float)
            key = (row["file"], row["speaker"])
            if key not in utterances:
                file = root / row["file"]
                header = audio_info(file)
                utterances[key] = Utterance(
                    str(file),
                    row["speaker"],
                    header.num_frames,
                    header.sample_rate,
                )
            piece = Piece(utterances[key], start, num_frames)
            sources.setdefault(row["source"], []).append((piece, level_db))
        where = f"{path}: mixture {name!r} of {split}"
        rates = {_number(path, *row, "sample_rate", int) for row in rows}
        if len(rates) > 1:
            raise InputError(f"{where}: has several sample rates")
        plans.append(
            NamedPlan(
                split,
                name,
                MixturePlan(_sources(sources, where), rates.pop()),
            )
        )
    if not plans:
        raise InputError(f"{path}: names no mixtures")
    return plans


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


def _sources(
    sources: dict[str, list[tuple[Piece, float]]], where: str
) -> tuple[SourcePlan, ...]:
    names = [f"s{number}" for number in range(1, len(sources) + 1)]
    if len(names) < 2 or sorted(sources) != sorted(names):
        raise InputError(
            f"{where}: has the sources {', '.join(sorted(sources))}; s1, s2 "
            "and so on are expected"
        )
    plans = []
    for name in names:
        if len({level_db for _, level_db in sources[name]}) > 1:
            raise InputError(f"{where}: pieces of {name} differ in level_db")
        if len({piece.utterance.speaker for piece, _ in sources[name]}) > 1:
            raise InputError(f"{where}: pieces of {name} differ in speaker")
        pieces = tuple(piece for piece, _ in sources[name])
        plans.append(SourcePlan(pieces, sources[name][0][1]))
    speakers = [source.speaker for source in plans]
    if len(set(speakers)) < len(speakers):
        raise InputError(
            f"{where}: mixes a speaker with himself ({', '.join(speakers)})"
        )
    return tuple(plans)


def _number(
    path: str | os.PathLike, line: int, row: Row, column: str, kind: type
) -> Any:
    try:
        return kind(row[column])
    except ValueError:
        raise InputError(
            f"{path}, line {line}: {column} is {row[column]!r}, not a number"
        ) from None
