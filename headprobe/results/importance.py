"""What ``ablation.csv`` and ``takeover.csv`` say of single heads."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from headprobe.format import count
from headprobe.runs.folder import ABLATION, TAKEOVER, Run
from headprobe.runs.tables import Row

LOSS = "loss"
"""The outcome on text (docs/causal.md)."""

LOSSES = (LOSS, "query-loss")
"""The outcomes on which an ablation does harm where it raises the value."""

MEAN = "mean"
"""The replacement whose effects stand for a head where there are several."""

EFFECT_COLUMNS = (
    *("effect", "effect_low", "effect_high", "selectivity", "recovery", "recovery_control"),
)
"""Columns that ``headprobe heads`` adds: those of the head's own ablation, on ``loss``."""


def rows_by_head(run: Run) -> Mapping[str, tuple[Row, ...]]:
    """Return the rows of ``ablation.csv`` by each head that was ablated; those in which it was
    ablated by itself come first."""
    rows: defaultdict[str, list[Row]] = defaultdict(list)
    if ABLATION in run.tables:
        for row in run.iterate_rows(ABLATION):
            for name in row.text("heads").split(";"):
                rows[name].append(row)
    return {name: tuple(sorted(found, key=is_of_several)) for name, found in rows.items()}


def is_of_several(row: Row) -> bool:
    """Return whether several heads were ablated together."""
    return ";" in row.text("heads")


def single_effects(run: Run) -> Mapping[str, Mapping[str, Row]]:
    """Return the rows of heads that were ablated by themselves, by head and outcome.

    Of several replacements it is ``MEAN``, else the one that was written last.
    """
    effects: defaultdict[str, dict[str, Row]] = defaultdict(dict)
    for name, rows in rows_by_head(run).items():
        for row in rows:
            known = effects[name].get(row.text("outcome"))
            if not is_of_several(row) and (known is None or known.text("by") != MEAN):
                effects[name][row.text("outcome")] = row
    return effects


def effect_cells(rows: Mapping[str, Row]) -> dict[str, str]:
    """Return ``EFFECT_COLUMNS`` of a head from its rows by outcome; empty without an ablation."""
    row = rows.get(LOSS, Row({}))
    return {name: row.cells.get(name, "") for name in EFFECT_COLUMNS}


def takeovers_by_head(run: Run) -> Mapping[str, tuple[Row, ...]]:
    """Return the rows of ``takeover.csv`` by each head that was ablated or responded."""
    rows: defaultdict[str, list[Row]] = defaultdict(list)
    if TAKEOVER in run.tables:
        for row in run.iterate_rows(TAKEOVER):
            for name in dict.fromkeys((row.text("ablated"), row.text("responder"))):
                rows[name].append(row)
    return {name: tuple(members) for name, members in rows.items()}


def ablation_values(row: Row) -> dict[str, Any]:
    """Return a row of ``ablation.csv`` as JSON values."""
    return {**row.plain_values(), "heads": row.text("heads").split(";")}


def takeover_values(row: Row) -> dict[str, Any]:
    """Return a row of ``takeover.csv`` as JSON values."""
    cells = {name: cell for name, cell in row.cells.items() if name != "ablated"}
    return {"ablated": row.text("ablated"), **Row(cells).plain_values()}


RUNNING, STARTS, NEITHER, UNUSABLE = "running", "starts", "neither", "unusable"
"""The verdicts of ``takeover.csv``."""


def spare_engines(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return in one sentence whether a model has spare engines, from the rows of one call."""
    ablated = dict.fromkeys(row["ablated"] for row in rows)
    if not rows:
        return "Spare engines: unknown, because no other head was tested."
    if all(row["verdict"] == UNUSABLE for row in rows):
        return "Spare engines: unknown, because the intact model is not above chance on this text."
    running = [row for row in rows if row["verdict"] == RUNNING]
    starting = [row for row in rows if row["verdict"] == STARTS]
    tested = count(len(ablated), "ablated head")
    if not (running or starting):
        return f"Spare engines: none was found ({tested} tested)."
    parts = []
    # A pair in which one head starts interacts in the other direction as well
    started = {frozenset((row["ablated"], row["responder"])) for row in starting}
    pairs = {frozenset((row["ablated"], row["responder"])) for row in running} - started
    if pairs:
        parts.append(f"{count(len(pairs), 'pair')} of heads already do the same work")
    if starting:
        backed = len({row["ablated"] for row in starting})
        heads = len({row["responder"] for row in starting})
        parts.append(f"for {backed} a later head starts ({heads} such heads)")
    return f"Spare engines: yes. Among {tested}, {', and '.join(parts)}."
