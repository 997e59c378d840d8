"""Tables as people and programs read them: Markdown and CSV.

Above this file: `quality_table.py`, `speed_table.py`.
"""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from s4m_sb.system.files import replacing


def grid(lines: Iterable[list[str]]) -> str:
    """Cells as a table in Markdown."""
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def write_csv(
    rows: list[dict[str, Any]], columns: Sequence[str], path: Path
) -> None:
    """Writes the rows, whole or not at all."""
    with (
        replacing(path) as temporary,
        open(temporary, "w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
