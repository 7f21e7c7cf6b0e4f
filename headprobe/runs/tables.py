"""Reading the CSV tables of a run: column types, and cells that are safe in a spreadsheet.

The writer (``results.tables``) keeps each row on one line, and the rows of ``heads.csv``,
``relations.csv`` and ``domains.csv`` begin with layer and head. The rows of one head can therefore
be read without parsing the others, and without pandas.
"""

import csv
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from headprobe.errors import HeadprobeError
from headprobe.format import clip
from headprobe.runs.files import read_or_fail

if TYPE_CHECKING:
    import pandas as pd

COUNTS = (
    *("layer", "head", "kv_group", "n", "best_offset", "count", "forms", "n_all"),
    *("positional_rows", "sets", "matched_sets", "controls"),
)
"""Columns of integers, in any table."""

GAPPED_COUNTS = ("cluster",)
"""Columns of integers with empty cells, in any table."""

GAPPED_COUNTS_OF = MappingProxyType({"claims.csv": ("n",)})
"""Further columns of integers with empty cells, by table: not every role rests on instances."""

FLAGS = ("idle", "same_kv_group", "can_say", "usable", "important")
"""Columns of ``true`` and ``false``."""

TEXTS = (
    "name", "role", "roles", "reason", "repeater_of", "best_relation", "best_looks_to", "baseline",
    "best_start", "beats", "family", "relation", "looks_to", "name_a", "name_b", "source", "what",
    "control", "domain", "why", "best_head", "set", "heads", "by", "outcome", "null",
    "matched_null", "responder", "verdict",
)  # fmt: skip
"""Columns of text. Every other column holds numbers."""

TEXTS_OF = MappingProxyType({"takeover.csv": ("ablated",)})
"""Further columns of text, by table: in ``ablation.csv`` the same name is that of a number."""

_START = r"""(?:^|(?<=[;\t\r\n]))"""
"""Where a spreadsheet may begin a cell: at the start of one of ours, and after a character that it
may take for a separator (``;`` where commas are decimal marks)."""

_FORMULA = r"""(?=[ "']*[=+\-@\t\r\n＝＋－＠])"""
"""What a spreadsheet runs as a formula there, after spaces and quotation marks that it drops."""

_UNGUARDED, _GUARDED = re.compile(_START + _FORMULA), re.compile(_START + "'" + _FORMULA)


def guard(text: str) -> str:
    """``text`` with an apostrophe wherever a spreadsheet would begin a formula."""
    return _UNGUARDED.sub("'", text)


def unguard(cell: str) -> str:
    """The text from which ``guard`` made ``cell``."""
    return _GUARDED.sub("", cell) if "'" in cell else cell


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
        """The cell's integer; 0 if the table has no such column."""
        return int(self.cells.get(column, "0"))

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


def iterate_rows(
    path: Path, head: tuple[int, int] | None = None, columns: Collection[str] = ()
) -> Iterator[Row]:
    """Yield the rows of a table, or only those of one (layer, head).

    HeadprobeError if the table lacks one of the ``columns``, if a cell is not of its column's type
    or if the file is damaged. ``relations.csv`` of 1,024 heads and 80 relations would take half a
    gigabyte as a list.
    """
    start = "" if head is None else f"{head[0]},{head[1]},"
    with _reading(path), path.open(encoding="utf-8", newline="") as lines:
        header = _header(lines, columns)
        rows = csv.reader((line for line in lines if line.startswith(start)), strict=True)
        yield from _rows(header, rows, _gapped(path), _texts(path))


def _header(lines: Iterator[str], columns: Collection[str] = ()) -> list[str]:
    """The names of the columns; ValueError if one of ``columns`` is missing, or one is twice."""
    header = next(csv.reader([next(lines, "")], strict=True), [])
    if not header or len(set(header)) < len(header):
        raise ValueError("it has no header, or a column twice")
    if missing := [name for name in columns if name not in header]:
        raise ValueError(f"it has no column {missing[0]}")
    return header


def _reading(path: Path) -> AbstractContextManager[Path]:
    """``read_or_fail`` with the messages for tables."""
    remedy = "Scan again, or name another run"
    missing = HeadprobeError(str(path), "the run has no such table", remedy)
    return read_or_fail(path, what="not a readable table", missing=missing)


def _gapped(path: Path) -> tuple[str, ...]:
    """The columns of integers that may have empty cells in a table."""
    return (*GAPPED_COUNTS, *GAPPED_COUNTS_OF.get(path.name, ()))


def _texts(path: Path) -> tuple[str, ...]:
    """The columns of text of a table."""
    return (*TEXTS, *TEXTS_OF.get(path.name, ()))


def _rows(
    header: list[str],
    rows: Iterator[list[str]],
    gapped: Collection[str],
    texts: Collection[str] = TEXTS,
) -> Iterator[Row]:
    checks = [_check_of(column, gapped, texts) for column in header]
    for number, cells in enumerate(rows, start=2):
        if len(cells) != len(header):
            raise ValueError(f"{len(cells)} cells in a row, {len(header)} in the header")
        for column, fits, cell in zip(header, checks, cells, strict=True):
            if not fits(cell):
                raise ValueError(f"row {number}: {column} is {clip(cell, 40)!r}")
        yield Row(dict(zip(header, cells, strict=True)))


_COUNT = re.compile(r"[0-9]{1,18}")

_WHOLE = re.compile(r"-?[0-9]{1,18}")

_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?(e[-+]?[0-9]{1,2})?")


def _check_of(
    column: str, gapped: Collection[str], texts: Collection[str]
) -> Callable[[str], object]:
    """What says whether a cell is of the column's type."""
    if column in texts:
        return lambda _: True
    if column in FLAGS:
        return ("true", "false").__contains__
    if column in COUNTS and column not in gapped:
        return (_WHOLE if column == "best_offset" else _COUNT).fullmatch
    pattern = _WHOLE if column in gapped else _NUMBER
    return lambda cell: not cell or pattern.fullmatch(cell)


def read_frame(path: Path) -> "pd.DataFrame":
    """The table as a DataFrame. HeadprobeError if damaged.

    Columns are int64 (``COUNTS``), Int64 (those that may have empty cells), bool
    (``FLAGS``), str (``TEXTS``, with empty cells missing) or float64 (all others).
    """
    import pandas as pd

    kinds = dict.fromkeys(COUNTS, "int64") | dict.fromkeys(_gapped(path), "Int64")
    kinds |= dict.fromkeys(FLAGS, "bool") | dict.fromkeys(_texts(path), "str")
    with _reading(path):
        with path.open(encoding="utf-8", newline="") as lines:
            header = _header(lines)
        frame = pd.read_csv(
            path,
            encoding="utf-8",
            keep_default_na=False,
            na_values=[""],
            dtype={name: kinds.get(name, "float64") for name in header},
        )
    for name in header:
        if name in _texts(path) and frame[name].str.contains("'", regex=False).any():
            frame[name] = frame[name].map(unguard, na_action="ignore")
    return frame
