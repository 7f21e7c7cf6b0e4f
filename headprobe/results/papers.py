"""Tables as a paper prints them, in LaTeX and Markdown."""

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from headprobe import format as wording
from headprobe.runs.folder import CLAIMS, POWER, Run
from headprobe.runs.tables import Row, iterate_rows

if TYPE_CHECKING:
    import pandas as pd

LONG = 40
"""Rows from which on a LaTeX table may break across pages."""

_MARKDOWN = re.compile(r"([\\`*_\[\]<>|#~$])")
"""Characters that Markdown renderers read as markup."""

ARROW = "→"


def paper_tables(run: Run) -> Mapping[str, "pd.DataFrame"]:
    """Return the tables of a run that a paper prints, as text cells, by name.

    ``claims`` has one row per head and role, ``power`` one per relation.
    """
    tables = {"claims": _frame(_claim(row) for row in iterate_rows(run.path / CLAIMS))}
    if POWER in run.tables:
        tables["power"] = _frame(_power(row) for row in iterate_rows(run.path / POWER))
    return MappingProxyType(tables)


def _frame(rows: "Iterable[dict[str, str]]") -> "pd.DataFrame":
    import pandas as pd

    return pd.DataFrame(list(rows))
