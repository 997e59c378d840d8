"""CSV files that list the mixtures of a data set for a recipe.

The data sets have the layout of WSJ0-mix, ``<root>/<split>/<kind>/<name>.wav``
with the same names in every kind of a split. ``prepare_data.py`` of a recipe
says which kinds are which signals; here is what all recipes ask of them, and
how ``train.py`` reads the CSV files again.
"""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from speechbrain.dataio.dataset import DynamicItemDataset

from s4m_sb.audio.files import AudioInfo, audio_info, read_audio
from s4m_sb.errors import InputError
from s4m_sb.mixing.corpus import AUDIO_SUFFIXES, OTHER_SUFFIXES
from s4m_sb.mixing.datasets.layout import SPLITS, rate_folder
from s4m_sb.mixing.rows import Row, read_csv

VERSIONS = ("min", "max")
# Of WSJ0-2mix and WSJ0-3mix, and of WHAM! and WHAMR!, which are made from it.
OFFICIAL_COUNTS = {"tr": 20000, "cv": 5000, "tt": 3000}
HEADER_THREADS = 8  # for network storage
NAMES_SHOWN = 3
ROOT = re.compile(r"\$data_root\b")


def table_paths(
    save_folder: str | os.PathLike,
    name: str,
    splits: Sequence[str],
    must_exist: bool = False,
) -> dict[str, Path]:
    """The CSV file of each split.

    Arguments
    ---------
    save_folder : str or os.PathLike
        Where they are.
    name : str
        The data set, with which their names begin.
    splits : sequence of str
        Some of ``"tr"``, ``"cv"`` and ``"tt"``.
    must_exist : bool
        Whether they have to be there already.

    Returns
    -------
    dict[str, Path]
        By split.

    Raises
    ------
    InputError
        If a split is unknown, or a file that must exist does not.

    Example
    -------
    >>> table_paths("save", "wsj", ["cv"])["cv"].as_posix()
    'save/wsj_cv.csv'
    """
    if not splits or not set(splits) <= set(SPLITS):
        raise InputError(
            f"splits is {list(splits)}; give some of {', '.join(SPLITS)}"
        )
    tables = {
        split: Path(save_folder) / f"{name}_{split}.csv" for split in splits
    }
    if must_exist:
        check_there(tables.values(), "skip_prep")
    return tables


def find_root(
    data_folder: str | os.PathLike,
    below: str,
    sample_rate: int,
    version: str,
) -> Path:
    """Finds the folder of a data set that holds its splits.

    Arguments
    ---------
    data_folder : str or os.PathLike
        The folder that holds ``wav8k`` (``wav16k``), or the one above it.
    below : str
        What the folder is called that may stand between the two.
    sample_rate : int
        In Hz; it decides between ``wav8k`` and ``wav16k``.
    version : str
        ``"min"`` or ``"max"``.

    Returns
    -------
    Path
        ``.../wav8k/min``, which need not be there itself.

    Raises
    ------
    InputError
        If ``version`` is unknown or there is no folder for the sample rate.
    """
    if version not in VERSIONS:
        raise InputError(
            f"version is {version!r}; use one of {', '.join(VERSIONS)}"
        )
    folder = rate_folder(sample_rate)
    candidates = [f"{folder}", f"{below}/{folder}"]
    for candidate in candidates:
        root = Path(data_folder) / candidate
        if root.is_dir():
            return root / version
    raise InputError(
        f"data_folder {data_folder}: holds neither {candidates[0]} nor "
        f"{candidates[1]} (sample_rate is {sample_rate})"
    )


def check_there(paths: Iterable[Path], key: str) -> None:
    """Refuses to go on without some files or folders.

    Arguments
    ---------
    paths : iterable of Path
        What is needed.
    key : str
        The key that is to blame.

    Raises
    ------
    InputError
        If something is missing; the message names all of it.
    """
    missing = [str(path) for path in paths if not path.exists()]
    if missing:
        raise InputError(f"{key}: missing " + ", ".join(missing))


