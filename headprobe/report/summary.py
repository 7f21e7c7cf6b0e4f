"""What a scan found, on one page."""

import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from math import inf

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from headprobe.axes import head_name
from headprobe.report import numbers
from headprobe.report.grid import legend, parts_groups, role_grid
from headprobe.report.names import asked_words
from headprobe.report.palette import LABEL, NONE, kind_of, marks
from headprobe.report.plain import clip, clip_start, plain
from headprobe.store import run_folder
from headprobe.store.manifest import STAGES, Manifest
from headprobe.store.run_folder import Run
from headprobe.store.tables import Row

BEST = 5
"""Heads shown per role, each the best for another relation."""

LONGEST = 24
"""Characters of a name after which it is cut."""

FLAGGED = 3
"""Keys shown that draw attention whatever the text; all of them are in the manifest."""

LISTED = 8
"""Names listed before the rest is counted."""


def draw_summary(run: Run, console: Console) -> None:
    """Print the summary, the roles by layer, the best heads, what was skipped, and what to type
    next."""
    manifest = run.manifest
    heads = run.rows(run_folder.HEADS)
    relations = run.rows(run_folder.RELATIONS)
    console.print(_facts(manifest, console.width))
    console.print(_title("roles by layer"))
    for line in _grid(manifest, heads, console.width):
        console.print(line, no_wrap=True, overflow="ignore", crop=False)
    for part in [*_best(heads, relations), *_redundant(heads, run.rows(run_folder.PAIRS))]:
        console.print(part)
    for part in _skipped(run.rows(run_folder.SKIPPED), console.width):
        console.print(part)
    console.print(_end(run, relations))


def relation_words(row: Row) -> str:
    """What a row of ``relations.csv`` asks for, as people read it."""
    return clip(
        asked_words(*(row.text(name) for name in ("family", "relation", "looks_to"))), 2 * LONGEST
    )


def baseline_words(row: Row) -> str:
    """``.40 offset -2``: the best baseline's top1, its name, for an offset which one."""
    name = clip(row.text("baseline"), 12)
    if name == "offset" and row.text("best_offset"):
        name += f" -{row.whole('best_offset')}"
    return f"{numbers.fraction(row.number('baseline_top1'))} {name}"


def _title(text: str, note: str = "") -> Text:
    return Text.assemble("\n", (text, "bold"), (f"   {note}" if note else "", LABEL))


def _pairs() -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style=LABEL, no_wrap=True)
    table.add_column(overflow="fold")
    return table


