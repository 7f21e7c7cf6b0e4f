"""What a scan found, on one page."""

import shlex
from collections.abc import Iterator, Sequence

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from headprobe.axes import head_name
from headprobe.report import numbers
from headprobe.report.best_heads import best_heads, draw_best
from headprobe.report.controls_view import draw_controls
from headprobe.report.grid import legend, parts_groups, role_grid
from headprobe.report.palette import LABEL
from headprobe.report.parts import LISTED, listed, pairs_table, title
from headprobe.report.plain import clip, clip_start, plain
from headprobe.report.power_view import draw_power
from headprobe.store import run_folder
from headprobe.store.manifest import STAGES, Manifest
from headprobe.store.run_folder import Run
from headprobe.store.tables import Row
from headprobe.verdicts.rules import DUPLICATE, INDUCTION, POSITIONAL, UNNAMED, load_rules

FLAGGED = 3
"""Keys shown that draw attention whatever the text; all of them are in the manifest."""


def draw_summary(run: Run, console: Console) -> None:
    """Print the summary, the roles by layer, the best heads, what the controls earned, what could
    be missed, what was skipped, and what to type next."""
    manifest = run.manifest
    heads = run.rows(run_folder.HEADS)
    relations = run.rows(run_folder.RELATIONS)
    console.print(_facts(manifest, _other_rules(run), console.width))
    console.print(title("roles by layer"))
    for line in _grid(manifest, heads, console.width):
        console.print(line, no_wrap=True, overflow="ignore", crop=False)
    alike = run.rows(run_folder.PAIRS)
    for part in [*draw_best(heads, relations), *_by_conduct(heads), *_redundant(heads, alike)]:
        console.print(part)
    controls = run.rows(run_folder.CONTROLS) if run_folder.CONTROLS in run.tables else []
    power = run.rows(run_folder.POWER) if run_folder.POWER in run.tables else []
    for part in [*draw_controls(manifest.controls, controls), *draw_power(power)]:
        console.print(part)
    for part in _skipped(run.rows(run_folder.SKIPPED), console.width):
        console.print(part)
    console.print(_end(run, relations))


def _other_rules(run: Run) -> list[str]:
    """What the rules that judged the run say otherwise than the packaged ones."""
    path = run.path / run_folder.RULES
    return load_rules(path).changed(load_rules()) if path.exists() else []


def _facts(manifest: Manifest, rules: Sequence[str], width: int) -> Table:
    model = manifest.model
    table = pairs_table()
    table.add_row("model", Text(clip_start(model.asked, width - 10), style="bold"))
    table.add_row(
        "",
        f"{plain(model.architecture)}: {numbers.count(model.n_layers, 'layer')} of "
        f"{numbers.count(model.n_heads, 'head')}, {numbers.groups(model.n_kv_heads)}; "
        f"{plain(model.dtype)} on {plain(model.device)}"
        + (f" ({plain(model.dtype_reason)})" if model.dtype_reason else ""),
    )
    for place, probe in enumerate(manifest.probes[:LISTED]):
        amounts = (
            f"{numbers.count(probe.documents, 'document')}, "
            f"{numbers.count(probe.sentences, 'sentence')}, {numbers.count(probe.words, 'word')}"
        )
        table.add_row("" if place else "probes", f"{clip(probe.name, 40)}: {amounts}")
    if len(manifest.probes) > LISTED:
        table.add_row("", f"and {numbers.count(len(manifest.probes) - LISTED, 'more file')}")
    table.add_row("text", _text(manifest))
    for place, sink in enumerate(manifest.sinks_flagged[:FLAGGED]):
        more = len(manifest.sinks_flagged) - FLAGGED
        rest = f"   and {more:,} more" if place == FLAGGED - 1 and more > 0 else ""
        table.add_row("" if place else "sinks", clip(sink, width - 10 - len(rest)) + rest)
    if rules:
        table.add_row("rules", f"not the packaged ones: {listed(rules)}")
    stages = [f"{name} {numbers.duration(manifest.seconds[name])}" for name in _stages(manifest)]
    total = numbers.duration(sum(manifest.seconds.values()))
    table.add_row("time", f"{total} ({', '.join(stages)})" if stages else total)
    table.add_row("memory", f"{numbers.memory(manifest.peak_memory_mib)} at most")
    return table


