"""The table of ``headprobe ablate``."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from headprobe.format import clip, p_value, safe_text
from headprobe.report.layout import LABEL

if TYPE_CHECKING:
    import pandas as pd


def row_values(table: "pd.DataFrame") -> list[dict[str, Any]]:
    """Return the rows with None for empty cells and lists of heads, as JSON needs them."""
    rows = []
    for row in table.to_dict("records"):
        values: dict[str, Any] = {
            str(name): None if isinstance(value, float) and math.isnan(value) else value
            for name, value in row.items()
        }
        rows.append({**values, "heads": values["heads"].split(";")})
    return rows


def draw_ablation(rows: Sequence[Mapping[str, Any]], console: Console) -> None:
    """Print one line per set and outcome: the effect with its interval, beside random sets."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style=LABEL)
    table.add_column("set", overflow="fold", style="bold")
    table.add_column("outcome", overflow="fold")
    for name in ("intact", "effect", "interval", "random 95%", "p", "q"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        if not row["usable"]:
            table.add_row(
                clip(row["set"], 40), safe_text(row["outcome"]), _number(row["base"]), "unusable"
            )
            continue
        low, high = row["effect_low"], row["effect_high"]
        interval = "" if low is None else f"[{_number(low)} {_number(high)}]"
        table.add_row(
            clip(row["set"], 40),
            safe_text(row["outcome"]),
            _number(row["base"]),
            _number(row["effect"]),
            interval,
            _number(row["random_q95"]),
            safe_text(row["null"]) if row["p"] is None else p_value(row["p"]),
            p_value(row["q"]) + (" *" if row["important"] else ""),
        )
    console.print(table)
    console.print("loss: nats per token, higher is harm. Pairs: margin in nats, lower is harm.")
    console.print("* important: q and the p of every null with 19 sets or more are at most .05")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:+.3f}"
