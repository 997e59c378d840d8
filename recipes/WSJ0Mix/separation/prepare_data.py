"""Lists a data set in the layout of WSJ0-mix in CSV files for SpeechBrain.

It takes the official WSJ0-2mix and WSJ0-3mix and what ``s4m mix`` makes:
``<data_folder>/wav8k/min/{tr,cv,tt}/{mix,s1,s2,...}/*.wav``, also with a
folder ``2speakers`` (``3speakers``) above ``wav8k``.
"""

import csv
import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from s4m_sb.atomic import replacing
from s4m_sb.audio import AudioInfo, audio_info
from s4m_sb.errors import InputError
from s4m_sb.mix_dataset import SPLITS, rate_folder

logger = logging.getLogger(__name__)

VERSIONS = ("min", "max")
OFFICIAL_COUNTS = {"tr": 20000, "cv": 5000, "tt": 3000}
HEADER_THREADS = 8  # for network storage
NAMES_SHOWN = 3


def prepare_wsj0mix(
    data_folder: str | os.PathLike,
    save_folder: str | os.PathLike,
    num_spks: int = 2,
    sample_rate: int = 8000,
    version: str = "min",
    skip_prep: bool = False,
    splits: Sequence[str] = SPLITS,
) -> dict[str, Path]:
    """Checks the data set and writes wsj_tr.csv, wsj_cv.csv and wsj_tt.csv.

    The columns are ``ID, duration, mix_wav, s1_wav, s2_wav, ...``, the
    duration in seconds.

    Arguments
    ---------
    data_folder : str or os.PathLike
        The folder that holds ``wav8k`` (``wav16k``), or the one above it.
    save_folder : str or os.PathLike
        Where the CSV files go.
    num_spks : int
        Speakers in a mixture.
    sample_rate : int
        In Hz; it decides between ``wav8k`` and ``wav16k``.
    version : str
        ``"min"``: mixtures are as long as their shortest utterance;
        ``"max"``: as the longest.
    skip_prep : bool
        Use the CSV files that are there.
    splits : sequence of str
        Which splits to list, of ``"tr"``, ``"cv"`` and ``"tt"``. Where
        training draws its mixtures itself, ``tr`` need not be there.

    Returns
    -------
    dict[str, Path]
        The CSV file of each split.

    Raises
    ------
    InputError
        If folders are missing, or files in them; if a sample rate is not
        ``sample_rate``; if a source is not as long as its mixture; if there
        are more sources than ``num_spks``.
    """
    if not splits or not set(splits) <= set(SPLITS):
        raise InputError(
            f"splits is {list(splits)}; give some of {', '.join(SPLITS)}"
        )
    tables = {split: Path(save_folder) / f"wsj_{split}.csv" for split in splits}
    if skip_prep:
        _check_there(list(tables.values()), "skip_prep")
        return tables
    if num_spks < 2:
        raise InputError(f"num_spks is {num_spks}; at least 2 are separated")
    if version not in VERSIONS:
        raise InputError(
            f"version is {version!r}; use one of {', '.join(VERSIONS)}"
        )
    root = _root(Path(data_folder), num_spks, sample_rate) / version
    kinds = ["mix", *(f"s{number}" for number in range(1, num_spks + 1))]
    _check_there(
        [root / split / kind for split in splits for kind in kinds],
        "data_folder",
    )
    for split in splits:
        beyond = root / split / f"s{num_spks + 1}"
        if beyond.exists():
            raise InputError(
                f"{beyond}: the mixtures have more sources than num_spks = "
                f"{num_spks}"
            )
    for split, table in tables.items():
        rows = _rows(root / split, kinds, sample_rate)
        _write_table(table, kinds, rows)
        _report(split, len(rows), num_spks, table)
    return tables


def _root(data_folder: Path, num_spks: int, sample_rate: int) -> Path:
    folder = rate_folder(sample_rate)
    candidates = [
        data_folder / folder,
        data_folder / f"{num_spks}speakers" / folder,
    ]
    for candidate in candidates:
        if candidate.is_dir():
            return candidate
    raise InputError(
        f"data_folder {data_folder}: holds neither {folder} nor "
        f"{num_spks}speakers/{folder}, for num_spks = {num_spks} at "
        f"{sample_rate} Hz"
    )


def _check_there(paths: list[Path], key: str) -> None:
    missing = [str(path) for path in paths if not path.exists()]
    if missing:
        raise InputError(f"{key}: missing " + ", ".join(missing))


def _rows(
    folder: Path, kinds: list[str], sample_rate: int
) -> list[dict[str, str]]:
    names = {
        kind: {
            entry.name
            for entry in os.scandir(folder / kind)
            if entry.name.endswith(".wav") and not entry.name.startswith(".")
        }
        for kind in kinds
    }
    if not names["mix"]:
        raise InputError(f"{folder / 'mix'}: holds no .wav files")
    for kind in kinds[1:]:
        _check_same(folder, names["mix"], kind, names[kind])
    in_order = sorted(names["mix"])
    paths = [[folder / kind / name for kind in kinds] for name in in_order]
    with ThreadPoolExecutor(HEADER_THREADS) as pool:
        lengths = pool.map(lambda files: _length(files, sample_rate), paths)
        return [
            {
                "ID": files[0].stem,
                "duration": f"{num_frames / sample_rate:.6g}",
            }
            | {
                f"{kind}_wav": str(path.absolute())
                for kind, path in zip(kinds, files, strict=True)
            }
            for files, num_frames in zip(paths, lengths, strict=True)
        ]


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
    folder: Path, mixtures: set[str], kind: str, sources: set[str]
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
            f"{folder}: mix and {kind} must hold files of the same names, "
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


def _write_table(
    table: Path, kinds: list[str], rows: list[dict[str, str]]
) -> None:
    columns = ["ID", "duration", *(f"{kind}_wav" for kind in kinds)]
    with (
        replacing(table) as temporary,
        open(temporary, "w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def _report(split: str, count: int, num_spks: int, table: Path) -> None:
    official = OFFICIAL_COUNTS[split]
    compared = "as in" if count == official else f"{official} in"
    logger.info(
        f"{table}: {count} mixtures of {num_spks} speakers ({compared} the "
        f"official WSJ0-{num_spks}mix)"
    )