def check_no_more(folders: Iterable[Path], num_spks: int) -> None:
    """Refuses mixtures of more speakers than are separated.

    Arguments
    ---------
    folders : iterable of Path
        Where the next source would be in each split.
    num_spks : int
        Speakers that are separated.

    Raises
    ------
    InputError
        If there is one more.
    """
    for folder in folders:
        if folder.exists():
            raise InputError(
                f"{folder}: the mixtures have more sources than num_spks = "
                f"{num_spks}"
            )


def list_mixtures(
    folder: Path, kinds: Mapping[str, str], sample_rate: int
) -> list[Row]:
    """Lists the mixtures of a split with the signals that belong to them.

    Arguments
    ---------
    folder : Path
        The split, with one folder a kind.
    kinds : mapping of str to str
        The folder of each signal, the mixture's first:
        ``{"mix": "mix_both", "s1": "s1"}``.
    sample_rate : int
        In Hz; what every file must have.

    Returns
    -------
    list[dict[str, str]]
        For each mixture, in the order of the names, ``ID``, ``duration`` in
        seconds and the file of each signal, ``mix_wav``, ``s1_wav``, ...

    Raises
    ------
    InputError
        If the folders do not hold the same names, a file has another sample
        rate or no samples, or a mixture and its signals differ in length.
    """
    names = {kind: _wav_names(folder / kind) for kind in kinds.values()}
    first, *others = kinds.values()
    if not names[first]:
        raise InputError(f"{folder / first}: holds no .wav files")
    for kind in others:
        _check_same(folder, first, names[first], kind, names[kind])
    paths = [
        {signal: folder / kind / name for signal, kind in kinds.items()}
        for name in sorted(names[first])
    ]
    with ThreadPoolExecutor(HEADER_THREADS) as pool:
        lengths = pool.map(
            lambda files: _length(list(files.values()), sample_rate), paths
        )
        return [
            {
                "ID": files["mix"].stem,
                "duration": f"{num_frames / sample_rate:.6g}",
            }
            | {
                f"{signal}_wav": str(path.absolute())
                for signal, path in files.items()
            }
            for files, num_frames in zip(paths, lengths, strict=True)
        ]


def _wav_names(folder: Path) -> set[str]:
    """The files of a kind, whatever the case of their names' ends."""
    names = set()
    stems: dict[str, str] = {}
    for entry in os.scandir(folder):
        if entry.name.startswith("."):
            continue
        stem, suffix = os.path.splitext(entry.name)
        if suffix.lower() in AUDIO_SUFFIXES + OTHER_SUFFIXES:
            if suffix.lower() != ".wav":
                raise InputError(
                    f"{folder / entry.name}: is no .wav file, as the others "
                    "are; convert it or take it away"
                )
            if stem in stems:
                raise InputError(
                    f"{folder}: holds both {stems[stem]} and {entry.name}"
                )
            stems[stem] = entry.name
            names.add(entry.name)
    return names


def _length(files: list[Path], sample_rate: int) -> int:
    """The length in samples that a mixture has in common with its sources."""
    headers = [audio_info(path) for path in files]
    for path, header in zip(files, headers, strict=True):
        _check_header(path, header, sample_rate)
        if header.num_frames != headers[0].num_frames:
            raise InputError(
                f"{path}: has {header.num_frames} samples, its mixture "
                f"{headers[0].num_frames}"
            )
    return headers[0].num_frames


def _check_same(
    folder: Path, first: str, mixtures: set[str], kind: str, sources: set[str]
) -> None:
    faults = []
    for where, names in (
        (f"not in {kind}", mixtures - sources),
        (f"only in {kind}", sources - mixtures),
    ):
        if names:
            shown = ", ".join(sorted(names)[:NAMES_SHOWN])
            more = ", ..." if len(names) > NAMES_SHOWN else ""
            faults.append(f"{len(names)} {where} ({shown}{more})")
    if faults:
        raise InputError(
            f"{folder}: {first} and {kind} must hold files of the same names, "
            f"but of {len(mixtures)} mixtures and {len(sources)} sources "
            + " and ".join(faults)
        )


