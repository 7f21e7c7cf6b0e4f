"""When a role begins and ends, as the checkpoints of a training show it (docs/compare.md).

A role is seen only at checkpoints, so its onset is an interval, not a step.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["onset", "end"]


@dataclass(frozen=True)
class Event:
    """A role begins or ends between two checkpoints."""

    kind: Kind

    after: int | None
    """The step of the last checkpoint before the event; None where the role is there from the
    first checkpoint."""

    by: int | None
    """The step of the first checkpoint after it, which the next one confirms; None where the event
    is seen at the last checkpoint only, so that nothing confirms it (right-censored)."""


def find_events(steps: Sequence[int], held: Sequence[bool]) -> Iterator[Event]:
    """Yield the onsets and ends of a role that was ``held`` at some of the ``steps``.

    A role begins with the first of two checkpoints in a row that have it, and ends with the first
    of two in a row without it. A change that the next checkpoint takes back is no event.
    """
    present = False
    for place, now in enumerate(held):
        if now == present:
            continue
        after = steps[place - 1] if place else None
        kind: Kind = "onset" if now else "end"
        if place == len(steps) - 1:
            yield Event(kind, after, None)
        elif held[place + 1] == now:
            yield Event(kind, after, steps[place])
            present = now


def irregular_gaps(steps: Sequence[int], factor: float = 1.5) -> list[tuple[int, int]]:
    """Return the pairs of neighbouring steps between which steps seem to be missing.

    Series are spaced evenly, or by a constant ratio, or change from one to the other. A gap stands
    out if it is ``factor`` times as large as both its neighbours, as a difference or as a ratio.
    """
    pairs = list(itertools.pairwise(steps))
    differences = [float(later - earlier) for earlier, later in pairs]
    ratios = [later / earlier if earlier > 0 else float("inf") for earlier, later in pairs]
    return [
        pairs[place]
        for place in range(1, len(pairs) - 1)
        if any(
            gaps[place] >= factor * max(gaps[place - 1], gaps[place + 1])
            for gaps in (differences, ratios)
        )
    ]
