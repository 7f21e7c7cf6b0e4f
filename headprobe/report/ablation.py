"""The table of ``headprobe ablate``."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table

from headprobe.format import MISSING, clip, count, p_value, safe_text
from headprobe.report.layout import LABEL, Column, draw_columns, title
from headprobe.results.views import AblationPlan, HeadView
from headprobe.runs.tables import Row

if TYPE_CHECKING:
    import pandas as pd


def table_values(table: "pd.DataFrame") -> list[dict[str, Any]]:
    """Return the rows with None for empty cells."""
    return [
        {
            str(name): None if isinstance(value, float) and math.isnan(value) else value
            for name, value in row.items()
        }
        for row in table.to_dict("records")
    ]


def row_values(table: "pd.DataFrame") -> list[dict[str, Any]]:
    """Return the rows of ``ablation.csv`` with lists of heads, as JSON needs them."""
    return [{**row, "heads": row["heads"].split(";")} for row in table_values(table)]


def draw_ablation_plan(plan: AblationPlan, console: Console) -> None:
    """Print what an ablation would run."""
    console.print(f"sets of heads   {clip(', '.join(plan.sets), 200)}")
    random = count(max(0, plan.interventions - len(plan.sets)), "random set")
    console.print(f"interventions   {plan.interventions:,}, with {random}")
    console.print(f"text            {plan.text_tokens:,} tokens")
    console.print(
        f"minimal pairs   {plan.pairs:,} ({plan.pair_tokens:,} tokens): "
        f"{clip(', '.join(plan.outcomes[1:]), 200) or 'none'}"
    )
    passes = count(math.ceil(plan.passes), "pass", "passes")
    console.print(f"work            as much as {passes} of the whole model")


def draw_ablation(rows: Sequence[Mapping[str, Any]], console: Console) -> None:
    """Print one line per set and outcome: the effect with its interval, beside random sets."""
    usable = [bool(row["usable"]) for row in rows]
    pairs = list(zip(rows, usable, strict=True))
    recovery = [recovery_words(row) if can else ("", "") for row, can in pairs]
    stars = [" *" if row["important"] else "" for row in rows]

    def numbers(name: str, key: str, rank: int) -> Column:
        cells = [_number(row[key]) if can else "" for row, can in pairs]
        return Column(name, cells, rank=rank, is_number=True)

    columns = [
        Column("set", [clip(row["set"], 40) for row in rows], folds=True),
        Column("outcome", [clip(row["outcome"], 40) for row in rows], folds=True),
        Column("intact", [f"{row['base']:.3f}" for row in rows], rank=4, is_number=True),
        Column(
            "effect",
            [_number(row["effect"]) if can else "unusable" for row, can in pairs],
            is_number=True,
        ),
        Column("95 % interval", [_interval(row) for row in rows], rank=2),
        numbers("random,\n95th pct.", "random_q95", 5),
        Column("p", [_p_words(row) if can else "" for row, can in pairs], rank=3, is_number=True),
        Column(
            "q",
            [
                p_value(row["q"]) + star if can else ""
                for (row, can), star in zip(pairs, stars, strict=True)
            ],
            rank=1,
            is_number=True,
        ),
    ]
    if any(value for value, _ in recovery):
        both = [f"{value} / {control}" if value else "" for value, control in recovery]
        columns.append(Column("recovery / control", both, rank=3))
    draw_columns(columns, console)
    console.print("loss: nats per token, higher is harm. Pairs: margin in nats, lower is harm.")
    console.print(
        "p compares the effect with random sets of heads in the same layers. * important: q and p "
        "are at most .05"
    )
    if any(can and row["p"] is None for row, can in pairs):
        console.print("too few: there are fewer than 19 random sets, so q decides alone")
    if any(row["recovery"] is not None for row in rows):
        console.print(
            "recovery: share of the harm that is undone where heads keep their attention to the "
            "words that their labels name; control: to other words"
        )
    if any(not row["usable"] for row in rows):
        console.print("unusable: the intact model is not above chance, so no effect is given")


def _interval(row: Mapping[str, Any]) -> str:
    low, high = row["effect_low"], row["effect_high"]
    return "" if low is None else f"{_number(low)} {_number(high)}"


def _p_words(row: Mapping[str, Any]) -> str:
    return safe_text(row["null"]) if row["p"] is None else p_value(row["p"])


def recovery_words(row: Mapping[str, Any]) -> tuple[str, str]:
    """Return the recovery of a row with its interval, and that of the control."""
    if row["recovery"] is None:
        return "", ""
    low, high = row["recovery_low"], row["recovery_high"]
    interval = "" if low is None else f" [{low:.2f} {high:.2f}]"
    return f"{row['recovery']:.2f}{interval}", f"{row['recovery_control']:.2f}"


def effect_text(value: float | None) -> str:
    """Return an effect with its sign and three decimals; a dash for one that was not computed."""
    return MISSING if value is None else f"{value:+.3f}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:+.3f}"


def draw_importance(view: HeadView) -> Iterator[RenderableType]:
    """Yield what ablation says of one head, and what takes over from it."""
    if view.ablation:
        yield title("without this head", "effect of its ablation; * important")
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style=LABEL)
        table.add_column("ablated", overflow="fold")
        table.add_column("outcome", overflow="fold")
        for name in ("effect", "interval", "q", "recovery", "control"):
            table.add_column(name, justify="right", no_wrap=True)
        for row in view.ablation:
            cells = clip(row.text("set"), 40), safe_text(row.text("outcome"))
            if not row.flag("usable"):
                table.add_row(*cells, "unusable")
                continue
            low, high = row.number("effect_low"), row.number("effect_high")
            table.add_row(
                *cells,
                effect_text(row.number("effect")),
                "" if low is None else f"[{_number(low)} {_number(high)}]",
                p_value(row.number("q")) + (" *" if row.flag("important") else ""),
                *recovery_words(_recovery(row)),
            )
        yield Padding(table, (0, 0, 0, 2))


def recovery_text(row: Row) -> str:
    """Return the recovery of a row of ``ablation.csv`` and its control in words, if it has one."""
    recovery, control = recovery_words(_recovery(row))
    return f"{recovery}, control {control}" if recovery else ""


def _recovery(row: Row) -> dict[str, float | None]:
    names = ("recovery", "recovery_low", "recovery_high", "recovery_control")
    return {name: row.number(name) for name in names}
