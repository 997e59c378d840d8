"""Lists WHAM! or WHAMR! in CSV files for SpeechBrain.

It takes the official data sets and what ``s4m mix`` makes with ``--noise``
and ``--reverb``: ``<data_folder>/wav8k/min/{tr,cv,tt}/<folder>/*.wav``. For
WHAM! the folders are ``mix_both``, ``mix_clean``, ``mix_single``, ``s1``,
``s2``, ...; for WHAMR! the same twice, as ``mix_both_reverb``, ``s1_reverb``
and as ``mix_both_anechoic``, ``s1_anechoic``.
"""

import logging
import math
import os
from collections.abc import Sequence
from pathlib import Path

from s4m_sb.errors import InputError
from s4m_sb.mixing.datasets.layout import SPLITS
from s4m_sb.mixing.datasets.tables import (
    check_no_more,
    check_there,
    counted,
    find_root,
    list_mixtures,
    table_paths,
)
from s4m_sb.mixing.rows import read_csv, write_csv

logger = logging.getLogger(__name__)

# The keys, their values, and how the official data sets are called.
DATASETS = {"wham": "WHAM!", "whamr": "WHAMR!"}
MIXTURES = ("mix_clean", "mix_both", "mix_single")
TARGETS = ("anechoic", "reverb")


def prepare_wham(
    data_folder: str | os.PathLike,
    save_folder: str | os.PathLike,
    dataset: str = "wham",
    mixture: str = "mix_both",
    target: str = "anechoic",
    num_spks: int = 2,
    sample_rate: int = 8000,
    version: str = "min",
    reverb_params: str | os.PathLike | None = None,
    skip_prep: bool = False,
    splits: Sequence[str] = SPLITS,
) -> dict[str, Path]:
    """Checks the data set; writes wham_tr.csv, wham_cv.csv and wham_tt.csv.

    The columns are ``ID, duration, mix_wav, s1_wav, s2_wav, ...``, the
    duration in seconds and the sources those that are the targets. In
    whamr_tr.csv, whamr_cv.csv and whamr_tt.csv follow ``s1_image_wav``, ...,
    the sources as they are in the mixture, where these are not the targets,
    and ``rt60_s``, the reverberation time in seconds, where it is known.

    Arguments
    ---------
    data_folder : str or os.PathLike
        The folder that holds ``wav8k`` (``wav16k``), or the one above it if
        it is called ``wham`` (``whamr``).
    save_folder : str or os.PathLike
        Where the CSV files go.
    dataset : str
        ``"wham"``, without reverberation, or ``"whamr"``.
    mixture : str
        ``"mix_clean"``, speakers alone; ``"mix_both"``, speakers and noise;
        or ``"mix_single"``, the first speaker and noise.
    target : str
        Of WHAMR!, in all splits: ``"anechoic"`` or ``"reverb"``.
    num_spks : int
        Speakers in a mixture; 1 for ``"mix_single"``.
    sample_rate : int
        In Hz; it decides between ``wav8k`` and ``wav16k``.
    version : str
        ``"min"``: mixtures are as long as their shortest utterance;
        ``"max"``: as the longest.
    reverb_params : str or os.PathLike, optional
        The folder of WHAMR!'s scripts that holds ``reverb_params_tr.csv``,
        ``_cv`` and ``_tt``, for the reverberation times. Data sets of ``s4m
        mix`` bring them along.
    skip_prep : bool
        Use the CSV files that are there.
    splits : sequence of str
        Which splits to list, of ``"tr"``, ``"cv"`` and ``"tt"``.

    Returns
    -------
    dict[str, Path]
        The CSV file of each split.

    Raises
    ------
    InputError
        If keys do not fit each other; if folders are missing, or files in
        them; if a sample rate is not ``sample_rate``; if a source is not as
        long as its mixture; if there are more sources than ``num_spks``.
    """
    check_keys(dataset, mixture, target, num_spks)
    if dataset == "wham" and reverb_params is not None:
        raise InputError("reverb_params: dataset wham has no reverberation")
    tables = table_paths(save_folder, dataset, splits, must_exist=skip_prep)
    if skip_prep:
        return tables
    root = find_root(data_folder, dataset, sample_rate, version)
    folders = [root / split for split in splits]
    if dataset == "whamr":
        heard, wanted = "_reverb", f"_{target}"
    else:
        heard = wanted = _anechoic(folders, mixture)
    sources = [f"s{number}" for number in range(1, num_spks + 1)]
    kinds = {"mix": mixture + heard}
    kinds |= {source: source + wanted for source in sources}
    if wanted != heard:
        kinds |= {f"{source}_image": source + heard for source in sources}
    check_there(
        [folder / kind for folder in folders for kind in kinds.values()],
        "data_folder",
    )
    if mixture != "mix_single":
        beyond = f"s{num_spks + 1}{heard}"
        check_no_more([folder / beyond for folder in folders], num_spks)
    for split, table in tables.items():
        rows = list_mixtures(root / split, kinds, sample_rate)
        if dataset == "whamr":
            _add_rt60(rows, split, root, reverb_params)
        write_csv(table, rows)
        count = counted(split, len(rows), num_spks, DATASETS[dataset])
        logger.info(f"{table}: {kinds['mix']}, {count}")
    return tables