def _check_header(path: Path, header: AudioInfo, sample_rate: int) -> None:
    if header.sample_rate != sample_rate:
        raise InputError(
            f"{path}: has {header.sample_rate} Hz, but sample_rate is "
            f"{sample_rate}"
        )
    if header.num_frames == 0:
        raise InputError(f"{path}: has no samples")


def counted(split: str, count: int, num_spks: int, official: str) -> str:
    """Says how many mixtures a split has, beside the official number.

    Arguments
    ---------
    split : str
        ``"tr"``, ``"cv"`` or ``"tt"``.
    count : int
        Mixtures in it.
    num_spks : int
        Speakers in a mixture.
    official : str
        The data set that the number is compared with.

    Returns
    -------
    str
        Without the name of the file.

    Example
    -------
    >>> counted("tt", 300, 2, "WSJ0-2mix")
    '300 mixtures of 2 speakers (3000 in the official WSJ0-2mix)'
    """
    expected = OFFICIAL_COUNTS[split]
    compared = "as in" if count == expected else f"{expected} in"
    speakers = "1 speaker" if num_spks == 1 else f"{num_spks} speakers"
    return (
        f"{count} mixtures of {speakers} ({compared} the official {official})"
    )


def read_table(
    table: str | os.PathLike,
    data_folder: str | os.PathLike,
    columns: Iterable[str],
) -> DynamicItemDataset:
    """Opens a CSV file that lists mixtures.

    Arguments
    ---------
    table : str or os.PathLike
        The file.
    data_folder : str or os.PathLike
        What ``$data_root`` in it stands for.
    columns : iterable of str
        Those that it must have.

    Returns
    -------
    DynamicItemDataset
        SpeechBrain's data set, without any signals yet.

    Raises
    ------
    InputError
        If the file, a column, or all rows are missing; if a row is not whole,
        or has the ID of another.
    """
    if not os.path.isfile(table):
        raise InputError(f"{table}: no such file; is skip_prep meant?")
    there, rows = read_csv(table)
    missing = sorted({"ID", *columns} - set(there))
    if missing:
        raise InputError(
            f"{table}: has no column {', '.join(missing)}; is skip_prep meant?"
        )
    if not rows:
        raise InputError(f"{table}: lists no mixtures")
    data: dict[str, dict[str, str | float]] = {}
    for line, row in rows:
        # As SpeechBrain reads its tables.
        item: dict[str, str | float] = {
            column: ROOT.sub(lambda _: str(data_folder), cell.lstrip())
            for column, cell in row.items()
        }
        name = str(item.pop("ID"))
        if name in data:
            raise InputError(f"{table}, line {line}: has the ID {name} again")
        if "duration" in item:
            item["duration"] = _duration(item["duration"], table, line)
        data[name] = item
    return DynamicItemDataset(data)


def _duration(text: str | float, table: str | os.PathLike, line: int) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise InputError(
            f"{table}, line {line}: the duration is {text!r}, not seconds"
        ) from error


def read_signal(path: str | os.PathLike, sample_rate: int) -> torch.Tensor:
    """Reads a file of a data set, in which nothing is resampled.

    Arguments
    ---------
    path : str or os.PathLike
        The file.
    sample_rate : int
        In Hz; what it must have.

    Returns
    -------
    torch.Tensor
        ``[T]``.

    Raises
    ------
    InputError
        If the file is unusable or has another sample rate.
    """
    signal, rate = read_audio(path)
    if rate != sample_rate:
        raise InputError(
            f"{path}: has {rate} Hz, but sample_rate is {sample_rate}"
        )
    return signal
