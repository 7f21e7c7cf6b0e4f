"""The folder of a trace: what is written there, and reading it again without a model.

It has one run folder for each step, the tables of the trace, and ``trace.json``, which says what
was measured, so that a trace can be resumed.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self

from headprobe.analysis.onsets import irregular_gaps
from headprobe.errors import HeadprobeError
from headprobe.format import count
from headprobe.results.tables import write_csv
from headprobe.results.trace import Step, Trace, read_step, trace_tables
from headprobe.runs.files import atomic_write, read_json, read_or_fail, write_or_fail
from headprobe.runs.folder import HEADS, MANIFEST, Run
from headprobe.vocabulary import build_value

NOTE = "trace.json"
"""What was measured."""

_REMEDY = "Trace again with another folder: -o DIR"


@dataclass(frozen=True)
class StepNote:
    """A step of a trace."""

    step: int
    name: str
    """The folder or revision, as the user named it."""
    run: str
    """The name of its run folder."""
    commit: str | None = None
    """The commit of a revision on the Hub."""
    twin: bool = False
    """Whether it is random weights, in place of a checkpoint of step 0."""


@dataclass(frozen=True)
class TraceNote:
    """``trace.json``."""

    model: str
    fingerprint: Mapping[str, str]
    """What the results of all steps depend on, besides the checkpoints."""
    steps: tuple[StepNote, ...]
    downloaded: tuple[str, ...] = ()
    """The commits that the trace itself downloads, which ``--drop`` may remove."""
    warnings: tuple[str, ...] = field(default=())
    """What was said of checkpoints while they were measured."""

    def save(self, folder: Path) -> None:
        """Write it; HeadprobeError where it cannot be written."""
        text = json.dumps(asdict(self), indent=1) + "\n"
        target = folder / NOTE
        with write_or_fail(target, "Make room, or name another folder with -o"):
            folder.mkdir(parents=True, exist_ok=True)
            with atomic_write(target) as file:
                file.write(text.encode())

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read it; HeadprobeError where it is missing or damaged."""
        missing = HeadprobeError(
            str(folder), "is not the folder of a trace (no trace.json)", "Name the folder of one"
        )
        with read_or_fail(folder / NOTE, _REMEDY, "not a readable trace", missing) as path:
            note: Self = build_value(cls, read_json(path))
            names = [step.run for step in note.steps]
            if not names or len(set(names)) < len(names):
                raise ValueError("it has no steps, or two steps of one name")
            if any(Path(name).name != name or name in ("", ".", "..") for name in names):
                raise ValueError("a step is not inside the folder")
        return note


def is_trace(folder: Path) -> bool:
    """Whether a folder is that of a trace."""
    return (folder / NOTE).is_file()


def load_trace(folder: Path) -> Trace:
    """Read a trace; steps that are not measured yet are left out.

    Raises HeadprobeError where it has no step, or where steps are of different shapes.
    """
    note = TraceNote.load(folder)
    steps: list[Step] = []
    first: dict[str, int] = {}
    names: tuple[str, ...] = ()
    warnings = list(note.warnings)
    for each in sorted(note.steps, key=lambda each: each.step):
        path = folder / each.run
        if not (path / MANIFEST).is_file():
            continue
        run = Run.load(path)
        heads = tuple(row.text("name") for row in run.rows(HEADS))
        if names and heads != names:
            raise HeadprobeError(
                str(path),
                "has other heads than the steps before it",
                "Trace one training at a time",
            )
        names = heads
        weights = run.manifest.model.weights_sha256
        equal_to = first.get(weights)
        first.setdefault(weights, each.step)
        steps.append(read_step(each.step, each.name, run, equal_to, twin=each.twin))
        if equal_to is not None:
            warnings.append(f"steps {equal_to} and {each.step} have equal weights: they count once")
    if not steps:
        raise HeadprobeError(str(folder), "no step of it is measured", "Resume it with --resume")
    counted = [step.step for step in steps if step.equal_to is None]
    warnings += [
        f"steps seem to be missing between {earlier} and {later}: onsets there are wide"
        for earlier, later in irregular_gaps(counted)
    ]
    if missing := len(note.steps) - len(steps):
        warnings.append(f"{count(missing, 'step is', 'steps are')} not measured yet: --resume")
    return Trace(folder, note.model, names, tuple(steps), tuple(warnings))


def write_tables(trace: Trace) -> None:
    """Write the tables of a trace to its folder."""
    for name, table in trace_tables(trace).items():
        target = trace.path / name
        with write_or_fail(target, "Make room"):
            partial = target.with_name(f".{name}.partial")
            write_csv(table, partial)
            partial.replace(target)
