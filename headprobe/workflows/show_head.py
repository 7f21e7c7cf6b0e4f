"""Everything a run knows of one head, without the model."""

from headprobe.axes import head_name
from headprobe.errors import HeadprobeError
from headprobe.report.head_view import HeadView
from headprobe.store import run_folder
from headprobe.store.run_folder import Run
from headprobe.store.tables import Row

NEAR = 8
"""Distances up to here are shown one by one, longer ones in doubling ranges."""

REST = 0.01
"""The share below which all that is left goes into one last range."""


def show_head(run: Run, layer: int, head: int) -> HeadView:
    """The view of one head; HeadprobeError, with the range, where the model has no such head."""
    run.check_head(layer, head)
    rows = run.rows(run_folder.HEADS, (layer, head))
    if not rows:
        raise HeadprobeError(
            str(run.path / run_folder.HEADS), f"no row for {head_name(layer, head)}", "Scan again"
        )
    return HeadView(
        run=run.path,
        head=rows[0],
        relations=tuple(run.rows(run_folder.RELATIONS, (layer, head))),
        profile=_profile(run, layer, head),
        examples=tuple(run.examples((layer, head))),
        domains=_domains(run, layer, head),
    )


def _domains(run: Run, layer: int, head: int) -> tuple[Row, ...]:
    known = run_folder.DOMAINS in run.tables
    return tuple(run.rows(run_folder.DOMAINS, (layer, head))) if known else ()


def _profile(run: Run, layer: int, head: int) -> tuple[tuple[str, float], ...]:
    sums = run.tally("profile")[layer, head]
    total = float(sums.sum())
    if total <= 0:
        return ()
    ranges = [(distance, distance) for distance in range(1, min(NEAR, len(sums)) + 1)]
    first = NEAR + 1
    while first <= len(sums) and sums[first - 1 :].sum() > REST * total:
        last = min(2 * (first - 1), len(sums))
        ranges.append((first, last))
        first = last + 1
    shares = [
        (str(low) if low == high else f"{low}–{high}", float(sums[low - 1 : high].sum()) / total)
        for low, high in ranges
    ]
    rest = float(sums[first - 1 :].sum()) / total
    return (*shares, (f"{first}+", rest)) if rest > 0 else tuple(shares)
