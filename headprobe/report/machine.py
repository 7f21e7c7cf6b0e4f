"""The same for machines: values that JSON can hold."""

from collections import Counter
from dataclasses import asdict
from typing import Any

from headprobe.report.head_view import HeadView
from headprobe.report.palette import kind_of
from headprobe.store import run_folder
from headprobe.store.run_folder import CONTROLS, POWER, Run


def run_values(run: Run) -> dict[str, Any]:
    """A run: where it is, what it was made from, how many heads of each kind, every head."""
    heads = run.rows(run_folder.HEADS)
    return {
        **manifest_values(run),
        "kinds": dict(Counter(kind_of(head) for head in heads)),
        "heads": [head.plain_values() for head in heads],
        **{
            name: [row.plain_values() for row in run.rows(table)]
            for name, table in (("control_gains", CONTROLS), ("power", POWER))
            if table in run.tables
        },
        "skipped": [row.plain_values() for row in run.rows(run_folder.SKIPPED)],
    }


def manifest_values(run: Run) -> dict[str, Any]:
    """A run's folder and manifest."""
    return {"run": str(run.path), "manifest": asdict(run.manifest)}


def head_values(view: HeadView) -> dict[str, Any]:
    """One head."""
    return {
        "run": str(view.run),
        "head": view.head.plain_values(),
        "relations": [row.plain_values() for row in view.relations],
        "domains": [row.plain_values() for row in view.domains],
        "profile": [{"distance": name, "share": share} for name, share in view.profile],
        "examples": list(view.examples),
    }
