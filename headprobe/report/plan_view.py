"""What a scan would do, told before it does it (``--dry-run``)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.columns import Columns
from rich.console import Console
from rich.table import Table
from rich.text import Text

from headprobe.report import numbers
from headprobe.report.palette import LABEL
from headprobe.report.plain import clip, plain
from headprobe.store.manifest import ProbeNote


@dataclass(frozen=True)
class Plan:
    """The model's shape from its config alone, the probes as they would be read, the folder that
    would be written. ``relations`` gives the name of each relation (``obj → head``) and its n."""

    model: str
    architecture: str
    n_layers: int
    n_heads: int
    n_kv_heads: tuple[int, ...]
    device: str
    dtype: str
    dtype_reason: str
    target: Path
    probes: tuple[ProbeNote, ...]
    passages: int
    tokens: int
    skipped: int
    controls: tuple[str, ...]
    relations: tuple[tuple[str, int], ...]
    quantization: str | None = None
    adapter: str | None = None


def draw_plan(plan: Plan, console: Console) -> None:
    """Print the plan."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style=LABEL, no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("model", Text(plain(plan.model), style="bold"))
    layers = numbers.count(plan.n_layers, "layer")
    heads = f"{numbers.count(plan.n_heads, 'head')}, {numbers.groups(plan.n_kv_heads)}"
    where = f"{plain(plan.dtype)} on {plain(plan.device)}"
    if plan.quantization is not None:
        where = f"{plain(plan.quantization)}, {where}"
    if plan.dtype_reason:
        where += f" ({plain(plan.dtype_reason)})"
    table.add_row("", f"{plain(plan.architecture)}: {layers} of {heads}; {where}")
    if plan.adapter is not None:
        table.add_row("adapter", plain(plan.adapter))
    for place, probe in enumerate(plan.probes):
        words = numbers.count(probe.words, "word")
        sentences = numbers.count(probe.sentences, "sentence")
        table.add_row("" if place else "probes", f"{clip(probe.name, 40)}: {sentences}, {words}")
    passages = numbers.count(plan.passages, "passage")
    table.add_row("text", f"{passages}, {numbers.count(plan.tokens, 'token')}")
    if plan.skipped:
        table.add_row("skipped", f"{plan.skipped:,}")
    if plan.controls:
        table.add_row("controls", ", ".join(plan.controls))
    table.add_row("run", plain(str(plan.target)))
    console.print(table)
    _relations(plan.relations, console)
    console.print(Text("\ndry run: nothing was measured", style=LABEL))


def _relations(relations: Sequence[tuple[str, int]], console: Console) -> None:
    found = [(name, n) for name, n in relations if n]
    if not found:
        console.print(
            "\nno annotated relations: only probe-independent roles and redundancy are tested"
        )
        return
    console.print(Text.assemble("\n", ("relations", "bold"), ("   and their instances", LABEL)))
    ordered = sorted(found, key=lambda each: -each[1])
    entries = [Text.assemble(f"{n:>7,}  ", (plain(name), LABEL)) for name, n in ordered]
    console.print(Columns(entries, padding=(0, 3), equal=True, column_first=True))