def check_keys(dataset: str, mixture: str, target: str, num_spks: int) -> None:
    """Refuses keys that are unknown or do not fit each other.

    Arguments
    ---------
    dataset, mixture, target : str
        See `prepare_wham`.
    num_spks : int
        Speakers in a mixture.

    Raises
    ------
    InputError
        Which names the key.
    """
    for key, value, values in (
        ("dataset", dataset, DATASETS),
        ("mixture", mixture, MIXTURES),
        ("target", target, TARGETS),
    ):
        if value not in values:
            raise InputError(
                f"{key} is {value!r}; use one of {', '.join(values)}"
            )
    if dataset == "wham" and target == "reverb":
        raise InputError(
            "target is 'reverb', but dataset wham has no reverberation; use "
            "target anechoic or dataset whamr"
        )
    if mixture == "mix_single" and num_spks != 1:
        raise InputError(
            f"num_spks is {num_spks}; in mix_single there is 1 speaker"
        )
    if mixture != "mix_single" and num_spks < 2:
        raise InputError(
            f"num_spks is {num_spks}; at least 2 are separated, or use "
            "mixture mix_single"
        )


def _anechoic(folders: list[Path], mixture: str) -> str:
    """How the folders without reverberation end: in WHAMR! they say so."""
    plain = any((folder / mixture).is_dir() for folder in folders)
    suffix = "_anechoic"
    marked = any((folder / (mixture + suffix)).is_dir() for folder in folders)
    return suffix if marked and not plain else ""


def _add_rt60(
    rows: list[dict[str, str]],
    split: str,
    root: Path,
    reverb_params: str | os.PathLike | None,
) -> None:
    """Adds the column ``rt60_s`` if there is a file that knows it."""
    if reverb_params is None:  # what `s4m mix` writes
        path = root / "metadata.csv"
        columns = ("mixture", "rt60_s")
        if not path.is_file():
            return
    else:
        path = Path(reverb_params) / f"reverb_params_{split}.csv"
        columns = ("utterance_id", "T60")
        check_there([path], "reverb_params")
    known = _read_columns(path, columns, split)
    values = [known.get(row["ID"], "") for row in rows]
    if any(values):
        for row, value in zip(rows, values, strict=True):
            row["rt60_s"] = _seconds(path, row["ID"], value or "nan")
    elif reverb_params is not None:
        raise InputError(
            f"{path}: must have the columns {' and '.join(columns)} and the "
            f"mixtures of {root / split}, but names none of them"
        )


def _read_columns(
    path: Path, columns: tuple[str, str], split: str
) -> dict[str, str]:
    """The second column by the names in the first, without their suffix."""
    there, rows = read_csv(path)
    if not set(columns) <= set(there):
        return {}
    return {
        row[columns[0]].removesuffix(".wav"): row[columns[1]]
        for _, row in rows
        if row.get("split", split) == split
    }


def _seconds(path: Path, name: str, text: str) -> str:
    """A reverberation time as it stands there, or nan."""
    try:
        usable = text == "nan" or 0 < float(text) < math.inf
    except ValueError:
        usable = False
    if not usable:
        raise InputError(f"{path}: the RT60 of {name} is {text!r}, not seconds")
    return text
