"""What the self-test found, case by case."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from headprobe.report.palette import LABEL
from headprobe.report.plain import plain


@dataclass(frozen=True)
class Fault:
    """A head that lacks a ``role`` it was given, or has one that it was not given (``named``). No
    ``head`` where all that is known is how many."""

    head: str
    planted: str
    role: str
    named: bool
    reason: str


@dataclass(frozen=True)
class CaseResult:
    """A checkpoint: its heads, how many roles were ``planted`` in them, how many of these were
    ``found`` and ``missed``, and how many others ``falsely_named``."""

    case: str
    kind: str
    heads: int
    planted: int
    found: int
    missed: int
    falsely_named: int
    faults: tuple[Fault, ...]


@dataclass(frozen=True)
class SelfTest:
    """All cases, and their sums by kind of checkpoint."""

    cases: tuple[CaseResult, ...]
    totals: tuple[CaseResult, ...]
    right: bool
    seconds: float


def draw_selftest(found: SelfTest, console: Console) -> None:
    """Print a line for each planted case, the sums of the others, and every fault."""
    console.print(_table([*(case for case in found.cases if case.planted), *found.totals]))
    console.print()
    faults = [(case, fault) for case in found.cases for fault in case.faults]
    if faults:
        console.print(_fault_table(faults))
        console.print()
    if found.right:
        console.print(f"every planted head was found, and nothing else ({found.seconds:.0f} s)")
    else:
        console.print("this is a bug of headprobe: please report the lines above")


def _table(cases: Sequence[CaseResult]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style=LABEL)
    table.add_column("checkpoint", overflow="fold")
    for name in ("heads", "planted", "found", "missed"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("falsely named", justify="right", max_width=7)
    for case in cases:
        table.add_row(
            plain(case.case),
            *(f"{n:,}" for n in (case.heads, case.planted, case.found, case.missed)),
            Text(f"{case.falsely_named:,}", style="bold red" if case.falsely_named else ""),
        )
    return table


def _fault_table(faults: Sequence[tuple[CaseResult, Fault]]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style=LABEL)
    for name in ("head", "planted as", "fault"):
        table.add_column(name)
    table.add_column("checkpoint, and the reason that the run gives", overflow="fold")
    for case, fault in faults:
        table.add_row(
            plain(fault.head),
            plain(fault.planted),
            ("falsely " if fault.named else "missed: ") + plain(fault.role),
            f"{plain(case.case)}: {plain(fault.reason)}",
        )
    return table
