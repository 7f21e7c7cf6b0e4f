"""Tables as CSV files: UTF-8, one header row, one line per row, nothing a spreadsheet would run."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from headprobe.report.plain import plain
from headprobe.store.tables import guard

DIGITS = 6
"""Significant digits of a number; the folds' noise is far above the seventh."""


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    """Write ``frame`` without its index; what is missing becomes an empty cell."""
    columns = [_cells(frame[name]) for name in frame.columns]
    header = ",".join(_text(str(name)) for name in frame.columns)
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = map(",".join, zip(*columns, strict=True))
        file.write("\n".join((header, *rows)) + "\n")


def _cells(column: "pd.Series[Any]") -> list[str]:
    places, values = pd.factorize(column)  # each value is written once; a missing one has place -1
    texts = np.array([*_texts(values), ""], dtype=object)
    cells: list[str] = texts[places].tolist()
    return cells


def _texts(values: Any) -> list[str]:
    if pd.api.types.is_bool_dtype(values.dtype):
        return ["true" if value else "false" for value in values]
    if pd.api.types.is_float_dtype(values.dtype):
        return _numbers(np.asarray(values, dtype=np.float64))
    if pd.api.types.is_integer_dtype(values.dtype):
        return [str(value) for value in values]
    return [_text(str(value)) for value in values]


def _text(value: str) -> str:
    cell = guard(plain(value))
    quoted = '"' in cell or "," in cell
    return '"' + cell.replace('"', '""') + '"' if quoted else cell


def _numbers(values: NDArray[np.float64]) -> list[str]:
    # one formatting call for the whole column; adding zero turns -0 into 0
    return (f"%.{DIGITS}g\n" * len(values) % tuple((values + 0.0).tolist())).split("\n")[:-1]