def _facts(manifest: Manifest, width: int) -> Table:
    model = manifest.model
    table = _pairs()
    table.add_row("model", Text(clip_start(model.asked, width - 10), style="bold"))
    table.add_row(
        "",
        f"{plain(model.architecture)}: {numbers.count(model.n_layers, 'layer')} of "
        f"{numbers.count(model.n_heads, 'head')}, {numbers.groups(model.n_kv_heads)}; "
        f"{plain(model.dtype)} on {plain(model.device)}",
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
    stages = [f"{name} {numbers.duration(manifest.seconds[name])}" for name in _stages(manifest)]
    total = numbers.duration(sum(manifest.seconds.values()))
    table.add_row("time", f"{total} ({', '.join(stages)})" if stages else total)
    table.add_row("memory", f"{numbers.memory(manifest.peak_memory_mib)} at most")
    return table


def _stages(manifest: Manifest) -> list[str]:
    return [*(name for name in STAGES if name in manifest.seconds)]


def _text(manifest: Manifest) -> str:
    parts = [numbers.count(manifest.passages, "passage"), numbers.count(manifest.tokens, "token")]
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


def _best(heads: Sequence[Row], relations: Sequence[Row]) -> Iterator[RenderableType]:
    shown = best_heads(relations)
    if not shown:
        reasons = {head.text("reason") for head in heads if kind_of(head) == NONE}
        yield _title("no head could be judged", plain(min(reasons)) if len(reasons) == 1 else "")
        return
    if shown[0][0]:
        yield _title(
            "best heads", "chosen on half the documents, gain on the other, the rest on all"
        )
    else:
        yield _title("no head earned a named role", "what came nearest, by the lower end of gain")
    yield _best_table(shown)


def best_heads(relations: Sequence[Row]) -> list[tuple[str, Row]]:
    """(role, row) of the best heads, chosen by ``gain_a``: per role at most ``BEST``, the best for
    each relation before the second best. Where no role was earned, those that came nearest, by
    ``gain_low``, as no half of the documents is kept from choosing what is no finding."""
    earned = [row for row in relations if row.text("role")]
    if not earned:
        judged = [row for row in relations if row.number("q") is not None]
        return [("", row) for row in _best_rows(judged, "gain_low")]
    roles = list(dict.fromkeys([*marks([]), *sorted(row.text("role") for row in earned)]))
    return [
        (role, row)
        for role in roles
        for row in _best_rows([row for row in earned if row.text("role") == role])
    ]


def _best_rows(rows: Sequence[Row], column: str = "gain_a") -> list[Row]:
    def gain(row: Row) -> float:
        value = row.number(column)
        return -inf if value is None else value

    ranked: list[tuple[int, Row]] = []
    met: Counter[tuple[str, str, str]] = Counter()
    for row in sorted(rows, key=gain, reverse=True):
        asked = (row.text("family"), row.text("relation"), row.text("looks_to"))
        ranked.append((met[asked], row))
        met[asked] += 1
    ranked.sort(key=lambda each: each[0])
    return sorted((row for _, row in ranked[:BEST]), key=gain, reverse=True)


def _best_table(rows: Sequence[tuple[str, Row]]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style=LABEL)
    named = any(role for role, _ in rows)
    if named:
        table.add_column("role", no_wrap=True)
    table.add_column("head", no_wrap=True)
    table.add_column("looks for", overflow="fold")
    for name in ("n", "top1"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("baseline", no_wrap=True)
    table.add_column("gain", justify="right", no_wrap=True)
    if not named:
        table.add_column("95 %", no_wrap=True)
    chosen = marks(role for role, _ in rows if role)
    before = ""
    for role, row in rows:
        first = (
            [Text("" if role == before else clip(role, 12), chosen[role].style)] if named else []
        )
        table.add_row(
            *first,
            row.text("name"),
            relation_words(row),
            f"{row.whole('n'):,}",
            numbers.fraction(row.number("top1")),
            baseline_words(row),
            Text(numbers.signed(row.number("gain_b" if named else "gain")), style="bold"),
            *([] if named else [numbers.span(row.number("gain_low"), row.number("gain_high"))]),
        )
        before = role
    return table


def _redundant(heads: Sequence[Row], pairs: Sequence[Row]) -> Iterator[RenderableType]:
    table = _pairs()
    idle = [row.text("name") for row in heads if row.flag("idle")]
    if idle:
        table.add_row("idle", _listed(idle))
    repeats = [
        f"{r.text('name')} of {r.text('repeater_of')}" for r in heads if r.text("repeater_of")
    ]
    if repeats:
        table.add_row("repeaters", _listed(repeats))
    opposes = [
        f"{row.text('name_a')} and {row.text('name_b')}"
        for row in pairs
        if row.text("relation") == "opposes"
    ]
    if opposes:
        table.add_row("opposed", _listed(opposes))
    if table.row_count:
        yield _title("redundant")
        yield table


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - LISTED:,} more" if len(names) > LISTED else ""
    return ", ".join(plain(name) for name in names[:LISTED]) + more


def _skipped(rows: Sequence[Row], width: int) -> Iterator[RenderableType]:
    if not rows:
        return
    kinds: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        kinds.setdefault((row.text("what"), row.text("reason")), []).append(row)
    totals = {kind: sum(row.whole("count") for row in found) for kind, found in kinds.items()}
    ordered = sorted(kinds, key=lambda kind: -totals[kind])
    yield _title("skipped", "all of it: skipped.csv" if len(rows) > len(ordered[:LISTED]) else "")
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
    table = _pairs()
    table.add_row("run", Text(plain(str(run.path)), style="bold"))
    for place, step in enumerate(next_steps(run, relations)):
        table.add_row("" if place else "next", plain(step))
    framed = Table.grid()
    framed.add_row("")
    framed.add_row(table)
    return framed
