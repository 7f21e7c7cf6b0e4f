"""What an atlas shows besides its own run: the roles of another run, or of the steps of a training.

Both add *views*, by which the grid can be coloured, and one section with a sentence and a table.
The script prints the cells of that table as they are.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from headprobe import format as wording
from headprobe.format import clip, safe_text
from headprobe.report.colours import colour_class
from headprobe.report.comparison import answer, verdict_of
from headprobe.report.layout import marks
from headprobe.report.trace import trace_answer
from headprobe.results.comparison import ComparedHead, Comparison
from headprobe.results.trace import HeadEvent, Trace
from headprobe.results.views import REPEATER
from headprobe.vocabulary import NONE, REDUNDANT

Json = dict[str, Any]

NO_COUNTERPART = "no counterpart"
"""The kind of a head that has no counterpart in the other run."""

LABEL_WIDTH = 60
"""Characters after which the label of a view is cut."""


def role_view(label: str, roles: Sequence[str]) -> Json:
    """Return a view of the grid: a role for each head, by layer and head."""
    counts = Counter(roles)
    last = (REDUNDANT, NONE, NO_COUNTERPART)
    order = sorted(counts, key=lambda role: (role in last, -counts[role], role))
    chosen = marks(order)
    quiet = {REDUNDANT: REPEATER, NO_COUNTERPART: NONE}
    letters = {role: chosen[quiet.get(role, role)].letter for role in order}
    return {
        "label": clip(label, LABEL_WIDTH),
        "kinds": [
            {
                "name": safe_text(role),
                "letter": " " if role == NO_COUNTERPART else letters[role],
                "style": colour_class(quiet.get(role, role)),
                "heads": counts[role],
                "strongest": counts[role],
            }
            for role in order
        ],
        "heads": [order.index(role) for role in roles],
    }


def section(
    title: str,
    sentence: str,
    notes: Iterable[str],
    headings: Sequence[tuple[str, str]],
    rows: Iterable[tuple[int | None, Sequence[str]]],
) -> Json:
    """Return a section with a table, for a place before the table of heads.

    ``headings`` are the names of columns and ``number`` or an empty string; ``rows`` the number of
    a head of the grid, or None, and the cells.
    """
    return {
        "title": safe_text(title),
        "sentence": safe_text(sentence),
        "notes": [safe_text(note) for note in notes],
        "headings": [list(heading) for heading in headings],
        "rows": [
            {"head": head, "cells": [safe_text(cell) for cell in cells]} for head, cells in rows
        ],
    }


def comparison_data(comparison: Comparison) -> Json:
    """Return what the atlas of the first run shows of the second."""
    other = f"role in {comparison.b.run.name}"
    roles = [NO_COUNTERPART if h.role_b is None else h.role_b for h in comparison.heads]
    headings = _ONE_MODEL if comparison.same_model else _TWO_MODELS
    cells = _change_cells if comparison.same_model else _match_cells
    return {
        "views": [role_view(other, roles)],
        "section": section(
            f"Compared with {comparison.b.run.name}",
            answer(comparison),
            (f"A is this run, B is {comparison.b.run}.", *comparison.notes),
            headings,
            ((number, cells(head)) for number, head in enumerate(comparison.heads)),
        ),
    }


def trace_data(trace: Trace) -> Json:
    """Return what the atlas of the last step of a training shows of all its steps."""
    numbers = {name: place for place, name in enumerate(trace.heads)}
    return {
        "views": [
            role_view(f"step {step.step:,}{' (random weights)' if step.twin else ''}", step.roles)
            for step in trace.counted
        ],
        "slider": True,
        "section": section(
            "The training",
            trace_answer(trace),
            (
                "The slider colours the grid by the roles at a step. The table and the pages of "
                f"heads are those of the last one, step {trace.counted[-1].step:,}.",
                *trace.warnings,
            ),
            (("head", ""), ("role", ""), ("event", ""), ("after step", "number"), ("by", "number")),
            (
                (
                    numbers[each.head],
                    (each.head, each.role, each.event.kind, *map(_step, _ends(each))),
                )
                for each in trace.events
            ),
        ),
    }


def _ends(event: HeadEvent) -> tuple[int | None, int | None]:
    return event.event.after, event.event.by


def _step(step: int | None) -> str:
    return "" if step is None else f"{step:,}"


_TWO_MODELS = (
    ("head", ""),
    ("role", ""),
    ("head of B", ""),
    ("role", ""),
    ("affinity", "number"),
    ("floor", "number"),
    ("match", ""),
)

_ONE_MODEL = (
    ("head", ""),
    ("role in A", ""),
    ("role in B", ""),
    ("looks for", ""),
    ("gain in A", "number"),
    ("gain in B", "number"),
    ("change", "number"),
    ("interval", ""),
    ("q", "number"),
)


def _match_cells(head: ComparedHead) -> Sequence[str]:
    return (
        head.head_a,
        head.role_a,
        head.head_b or "",
        head.role_b or "",
        wording.decimal(head.affinity, 3),
        wording.decimal(head.floor95, 3),
        verdict_of(head),
    )


def _change_cells(head: ComparedHead) -> Sequence[str]:
    about = ""
    if head.relation is not None:
        about = wording.relation_words(head.family or "", head.relation, head.looks_to or "")
    return (
        head.head_a,
        head.role_a,
        head.role_b or "",
        about,
        wording.signed(head.gain_a),
        wording.signed(head.gain_b),
        wording.signed(head.change),
        wording.span(head.change_low, head.change_high),
        wording.p_value(head.q),
    )
