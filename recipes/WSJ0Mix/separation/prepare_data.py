"""Lists a data set in the layout of WSJ0-mix in CSV files for SpeechBrain.

It takes the official WSJ0-2mix and WSJ0-3mix and what ``s4m mix`` makes:
``<data_folder>/wav8k/min/{tr,cv,tt}/{mix,s1,s2,...}/*.wav``, also with a
folder ``2speakers`` (``3speakers``) above ``wav8k``.
"""

import logging
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
from s4m_sb.mixing.rows import write_csv

logger = logging.getLogger(__name__)


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
    tables = table_paths(save_folder, "wsj", splits, must_exist=skip_prep)
    if skip_prep:
        return tables
    if num_spks < 2:
        raise InputError(f"num_spks is {num_spks}; at least 2 are separated")
    root = find_root(data_folder, f"{num_spks}speakers", sample_rate, version)
    kinds = ["mix", *(f"s{number}" for number in range(1, num_spks + 1))]
    check_there(
        [root / split / kind for split in splits for kind in kinds],
        "data_folder",
    )
    check_no_more(
        [root / split / f"s{num_spks + 1}" for split in splits], num_spks
    )
    for split, table in tables.items():
        rows = list_mixtures(
            root / split, {kind: kind for kind in kinds}, sample_rate
        )
        write_csv(table, rows)
        count = counted(split, len(rows), num_spks, f"WSJ0-{num_spks}mix")
        logger.info(f"{table}: {count}")
    return tables
