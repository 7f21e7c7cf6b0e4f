"""Lists on screen: runs, probe sets, a scan's plan, changed roles, self-test, documentation."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.columns import Columns
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from headprobe import format as numbers
from headprobe.format import clip, safe_text
from headprobe.report.layout import LABEL, Column, draw_columns, draw_line, filled, marks
from headprobe.results.views import (
    CaseResult,
    Change,
    Estimate,
    Fault,
    Plan,
    ProbeSet,
    Sample,
    SelfTest,
)
from headprobe.runs.folder import HEADS, Run
from headprobe.runs.manifest import ModelNote, ProbeNote


def draw_runs(runs: Sequence[Run], console: Console) -> None:
    """Print one line per run, in the order given."""
    models = [run.manifest.model for run in runs]
    sizes = [f"{model.n_layers} x {model.n_heads}" for model in models]
    started = [safe_text(run.manifest.started[:16].replace("T", " ")) for run in runs]
    columns = [
        Column("run", [safe_text(run.path.name) for run in runs]),
        Column("model", [_model_name(model) for model in models], rank=3),
        Column("heads", sizes, rank=2, is_number=True),
        Column("probes", [_probe_names(run.manifest.probes) for run in runs], rank=4, folds=True),
        Column("started (UTC)", started, rank=1),
    ]
    draw_columns(columns, console)


def _model_name(model: ModelNote) -> str:
    is_path = model.kind in ("folder", "gguf")
    return clip(Path(model.asked).name if is_path else model.asked, 32)


def _probe_names(probes: Sequence[ProbeNote]) -> str:
    names = ", ".join(clip(probe.name, 24) for probe in probes[:2])
    more = len(probes) - 2
    return names + (f" and {numbers.count(more, 'more', 'more')}" if more > 0 else "")


def draw_probe_sets(sets: Sequence[ProbeSet], console: Console) -> None:
    """Print one line per set."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style=LABEL)
    table.add_column("set", overflow="fold", style="bold")
    for name in ("documents", "sentences", "words", "mentions"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("domains", overflow="fold")
    for each in sets:
        amounts = (each.documents, each.sentences, each.words, each.mentions)
        domains = ", ".join(clip(domain, 24) for domain in each.domains if domain)
        table.add_row(safe_text(each.name), *(f"{amount:,}" for amount in amounts), domains)
    console.print(table)


def draw_marks(marks: Sequence[tuple[str, str]], console: Console) -> None:
    """Print each class of marks and its characters; other punctuation is ``other``."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, characters in marks:
        table.add_row(safe_text(name), safe_text(characters))
    console.print(table)


def draw_samples(samples: Iterable[Sample], console: Console) -> None:
    """Print sentences with their relations, then the coreference chains of each document."""
    for sample in samples:
        domain = f"   {safe_text(sample.domain)}" if sample.domain else ""
        console.print(Text.assemble((safe_text(sample.id), "bold"), (domain, LABEL)))
        for sentence in sample.sentences:
            console.print(Padding(Text(safe_text(sentence.text)), (0, 0, 0, 2)))
            edges = "  ".join(
                f"{safe_text(name)}({safe_text(word)}→{safe_text(head)})"
                for name, word, head in sentence.edges
            )
            if edges:
                console.print(Padding(Text(edges, style=LABEL), (0, 0, 0, 4)))
        for mentions in sample.chains:
            same = " = ".join(clip(mention, 40) for mention in mentions)
            console.print(Padding(Text.assemble(("same: ", LABEL), same), (0, 0, 0, 2)))
        for name, query, targets in sample.declared:
            link = f"{clip(query, 40)} → {', '.join(clip(target, 40) for target in targets)}"
            console.print(
                Padding(Text.assemble((f"{safe_text(name)}: ", LABEL), link), (0, 0, 0, 2))
            )
        console.print()


def draw_plan(plan: Plan, console: Console) -> None:
    """Print the plan."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style=LABEL, no_wrap=True, min_width=8)
    table.add_column(overflow="fold")
    table.add_row("model", Text(safe_text(plan.model), style="bold"))
    layers = numbers.count(plan.n_layers, "layer")
    heads = f"{numbers.count(plan.n_heads, 'head')}, {numbers.groups(plan.n_kv_heads)}"
    where = f"{safe_text(plan.dtype)} on {safe_text(plan.device)}"
    if plan.quantization is not None:
        where = f"{safe_text(plan.quantization)}, {where}"
    if plan.dtype_reason:
        where += f" ({safe_text(plan.dtype_reason)})"
    table.add_row("", f"{safe_text(plan.architecture)}: {layers} of {heads}; {where}")
    if plan.adapter is not None:
        table.add_row("adapter", safe_text(plan.adapter))
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
    table.add_row("estimate", _estimate(plan.estimate, console.width - 10))
    console.print(table)
    draw_line(console, ("run       ", LABEL), safe_text(str(plan.target)))
    _relations(plan.relations, console)
    console.print(Text("\ndry run: nothing was measured", style=LABEL))


def _estimate(estimate: Estimate | None, width: int) -> str:
    """Format about how long the scan takes, by stage, and its peak memory."""
    if estimate is None:
        return "none: no small model of this shape could be timed here"

    def about(seconds: float) -> str:
        return numbers.duration(_rounded(seconds))

    stages = [f"{name} {about(seconds)}" for name, seconds in estimate.seconds.items()]
    total = about(sum(estimate.seconds.values()))
    time = filled([f"about {total}: {stages[0]}", *stages[1:]], width)
    return f"{time}\nabout {numbers.memory(_rounded(estimate.memory_mib))} of memory"


def _rounded(value: float) -> float:
    """Two significant digits: an estimate has no more."""
    return float(f"{value:.2g}")


def _relations(relations: Sequence[tuple[str, int]], console: Console) -> None:
    present = [(name, n) for name, n in relations if n]
    if not present:
        console.print(
            "\nno annotated relations: only probe-independent roles and redundancy are tested"
        )
        return
    console.print(
        Text.assemble("\n", ("relations", "bold"), ("   with their instances, most first", LABEL))
    )
    ordered = sorted(present, key=lambda each: -each[1])
    entries = [Text.assemble(f"{n:>7,}  ", (safe_text(name), LABEL)) for name, n in ordered]
    console.print(Columns(entries, padding=(0, 3), equal=True, column_first=True))


CHANGES_SHOWN = 16
"""Number of changed heads shown."""


def draw_changes(changes: Sequence[Change], run: Path, console: Console) -> None:
    """Print how many heads changed their role, and which; ``run`` is the run that was written."""
    if not changes:
        console.print(Text("\nno head changed its role", style="bold"))
        return
    whose = "its" if len(changes) == 1 else "their"
    title = f"{numbers.count(len(changes), 'head')} changed {whose} role"
    console.print(Text(f"\n{title}", style="bold"))
    chosen = marks(role for change in changes for role in (change.was, change.now))
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style=LABEL)
    for name in ("head", "was", "is now"):
        table.add_column(name, no_wrap=True)
    table.add_column("because", overflow="fold", style=LABEL)
    for change in changes[:CHANGES_SHOWN]:
        roles = (Text(clip(role, 16), chosen[role].style) for role in (change.was, change.now))
        table.add_row(safe_text(change.name), *roles, safe_text(change.reason))
    console.print(table)
    if len(changes) > CHANGES_SHOWN:
        more = len(changes) - CHANGES_SHOWN
        where = safe_text(str(run / HEADS))
        draw_line(console, (f"and {more:,} more: role and reason in {where}", LABEL))