def _stages(manifest: Manifest) -> list[str]:
    return [*(name for name in STAGES if name in manifest.seconds)]


def _text(manifest: Manifest) -> str:
    parts = [numbers.count(manifest.passages, "passage"), numbers.count(manifest.tokens, "token")]
    if manifest.sampled_from is not None:
        parts[0] += f" sampled from {manifest.sampled_from:,}"
    if manifest.bits_per_character is not None:
        parts.append(f"{manifest.bits_per_character.value:.2f} bits per character")
    if manifest.unusable_words:
        parts.append(f"{manifest.unusable_words:.1%} of words unusable")
    return ", ".join(parts)


def _grid(manifest: Manifest, heads: Sequence[Row], width: int) -> Iterator[Text]:
    model = manifest.model
    group = model.n_heads // max(min(model.n_kv_heads, default=1), 1)
    yield from role_grid(heads, group, width)
    yield Text()
    yield from legend(heads, width)
    key = "down: layers, across: heads"
    if parts_groups(model.n_heads, group, width, model.n_layers):
        key += ", gaps between KV groups"
    if any(";" in head.text("roles") for head in heads):
        key += "; letter: strongest role"
    yield Text(key, style=LABEL)


def _by_conduct(heads: Sequence[Row]) -> Iterator[RenderableType]:
    """The heads whose role is no matter of one relation, strongest first."""
    table = pairs_table()
    for role in (POSITIONAL, DUPLICATE, INDUCTION, UNNAMED):
        found = [row for row in heads if row.text("role") == role]
        found.sort(key=lambda row: -(row.number("strength") or 0.0))
        if found:
            table.add_row(role, listed([row.text("name") for row in found]))
    if table.row_count:
        yield title("whatever the probes ask", "strongest first; the evidence: show-head")
        yield table


def _redundant(heads: Sequence[Row], pairs: Sequence[Row]) -> Iterator[RenderableType]:
    table = pairs_table()
    idle = [row.text("name") for row in heads if row.flag("idle")]
    if idle:
        table.add_row("idle", listed(idle))
    repeats = [
        f"{r.text('name')} of {r.text('repeater_of')}" for r in heads if r.text("repeater_of")
    ]
    if repeats:
        table.add_row("repeaters", listed(repeats))
    opposes = [
        f"{row.text('name_a')} and {row.text('name_b')}"
        for row in pairs
        if row.text("relation") == "opposes"
    ]
    if opposes:
        table.add_row("opposed", listed(opposes))
    if table.row_count:
        yield title("redundant")
        yield table


def _skipped(rows: Sequence[Row], width: int) -> Iterator[RenderableType]:
    if not rows:
        return
    kinds: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        kinds.setdefault((row.text("what"), row.text("reason")), []).append(row)
    totals = {kind: sum(row.whole("count") for row in found) for kind, found in kinds.items()}
    ordered = sorted(kinds, key=lambda kind: -totals[kind])
    yield title("skipped", "all of it: skipped.csv" if len(rows) > len(ordered[:LISTED]) else "")
    table = Table.grid(padding=(0, 2))
    table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold")
    for kind in ordered[:LISTED]:
        words = f"{clip(kind[0], width)}: {clip(kind[1], width)}"
        places = len(kinds[kind])
        source = clip_start(kinds[kind][0].text("source"), width // 2)
        where = source if places == 1 else f"in {places:,} places"
        table.add_row(f"{totals[kind]:,}", Text.assemble(words, (f"   {where}", LABEL)))
    yield table


def next_steps(run: Run, relations: Sequence[Row]) -> list[str]:
    """Commands worth typing now, ``-r`` only where the run would not be found without it."""
    path = shlex.quote(str(run.path))
    found = run.path.absolute().parent == run_folder.RUNS.absolute()
    best = best_heads(relations)
    name = best[0][1].text("name") if best else head_name(0, 0)
    return [
        f"headprobe show-head {name}{'' if found else f' -r {path}'}",
        f"headprobe export{'' if found else f' {path}'} --csv tables",
    ]


def _end(run: Run, relations: Sequence[Row]) -> RenderableType:
    table = pairs_table()
    table.add_row("run", Text(plain(str(run.path)), style="bold"))
    for place, step in enumerate(next_steps(run, relations)):
        table.add_row("" if place else "next", plain(step))
    framed = Table.grid()
    framed.add_row("")
    framed.add_row(table)
    return framed
