"""Tables as a paper prints them, in LaTeX and Markdown."""

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from headprobe import format as wording
from headprobe.runs.folder import CLAIMS, POWER, Run
from headprobe.runs.tables import Row

if TYPE_CHECKING:
    import pandas as pd

LONG = 40
"""Rows from which on a LaTeX table may break across pages."""

_MARKUP = re.compile(r"([\\`*_\[\]<>|#~$])")
"""Characters that Markdown renderers read as markup."""

NUMBERS = ("n", "top1", "gain", "held out", "category", "smallest gain", "forms")
"""Columns of numbers, which are set flush right."""


def paper_tables(run: Run) -> Mapping[str, "pd.DataFrame"]:
    """Return the tables of a run that a paper prints, as text cells, by name.

    ``claims`` has one row per head and role, ``power`` one per relation. Raises HeadprobeError if
    the run has no ``claims.csv``, as runs of versions before 0.2 do not.
    """
    tables = {"claims": _frame(map(_claim, run.iterate_rows(CLAIMS)))}
    if POWER in run.tables:
        tables["power"] = _frame(map(_power, run.iterate_rows(POWER)))
    return tables


def to_latex(table: "pd.DataFrame") -> str:
    """Return a LaTeX table with booktabs rules; long ones break across pages (longtable).

    A comment in the first line names the packages that it needs.
    """
    environment = "longtable" if len(table) > LONG else None
    columns = "".join("r" if name in NUMBERS else "l" for name in table.columns)
    text = (
        table.style.hide(axis="index")
        .format(escape="latex")
        .format_index(escape="latex", axis="columns")
        .to_latex(
            column_format=columns,
            hrules=True,
            environment=environment,
        )
    )
    packages = ",".join(["booktabs", *filter(None, [environment])])
    body = text.replace("→", r"$\rightarrow$").replace("–", "--")
    return f"% needs \\usepackage{{{packages}}}\n{body}"


def to_markdown(table: "pd.DataFrame") -> str:
    """Return a Markdown table; markup in cells is escaped."""
    escaped = table.map(lambda cell: _MARKUP.sub(r"\\\1", cell))
    align = ["right" if name in NUMBERS else "left" for name in table.columns]
    return escaped.to_markdown(index=False, disable_numparse=True, colalign=align) + "\n"


def _frame(rows: Iterable[Mapping[str, str]]) -> "pd.DataFrame":
    import pandas as pd

    return pd.DataFrame(list(rows), dtype=str)


def _claim(row: Row) -> dict[str, str]:
    has_relation = bool(row.text("relation"))
    span = wording.span(row.number("gain_low"), row.number("gain_high"))
    return {
        "role": wording.safe_text(row.text("role")),
        "head": row.text("name"),
        "looks for": _looks_for(row) if has_relation else wording.MISSING,
        "n": f"{row.whole('n'):,}" if row.text("n") else wording.MISSING,
        "top1": wording.fraction(row.number("top1")),
        "baseline": _baseline(row),
        "gain": wording.signed(row.number("gain")),
        "95 %": f"[{span}]" if has_relation else wording.MISSING,
        "held out": wording.signed(row.number("held_out")),
        "category": wording.fraction(row.number("category_top1")),
        "beats": row.text("beats") or wording.MISSING,
    }


def _power(row: Row) -> dict[str, str]:
    return {
        "looks for": _looks_for(row),
        "n": f"{row.whole('n'):,}",
        "forms": f"{row.whole('forms'):,}",
        "smallest gain": wording.fraction(row.number("detectable")),
        "limited by": wording.safe_text(row.text("why")) or wording.MISSING,
        "best head": row.text("best_head") or wording.MISSING,
        "held out": wording.signed(row.number("best_gain")),
    }


def _looks_for(row: Row) -> str:
    names = (row.text("family"), row.text("relation"), row.text("looks_to"))
    return wording.safe_text(wording.relation_words(*names))


def _baseline(row: Row) -> str:
    if row.number("baseline_top1") is None:
        return wording.MISSING
    name = wording.safe_text(wording.baseline_name(row.text("baseline")))
    return f"{wording.fraction(row.number('baseline_top1'))} {name}"
