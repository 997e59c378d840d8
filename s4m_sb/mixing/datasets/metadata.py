"""What the mixtures of a data set are made from, as a CSV file.

One row is one piece of one source, or of the noise: mixtures whose sources
are windows of single utterances have a row a source. In conversations a row
without a file is silence, and ``begin`` says where in the mixture a row
begins, so that the rows with a file say who speaks when. ``making.py``
writes the file and makes the same data set from it again; the plans are
those of ``mixing/plans.py``.
"""

import math
import os
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from s4m_sb.audio.files import audio_info
from s4m_sb.errors import InputError
from s4m_sb.mixing.corpus import Utterance, resampled_length
from s4m_sb.mixing.plans import (
    MixturePlan,
    NoisePlan,
    Piece,
    Silence,
    SourcePlan,
)
from s4m_sb.mixing.rooms import Room
from s4m_sb.mixing.rows import Row, read_csv, write_csv

COLUMNS: tuple[str, ...] = (
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
NOISE = "noise"  # in the column source
NOISE_COLUMNS = ("snr_db",)
ROOM = ("rt60_s", "room_x_m", "room_y_m", "room_z_m")
MICROPHONE = ("microphone_x_m", "microphone_y_m", "microphone_z_m")
POSITION = ("source_x_m", "source_y_m", "source_z_m")
ROOM_COLUMNS = (*ROOM, *MICROPHONE, *POSITION, "distance_m")
# What noise has not, and what only noise has.
OF_SPEECH = ("speaker", "level_db", *POSITION, "distance_m")
OF_NOISE = NOISE_COLUMNS
BEGIN = "begin"
# What silence has not, and one who never speaks.
NOT_OF_SILENCE = ("file", "start")
NOT_OF_SILENT = ("speaker", "level_db")


@dataclass(frozen=True)
class NamedPlan:
    """A plan with its place in a data set."""

    split: str
    name: str
    plan: MixturePlan


def plan_rows(
    named: NamedPlan, root: Path, noise_root: Path | None = None
) -> list[Row]:
    """Writes a plan as rows of text.

    Arguments
    ---------
    named : NamedPlan
        The plan, at recorded speed.
    root : Path
        Files of speech below this folder are named relative to it.
    noise_root : Path, optional
        Likewise for noise.

    Returns
    -------
    list[dict[str, str]]
        One row a piece, the noise's after the speech's, with ``source``
        ``noise`` and neither ``speaker`` nor ``level_db``. Silence has
        neither ``file`` nor ``start``, one who never speaks nor ``speaker``
        and ``level_db``. ``start`` and
        ``num_frames`` are samples at ``sample_rate``, ``level_db`` is the
        mean absolute amplitude in dB before the mixture was scaled to its
        peak. Where there is noise, ``snr_db``, in the noise's rows, is the
        loudness of the loudest source over that of the noise. In a room,
        ``rt60_s`` is its reverberation time in s; its size, the positions
        of microphone and source and the distance between the two are in m.

    Raises
    ------
    ValueError
        If a source is not at recorded speed or is filtered, for which there
        are no columns.
    """
    plan = named.plan
    columns = COLUMNS
    if plan.noise is not None:
        columns += NOISE_COLUMNS
    if plan.room is not None:
        columns += ROOM_COLUMNS
    common = dict.fromkeys(columns, "") | {
        "split": named.split,
        "mixture": named.name,
        "sample_rate": str(plan.sample_rate),
    }
    if plan.room is not None:
        common |= _numbers(ROOM, (plan.room.rt60_s, *plan.room.size_m))
        common |= _numbers(MICROPHONE, plan.room.microphone_m)
    rows = []
    for number, source in enumerate(plan.sources):
        if source.speed != 1.0:
            raise ValueError(f"speed {source.speed} has no column")
        if source.filter_db:
            raise ValueError(f"filter_db {source.filter_db} has no column")
        said = common | {
            "source": f"s{number + 1}",
            "speaker": source.speaker,
            "level_db": repr(source.level_db) if source.said else "",
        }
        if plan.room is not None:
            said |= _numbers(POSITION, plan.room.sources_m[number])
            distance_m = round(plan.room.distances_m[number], 4)
            said |= _numbers(("distance_m",), (distance_m,))
        rows += [said | _piece_row(piece, root) for piece in source.pieces]
    if plan.noise is not None:
        heard = common | {"source": NOISE, "snr_db": repr(plan.noise.snr_db)}
        rows += [
            heard | _piece_row(piece, noise_root) for piece in plan.noise.pieces
        ]
    return rows


def write_metadata(path: str | os.PathLike, rows: Iterable[Row]) -> None:
    """Writes the rows of a data set, whole or not at all.

    Arguments
    ---------
    path : str or os.PathLike
        The CSV file.
    rows : iterable of dict[str, str]
        Of ``plan_rows``, all with the same keys.
    """
    rows = list(rows)
    if not all(row["file"] for row in rows):
        rows = _with_begins(rows)
    write_csv(path, rows, COLUMNS)


def read_metadata(
    path: str | os.PathLike, root: Path, noise_root: Path | None = None
) -> list[NamedPlan]:
    """Reads the plans of a data set.

    Arguments
    ---------
    path : str or os.PathLike
        The CSV file.
    root : Path
        Where the files of speech lie that are named relatively.
    noise_root : Path, optional
        Where those of noise lie; needed if there are any.

    Returns
    -------
    list[NamedPlan]
        In the order of the file.

    Raises
    ------
    InputError
        If the file, a column or a value is missing or out of range, a
        speaker is mixed twice, or an audio file is missing.
    """
    mixtures: dict[tuple[str, str], list[_Line]] = {}
    utterances: dict[tuple[str, str], Utterance] = {}
    ends: defaultdict[tuple[str, str, str], int] = defaultdict(int)
    for number, row in read_rows(path):
        where = f"{path}, line {number}"
        place = root if row["source"] != NOISE else noise_root
        if place is None:
            raise InputError(
                f"{where}: is noise; say where the noise is that the data "
                "set was made from (noise, on the command line --noise)"
            )
        line = _read_line(where, row, place, utterances)
        end = ends[_source_of(row)]
        if BEGIN in row and _number(where, row, BEGIN, whole=True) != end:
            raise InputError(
                f"{where}: begin is {row[BEGIN]}, but the rows of "
                f"{row['source']} before it end at {end}"
            )
        ends[_source_of(row)] += line.piece.num_frames
        mixtures.setdefault((row["split"], row["mixture"]), []).append(line)
    if not mixtures:
        raise InputError(f"{path}: names no mixtures")
    plans = [
        NamedPlan(split, name, _plan(lines, f"{path}: {name!r} of {split}"))
        for (split, name), lines in mixtures.items()
    ]
    have_noise = [named.plan.noise is not None for named in plans]
    if any(have_noise) and not all(have_noise):
        first = plans[have_noise.index(False)]
        raise InputError(
            f"{path}: {first.name!r} of {first.split} has no noise; others have"
        )
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
    columns, rows = read_csv(path)
    needed = COLUMNS + ((BEGIN,) if BEGIN in columns else ())
    for group in (NOISE_COLUMNS, ROOM_COLUMNS):
        needed += group if set(group) & set(columns) else ()
    missing = [column for column in needed if column not in columns]
    if missing:
        raise InputError(f"{path}: has no column {', '.join(missing)}")
    speaks: defaultdict[tuple[str, str, str], bool] = defaultdict(bool)
    for _, row in rows:
        speaks[_source_of(row)] |= bool(row["file"])
    for line, row in rows:
        is_noise = row["source"] == NOISE
        unneeded: tuple[str, ...] = OF_SPEECH if is_noise else OF_NOISE
        if BEGIN in columns and not is_noise:
            silent = not any(row[column] for column in NOT_OF_SILENCE)
            unneeded += NOT_OF_SILENCE if silent else ()
            unneeded += () if speaks[_source_of(row)] else NOT_OF_SILENT
        for column in needed:
            if not row[column] and column not in unneeded:
                raise InputError(f"{path}, line {line}: has no {column}")
    return rows


@dataclass(frozen=True)
class _Line:
    source: str
    speaker: str
    piece: Piece | Silence
    sample_rate: int
    level_db: float  # of noise its snr_db
    room: tuple[float, ...]  # RT60, size, microphone
    position: tuple[float, ...]


def _numbers(columns: Iterable[str], values: Iterable[float]) -> Row:
    return {
        column: repr(value)
        for column, value in zip(columns, values, strict=True)
    }


def _source_of(row: Row) -> tuple[str, str, str]:
    return row["split"], row["mixture"], row["source"]


def _with_begins(rows: list[Row]) -> list[Row]:
    ends: defaultdict[tuple[str, str, str], int] = defaultdict(int)
    result = []
    for row in rows:
        result.append(row | {BEGIN: str(ends[_source_of(row)])})
        ends[_source_of(row)] += int(row["num_frames"])
    return result


def _piece_row(piece: Piece | Silence, root: Path | None) -> Row:
    if isinstance(piece, Silence):
        return {"num_frames": str(piece.num_frames)}
    path = Path(piece.utterance.path)
    if root is not None and path.is_relative_to(root):
        path = path.relative_to(root)
    return {
        "file": path.as_posix(),
        "start": str(piece.start),
        "num_frames": str(piece.num_frames),
    }


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
    is_noise = row["source"] == NOISE
    speaker = row["speaker"]
    if is_noise:  # every recording stands for itself
        speaker = Path(row["file"]).with_suffix("").as_posix()
    level = "snr_db" if is_noise else "level_db"
    sample_rate = int(_number(where, row, "sample_rate", whole=True))
    if sample_rate < 1:
        raise InputError(f"{where}: sample_rate is {sample_rate}")
    return _Line(
        row["source"],
        speaker,
        _read_piece(where, row, root, speaker, sample_rate, utterances),
        sample_rate,
        _number(where, row, level) if row[level] else 0.0,
        _values(where, row, (*ROOM, *MICROPHONE)),
        () if is_noise else _values(where, row, POSITION),
    )


def _read_piece(
    where: str,
    row: Row,
    root: Path,
    speaker: str,
    sample_rate: int,
    utterances: dict[tuple[str, str], Utterance],
) -> Piece | Silence:
    num_frames = int(_number(where, row, "num_frames", whole=True))
    if not row["file"]:
        if num_frames < 1:
            raise InputError(f"{where}: silence of {num_frames} samples")
        return Silence(num_frames)
    key = (str(root / row["file"]), speaker)
    if key not in utterances:
        header = audio_info(key[0])
        utterances[key] = Utterance(*key, header.num_frames, header.sample_rate)
    start = int(_number(where, row, "start", whole=True))
    total = resampled_length(utterances[key], sample_rate)
    if start < 0 or num_frames < 1 or start + num_frames > total:
        raise InputError(
            f"{where}: samples {start} to {start + num_frames} are not inside "
            f"the {total} samples of {row['file']} at {sample_rate} Hz"
        )
    return Piece(utterances[key], start, num_frames)


def _values(
    where: str, row: Row, columns: tuple[str, ...]
) -> tuple[float, ...]:
    if columns[0] not in row:
        return ()
    return tuple(_number(where, row, column) for column in columns)


def _plan(lines: list[_Line], where: str) -> MixturePlan:
    heard = [line for line in lines if line.source == NOISE]
    said = [line for line in lines if line.source != NOISE]
    names = [f"s{n + 1}" for n in range(len({line.source for line in said}))]
    there = sorted({line.source for line in said})
    alone = len(names) == 1 and not heard and not lines[0].room
    if not names or alone or there != sorted(names):
        raise InputError(
            f"{where}: has the sources {', '.join(there) or NOISE}; s1, s2 "
            "and so on are expected"
        )
    if len({line.sample_rate for line in lines}) > 1:
        raise InputError(f"{where}: has several sample rates")
    sources, positions = [], []
    for name in names:
        parts = [line for line in said if line.source == name]
        for what in ("level_db", "speaker", "position"):
            if len({getattr(line, what) for line in parts}) > 1:
                raise InputError(f"{where}: pieces of {name} differ in {what}")
        pieces = tuple(line.piece for line in parts)
        sources.append(SourcePlan(pieces, parts[0].level_db))
        positions.append(parts[0].position)
    speakers = [source.speaker for source in sources if source.said]
    if not speakers:
        raise InputError(f"{where}: nobody speaks")
    if len(set(speakers)) < len(speakers):
        raise InputError(
            f"{where}: mixes a speaker twice ({', '.join(speakers)})"
        )
    noise = None
    if heard:
        if len({line.level_db for line in heard}) > 1:
            raise InputError(f"{where}: pieces of noise differ in snr_db")
        pieces_of_noise = [line.piece for line in heard]
        noise = NoisePlan(
            tuple(x for x in pieces_of_noise if isinstance(x, Piece)),
            heard[0].level_db,
        )
    lengths = [source.num_frames for source in sources]
    lengths += [] if noise is None else [noise.num_frames]
    if len(set(lengths)) > 1:
        raise InputError(f"{where}: sources differ in length, {lengths}")
    room = _room(lines, positions, where)
    return MixturePlan(tuple(sources), lines[0].sample_rate, noise, room)


def _room(
    lines: list[_Line], positions: list[tuple[float, ...]], where: str
) -> Room | None:
    if not lines[0].room:
        return None
    if len({line.room for line in lines}) > 1:
        raise InputError(f"{where}: is in several rooms")
    rt60_s, *size_and_microphone = lines[0].room
    try:
        return Room(
            _point(size_and_microphone[:3]),
            _point(size_and_microphone[3:]),
            tuple(_point(position) for position in positions),
            rt60_s,
        )
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def _point(values: Iterable[float]) -> tuple[float, float, float]:
    x, y, z = values
    return x, y, z


def _number(where: str, row: Row, column: str, whole: bool = False) -> float:
    try:
        number = int(row[column]) if whole else float(row[column])
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        kind = "a whole number" if whole else "a number"
        raise InputError(f"{where}: {column} is {row[column]!r}, not {kind}")
    return number
