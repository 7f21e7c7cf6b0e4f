"""What ``headprobe trace`` found: the roles of all heads at every step of a training."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headprobe.analysis.onsets import Event, find_events
from headprobe.results.views import roles_of
from headprobe.runs.folder import CLAIMS, HEADS, Run
from headprobe.vocabulary import NONE

if TYPE_CHECKING:
    import pandas as pd

TRACE = "trace.csv"
"""One row per step, head and role that the head holds."""

ONSETS = "onsets.csv"
"""One row per onset or end of a head's role."""

STEPS = "steps.csv"
"""One row per step."""


@dataclass(frozen=True)
class HeldRole:
    """A role that a head holds at a step, and the gain that it rests on."""

    head: str
    role: str
    gain: float | None
    gain_low: float | None


@dataclass(frozen=True)
class Step:
    """One checkpoint of a training."""

    step: int
    name: str
    """The folder or revision, as the user named it."""
    run: Path
    """The run folder with its results."""
    weights: str
    """The hash of its weights."""
    bits: float | None
    """Bits per character of the text."""
    roles: tuple[str, ...]
    """The strongest role of each head, by layer and head."""
    held: tuple[HeldRole, ...]
    equal_to: int | None = None
    """An earlier step with the same weights: this one does not count."""
    twin: bool = False
    """Whether these are random weights, in place of a checkpoint of step 0."""

    @property
    def named(self) -> int:
        """The number of heads with a role."""
        return sum(role != NONE for role in self.roles)

    @cached_property
    def counts(self) -> Mapping[str, int]:
        """The number of heads that hold each role."""
        return Counter(each.role for each in self.held)


@dataclass(frozen=True)
class HeadEvent:
    """The onset or the end of a role of one head."""

    head: str
    role: str
    event: Event

    @property
    def is_dated(self) -> bool:
        """Whether it lies between two checkpoints."""
        return self.event.after is not None and self.event.by is not None


@dataclass(frozen=True)
class Trace:
    """The steps of one training, by step."""

    path: Path
    model: str
    heads: tuple[str, ...]
    """The names of all heads, by layer and head."""
    steps: tuple[Step, ...]
    warnings: tuple[str, ...] = ()

    @property
    def counted(self) -> tuple[Step, ...]:
        """The steps whose weights differ from those of all earlier steps."""
        return tuple(step for step in self.steps if step.equal_to is None)

    @cached_property
    def events(self) -> tuple[HeadEvent, ...]:
        """All onsets and ends, by head, role and step."""
        steps = self.counted
        held = [{(each.head, each.role) for each in step.held} for step in steps]
        order = {name: place for place, name in enumerate(self.heads)}
        pairs = sorted(set().union(*held), key=lambda pair: (order[pair[0]], pair[1]))
        return tuple(
            HeadEvent(*pair, event)
            for pair in pairs
            for event in find_events([step.step for step in steps], [pair in each for each in held])
        )

    @property
    def onsets(self) -> tuple[HeadEvent, ...]:
        """The onsets that lie between two checkpoints."""
        return tuple(each for each in self.events if each.event.kind == "onset" and each.is_dated)

    @property
    def first(self) -> Mapping[str, HeadEvent]:
        """The first onset of each role that a checkpoint confirms; those from the start come
        first."""
        confirmed = [e for e in self.events if e.event.kind == "onset" and e.event.by is not None]
        confirmed.sort(key=lambda each: each.event.by or 0)
        return {each.role: each for each in reversed(confirmed)}

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles that any head holds at any step, the most frequent at the last step first."""
        last = self.steps[-1].counts
        found = {role for step in self.steps for role in step.counts}
        return tuple(sorted(found, key=lambda role: (-last.get(role, 0), role)))


def read_step(
    step: int, name: str, run: Run, equal_to: int | None = None, *, twin: bool = False
) -> Step:
    """Read one step from its run."""
    heads = run.rows(HEADS)
    gains: dict[tuple[str, str], tuple[float | None, float | None]] = {}
    for row in run.iterate_rows(CLAIMS):
        pair = row.text("name"), row.text("role")
        gains.setdefault(pair, (row.number("gain"), row.number("gain_low")))
    held = tuple(
        HeldRole(row.text("name"), role, *gains.get((row.text("name"), role), (None, None)))
        for row in heads
        for role in roles_of(row)
    )
    bits = run.manifest.bits_per_character
    return Step(
        step=step,
        name=name,
        run=run.path,
        weights=run.manifest.model.weights_sha256,
        bits=None if bits is None else bits.value,
        roles=tuple(row.text("role") or NONE for row in heads),
        held=held,
        equal_to=equal_to,
        twin=twin,
    )


def trace_tables(trace: Trace) -> "dict[str, pd.DataFrame]":
    """Return the tables of a trace by file name: ``TRACE``, ``ONSETS`` and ``STEPS``."""
    rows = [
        (step.step, each.head, each.role, each.gain, each.gain_low, step.bits)
        for step in trace.steps
        for each in step.held
    ]
    events = [(e.head, e.role, e.event.kind, e.event.after, e.event.by) for e in trace.events]
    steps = [
        (s.step, s.name, s.run.name, s.bits, s.named, s.equal_to, s.twin, s.weights)
        for s in trace.steps
    ]
    return {
        TRACE: _frame(
            rows, "step:int64 head:str role:str gain:float64 gain_low:float64 bits:float64"
        ),
        ONSETS: _frame(events, "head:str role:str event:str after:Int64 by:Int64"),
        STEPS: _frame(
            steps,
            "step:int64 name:str run:str bits:float64 named:int64 equal_to:Int64 twin:bool "
            "weights_sha256:str",
        ),
    }


def _frame(rows: Sequence[Sequence[Any]], columns: str) -> "pd.DataFrame":
    """A DataFrame with columns given as ``name:dtype``."""
    import pandas as pd

    kinds = dict(column.split(":") for column in columns.split())
    frame = pd.DataFrame(rows, columns=list(kinds), dtype=object)
    return pd.DataFrame({name: pd.Series(frame[name], dtype=kind) for name, kind in kinds.items()})


def trace_values(trace: Trace) -> dict[str, Any]:
    """Return a trace as JSON values."""
    return {
        "path": str(trace.path),
        "model": trace.model,
        "warnings": list(trace.warnings),
        "steps": [
            {
                "step": step.step,
                "name": step.name,
                "run": str(step.run),
                "bits": step.bits,
                "named": step.named,
                "equal_to": step.equal_to,
                "twin": step.twin,
                "roles": dict(step.counts),
            }
            for step in trace.steps
        ],
        "events": [
            {"head": each.head, "role": each.role, **_event_values(each.event)}
            for each in trace.events
        ],
    }


def _event_values(event: Event) -> dict[str, Any]:
    values = asdict(event)
    return {"event": values.pop("kind"), **values}
