"""Rows of CSV files: each of them counts, or the file is refused.

What Python's reader takes without a word loses data: a row that is too short,
and all that stands behind a quote that nobody has closed.
"""

import csv
import os
from collections.abc import Mapping, Sequence

from s4m_sb.errors import InputError
from s4m_sb.system.files import replacing

Row = dict[str, str]
SEPARATORS = ";\t|"  # that spreadsheets write where others expect a comma


def read_csv(
    path: str | os.PathLike,
) -> tuple[list[str], list[tuple[int, Row]]]:
    """Reads a CSV file, in UTF-8 with or without a byte order mark.

    Arguments
    ---------
    path : str or os.PathLike
        The file. Empty lines in it mean nothing.

    Returns
    -------
    list of str
        The columns; none if the file is empty.
    list of tuple[int, dict[str, str]]
        Number of the line and cells by column, of each row.

    Raises
    ------
    InputError
        If it is no text, a column has no name or that of another, or a row
        has more or fewer cells than there are columns, an open quote, NUL
        characters or line breaks in it; with the line.

    Example
    -------
    >>> path = getfixture("tmp_path") / "speech.csv"
    >>> _ = path.write_text("file,speaker\\na.wav,anna\\n")
    >>> read_csv(path)
    (['file', 'speaker'], [(2, {'file': 'a.wav', 'speaker': 'anna'})])
    >>> _ = path.write_text("file,speaker\\na.wav\\n")
    >>> read_csv(path)
    Traceback (most recent call last):
    s4m_sb.errors.InputError: ...line 2: has 1 of 2 columns (a.wav)
    """
    columns: list[str] = []
    rows = []
    line = 1
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            for cells in reader:
                where = f"{path}, line {line}: "
                _check_text(cells, where)
                if not columns:
                    columns = cells
                    _check_columns(columns, where)
                elif cells:
                    if len(cells) != len(columns):
                        raise InputError(
                            f"{where}has {len(cells)} of {len(columns)} "
                            f"columns ({','.join(cells):.60})"
                        )
                    row = dict(zip(columns, cells, strict=True))
                    rows.append((line, row))
                line = reader.line_num + 1
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not a CSV file of text") from error
    except csv.Error as error:
        raise InputError(
            f"{path}, line {line}: has a quote that is not closed, or not "
            f"where a cell ends ({error})"
        ) from error
    return columns, rows


def write_csv(
    path: str | os.PathLike,
    rows: Sequence[Mapping[str, str | float]],
    columns: Sequence[str] = (),
) -> None:
    """Writes a CSV file, whole or not at all.

    Arguments
    ---------
    path : str or os.PathLike
        The file.
    rows : sequence of mapping of str to str or float
        All with the same keys.
    columns : sequence of str
        Of a file without rows.

    Example
    -------
    >>> path = getfixture("tmp_path") / "table.csv"
    >>> write_csv(path, [{"file": "1.wav", "seconds": 0.5}])
    >>> read_csv(path)
    (['file', 'seconds'], [(2, {'file': '1.wav', 'seconds': '0.5'})])
    """
    with (
        replacing(path) as temporary,
        open(temporary, "w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.DictWriter(file, list(rows[0]) if rows else columns)
        writer.writeheader()
        writer.writerows(rows)


def _check_text(cells: list[str], where: str) -> None:
    text = "".join(cells)
    if "\0" in text:
        raise InputError(f"{where}has NUL characters; is the file damaged?")
    if "\n" in text or "\r" in text:
        raise InputError(
            f"{where}has a line break in a cell; is a quote not closed?"
        )


def _check_columns(columns: list[str], where: str) -> None:
    for separator in SEPARATORS:
        if len(columns) == 1 and separator in columns[0]:
            raise InputError(
                f"{where}separates its columns by {separator!r}; commas are "
                "expected"
            )
    for column in columns:
        if columns.count(column) > 1:
            raise InputError(f"{where}has two columns {column!r}")
