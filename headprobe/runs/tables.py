"""Reading the CSV tables of a run: column types, and cells that are safe in a spreadsheet.

The writer (``results.tables``) keeps each row on one line, and the rows of ``heads.csv``,
``relations.csv`` and ``domains.csv`` begin with layer and head. The rows of one head can therefore
be read without parsing the others, and without pandas.
"""

import csv
import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from headprobe.errors import HeadprobeError
from headprobe.runs.files import read_or_fail

if TYPE_CHECKING:
    import pandas as pd

COUNTS = (
    *("layer", "head", "kv_group", "n", "best_offset", "count", "forms", "n_all"),
    "positional_rows",
)
"""Columns of integers, in any table."""

GAPPED_COUNTS = ("cluster",)
"""Columns of integers with empty cells."""

FLAGS = ("idle", "same_kv_group", "can_say")
"""Columns of ``true`` and ``false``."""

TEXTS = (
    "name", "role", "roles", "reason", "repeater_of", "best_relation", "best_looks_to", "baseline",
    "best_start", "beats", "family", "relation", "looks_to", "name_a", "name_b", "source", "what",
    "control", "domain", "why", "best_head",
)  # fmt: skip
"""Columns of text. Every other column holds numbers."""

_FORMULA = re.compile(r"'*[=+\-@\t\r\n＝＋－＠]")
_GUARDED = re.compile(r"'+[=+\-@\t\r\n＝＋－＠]")


def guard(text: str) -> str:
    """``text``, preceded by an apostrophe if a spreadsheet would run it as a formula."""
    return "'" + text if _FORMULA.match(text) else text


def unguard(cell: str) -> str:
    """The text from which ``guard`` made ``cell``."""
    return cell[1:] if _GUARDED.match(cell) else cell


class Row:
    """One row of a table. The caller chooses the type of each cell."""

    __slots__ = ("cells",)

    def __init__(self, cells: Mapping[str, str]) -> None:
        self.cells = cells

    def text(self, column: str) -> str:
        """The cell's text; empty if the table has no such column."""
        return unguard(self.cells.get(column, ""))

    def number(self, column: str) -> float | None:
        """The cell's number; None if it is empty or the table has no such column."""
        cell = self.cells.get(column, "")
        return float(cell) if cell else None

    def whole(self, column: str) -> int:
        """The cell's integer; KeyError if the table has no such column."""
        return int(self.cells[column])

    def flag(self, column: str) -> bool:
        """Whether the cell is ``true``."""
        return self.cells.get(column, "") == "true"

    def plain_values(self) -> dict[str, str | int | float | bool | None]:
        """Every cell in the type of its column; None if it is empty."""
        return {column: self._value(column) for column in self.cells}

    def _value(self, column: str) -> str | int | float | bool | None:
        if not self.cells[column]:
            return None
        if column in TEXTS:
            return self.text(column)
        if column in FLAGS:
            return self.flag(column)
        return self.whole(column) if column in COUNTS + GAPPED_COUNTS else self.number(column)


def read_rows(path: Path, head: tuple[int, int] | None = None) -> list[Row]:
    """The rows of a table, or only those of one (layer, head). HeadprobeError if damaged."""
    start = "" if head is None else f"{head[0]},{head[1]},"
    with _reading(path), path.open(encoding="utf-8", newline="") as lines:
        header = next(csv.reader([next(lines, "")]), [])
        rows = csv.reader(line for line in lines if line.startswith(start))
        return list(_rows(header, rows))


def _reading(path: Path) -> AbstractContextManager[Path]:
    """``read_or_fail`` with the messages for tables."""
    remedy = "Scan again, or name another run with -r"
    missing = HeadprobeError(str(path), "the run has no such table", remedy)
    return read_or_fail(path, what="not a readable table", missing=missing)


def _rows(header: list[str], rows: Iterator[list[str]]) -> Iterator[Row]:
    for cells in rows:
        if len(cells) != len(header):
            raise ValueError(f"{len(cells)} cells in a row, {len(header)} in the header")
        yield Row(dict(zip(header, cells, strict=True)))


def read_frame(path: Path) -> "pd.DataFrame":
    """The table as a DataFrame. HeadprobeError if damaged.

    Columns are int64 (``COUNTS``), Int64 (``GAPPED_COUNTS``), bool (``FLAGS``), str (``TEXTS``,
    with empty cells missing) or float64 (all others).
    """
    import pandas as pd

    kinds = dict.fromkeys(COUNTS, "int64") | dict.fromkeys(GAPPED_COUNTS, "Int64")
    kinds |= dict.fromkeys(FLAGS, "bool") | dict.fromkeys(TEXTS, "str")
    with _reading(path):
        with path.open(encoding="utf-8", newline="") as lines:
            header = next(csv.reader([next(lines, "")]), [])
        frame = pd.read_csv(
            path,
            encoding="utf-8",
            keep_default_na=False,
            na_values=[""],
            dtype={name: kinds.get(name, "float64") for name in header},
        )
    for name in header:
        if name in TEXTS and frame[name].str.startswith("'").any():
            frame[name] = frame[name].map(unguard, na_action="ignore")
    return frame