def draw_selftest(result: SelfTest, console: Console) -> None:
    """Print a line for each planted case, totals of the others, and every fault."""
    console.print(_table([*(case for case in result.cases if case.planted), *result.totals]))
    console.print()
    faults = [(case, fault) for case in result.cases for fault in case.faults]
    if faults:
        console.print(_fault_table(faults))
        console.print()
    if result.right:
        console.print(
            f"every planted head was found, and no other head was named ({result.seconds:.0f} s)"
        )
    else:
        console.print("this is a bug in headprobe: please report the lines above")


def _table(cases: Sequence[CaseResult]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style=LABEL)
    table.add_column("checkpoint", overflow="fold")
    for name in ("heads", "planted", "found", "missed"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("falsely named", justify="right", max_width=7)
    for case in cases:
        table.add_row(
            safe_text(case.case),
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
            safe_text(fault.head),
            safe_text(fault.planted),
            ("falsely " if fault.named else "missed: ") + safe_text(fault.role),
            f"{safe_text(case.case)}: {safe_text(fault.reason)}",
        )
    return table


def draw_topics(topics: Iterable[tuple[str, str]], console: Console) -> None:
    """Print (name, summary) pairs, one line each."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style=LABEL)
    table.add_column("topic", no_wrap=True, overflow="ignore")
    table.add_column("about", overflow="fold")
    for name, summary in topics:
        table.add_row(name, summary)
    console.print(table)
    console.print("\nheadprobe docs TOPIC shows one of them.")


def draw_page(text: str, console: Console) -> None:
    """Print a page: rendered on a terminal, as Markdown elsewhere."""
    if not console.is_terminal:
        console.out(text, end="", highlight=False)
        return
    from rich.markdown import Markdown
    from rich.theme import Theme

    # rich's own style for code has a black background, which a light terminal shows as boxes.
    theme = Theme({"markdown.code": "cyan", "markdown.code_block": "default"})
    # Links between pages are file names. They mean nothing to a terminal, so their text is enough.
    with console.use_theme(theme):
        console.print(Markdown(text, code_theme="ansi_dark", hyperlinks=False))
