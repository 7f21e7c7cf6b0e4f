"""Commands that only read runs: find a run, list runs, show a head, export tables."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import groupby
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from headprobe.errors import HeadprobeError
from headprobe.results.importance import rows_by_head, takeovers_by_head
from headprobe.results.views import HeadView
from headprobe.roles.rules import load_rules
from headprobe.runs import folder as run_folder
from headprobe.runs.checkpoint import ScanCheckpoint, find_checkpoints
from headprobe.runs.folder import (
    MANIFEST,
    RUNS,
    SHARD,
    Run,
    list_runs,
)
from headprobe.runs.recent import default_run, last_run
from headprobe.runs.tables import Row
from headprobe.vocabulary import head_name

if TYPE_CHECKING:
    from numpy.typing import NDArray

EXACT_DISTANCES = 8
"""Distances up to this one are shown singly, longer ones in ranges that double in width."""

MIN_REST_SHARE = 0.01
"""Share of attention below which the remaining distances form one last range."""


def show_head(run: Run, layer: int, head: int) -> HeadView:
    """Return the view of one head; HeadprobeError where the model has no such head."""
    run.check_head(layer, head)
    for view in head_views(run, (layer, head)):
        return view
    raise HeadprobeError(
        str(run.path / run_folder.HEADS), f"no row for {head_name(layer, head)}", "Scan again"
    )


def head_views(run: Run, only: tuple[int, int] | None = None) -> Iterator[HeadView]:
    """Yield the view of each head, by layer and head, or that of one (layer, head).

    Every table is read once, and no more than one head's rows are in memory. Raises HeadprobeError
    if a table is damaged or not in the order of ``heads.csv``.
    """
    tables = {
        name: _RowsByHead(run.iterate_rows(name, only), _of_row)
        for name in (run_folder.RELATIONS, run_folder.DOMAINS)
        if name == run_folder.RELATIONS or name in run.tables
    }
    examples = _RowsByHead(run.iterate_examples(only), _of_example)
    profiles = run.tally("profile")
    ablation, takeover = rows_by_head(run), takeovers_by_head(run)
    for row in run.iterate_rows(run_folder.HEADS, only):
        head = _of_row(row)
        rows = {name: table.take(head) for name, table in tables.items()}
        yield HeadView(
            run=run.path,
            head=row,
            relations=rows[run_folder.RELATIONS],
            profile=_profile(profiles[head], MIN_REST_SHARE),
            full_profile=_profile(profiles[head], 0.0),
            examples=examples.take(head),
            domains=rows.get(run_folder.DOMAINS, ()),
            ablation=ablation.get(head_name(*head), ()),
            takeover=takeover.get(head_name(*head), ()),
        )
    complete = {name: table.is_empty() for name, table in tables.items()}
    for name, is_empty in {**complete, run_folder.EXAMPLES: examples.is_empty()}.items():
        if not is_empty:
            raise HeadprobeError(
                str(run.path / name),
                "its rows are not ordered by layer and head, as in heads.csv",
                "Scan again, or restore the file",
            )


_T = TypeVar("_T")


class _RowsByHead(Generic[_T]):
    """The rows of a table that is ordered by layer and head, one head's after another's."""

    def __init__(self, rows: Iterable[_T], head_of: Callable[[_T], tuple[int, int]]) -> None:
        self._groups = groupby(rows, head_of)
        self._next = next(self._groups, None)

    def take(self, head: tuple[int, int]) -> tuple[_T, ...]:
        """The rows of ``head``; none if the next rows are another head's."""
        if self._next is None or self._next[0] != head:
            return ()
        rows = tuple(self._next[1])
        self._next = next(self._groups, None)
        return rows

    def is_empty(self) -> bool:
        """Whether all rows were taken."""
        return self._next is None


def _of_row(row: Row) -> tuple[int, int]:
    return row.whole("layer"), row.whole("head")


def _of_example(example: Mapping[str, Any]) -> tuple[int, int]:
    return example["layer"], example["head"]


def _profile(sums: "NDArray[Any]", rest_share: float) -> tuple[tuple[str, float], ...]:
    """Ranges of word distance and their shares of ``sums`` [D].

    The last range is open if it begins where the share of the remaining distances is at most
    ``rest_share``. With 0 the heads of a run have the same ranges: a head lacks only those to which
    it gives nothing.
    """
    total = float(sums.sum())
    if total <= 0:
        return ()
    ranges = [(distance, distance) for distance in range(1, min(EXACT_DISTANCES, len(sums)) + 1)]
    first = EXACT_DISTANCES + 1
    while first <= len(sums) and sums[first - 1 :].sum() > rest_share * total:
        last = min(2 * (first - 1), len(sums))
        ranges.append((first, last))
        first = last + 1
    shares = [
        (str(low) if low == high else f"{low}–{high}", float(sums[low - 1 : high].sum()) / total)
        for low, high in ranges
    ]
    rest = float(sums[first - 1 :].sum()) / total
    return (*shares, (f"{first}+", rest)) if rest > 0 else tuple(shares)


def find_run(path: Path | None, note: Callable[[str], None]) -> Run:
    """Return a run by its folder, or by the folder's name under ``headprobe-runs``.

    Without a ``path`` it is the run that was written last, wherever it is, or if that is gone the
    newest one in ``headprobe-runs``. ``note`` is called with a message that names it.
    """
    if path is None:
        chosen, last = default_run(), last_run()
        gone = "" if last in (None, chosen) else f" (the run written last, {last}, is gone)"
        note(f"run: {chosen}{gone}")
        return Run.load(chosen)
    under = RUNS / path
    return Run.load(under if not path.exists() and under.is_dir() else path)


def unfinished(folder: Path = RUNS) -> list[ScanCheckpoint]:
    """Return the partial scans in ``folder`` that can be resumed, one checkpoint per scan."""
    return [
        checkpoint
        for checkpoint in find_checkpoints(folder)
        if checkpoint.rank == 0
        and not any((checkpoint.target / name).is_file() for name in (MANIFEST, SHARD))
    ]


def runs(folder: Path = RUNS) -> tuple[list[Run], list[HeadprobeError]]:
    """Return all runs in ``folder``, newest first, and the errors of those that cannot be read."""
    return list_runs(folder)


def unearned_roles(run: Run) -> list[tuple[str, Row | None]]:
    """Return the roles of the user that no head has, with the row of ``power.csv`` that came
    closest to each; None where no relation of the role has instances."""
    path = run.path / run_folder.RULES
    if not path.exists() or run_folder.POWER not in run.tables:
        return []
    packaged = load_rules().roles
    earned = {row.text("role") for row in run.rows(run_folder.CLAIMS)}
    power = [row for row in run.rows(run_folder.POWER) if row.whole("n")]
    unearned: list[tuple[str, Row | None]] = []
    for name, rule in load_rules(path).roles.items():
        if name in earned or name in packaged:
            continue
        rows = [
            row
            for row in power
            if row.text("family") == rule.family and rule.relation in ("", row.text("relation"))
        ]
        unearned.append((name, max(rows, key=_best_gain, default=None)))
    return unearned


def _best_gain(row: Row) -> float:
    gain = row.number("best_gain")
    return -inf if gain is None else gain


def rule_changes(run: Run) -> list[str]:
    """Return how the rules that judged a run differ from the packaged ones, one text per rule."""
    path = run.path / run_folder.RULES
    return load_rules(path).changed(load_rules()) if path.exists() else []
