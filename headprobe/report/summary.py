"""The summary page of a run.

From top to bottom: the facts of the measurement, the role grid, the best heads, other roles, the
controls (which should earn no role), the statistical power, skipped input, and next commands.
"""

import shlex
from collections.abc import Iterator, Sequence
from itertools import islice
from math import inf
from pathlib import Path

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from headprobe import format as numbers
from headprobe.format import clip, clip_start, safe_text, small
from headprobe.report.best_heads import best_heads, draw_best, relation_words
from headprobe.report.grid import grid_key, legend, role_grid
from headprobe.report.layout import (
    LABEL,
    LISTED,
    draw_line,
    filled,
    listed,
    pairs_table,
    title,
)
from headprobe.report.text_notes import annotator_words, probe_amounts, text_limits
from headprobe.results.views import NONE, kind_of, roles_of
from headprobe.runs import folder as run_folder
from headprobe.runs.folder import Run
from headprobe.runs.manifest import STAGES, BitsNote, ControlNote, Manifest, ModelNote, ProbeNote
from headprobe.runs.recent import is_default_run
from headprobe.runs.tables import Row
from headprobe.vocabulary import DUPLICATE, INDUCTION, POSITIONAL, UNNAMED

CONTROL_RELATIONS_SHOWN = 3
"""Number of relations shown per control; ``controls.csv`` has all."""

_CONTROLS_LABEL = 16
"""Width of the labels of controls, in characters, with the space after them."""

_NAMES = {"twin": "random twin", "shuffled": "shuffled links"}


def draw_controls(
    notes: Sequence[ControlNote], rows: Sequence[Row], width: int
) -> Iterator[RenderableType]:
    """Yield a line for each control: its roles, and the relations that came closest to one."""
    if not notes:
        return
    yield title("controls", "should earn no role; below, the highest lower ends of gain")
    table = pairs_table()
    for note in notes:
        of_control = [row for row in rows if row.text("control") == note.control]
        table.add_row(
            _NAMES.get(note.control, safe_text(note.control)),
            _control(note, of_control, width - _CONTROLS_LABEL),
        )
    yield table


def _control(note: ControlNote, rows: Sequence[Row], width: int) -> Text:
    roles = numbers.count(note.named, "role")
    line = Text(roles, style="bold red" if note.named else "")
    kinds = [f"{count:,} {safe_text(role)}" for role, count in note.roles.items()]
    if kinds:
        line.append(f" ({', '.join(kinds)})")
    if note.taken_from is not None:
        line.append(f"   reused from {safe_text(note.taken_from)}", style=LABEL)
    closest = islice(
        (row for row in sorted(rows, key=_rank) if _has_interval(row)), CONTROL_RELATIONS_SHOWN
    )
    lows = [f"{relation_words(row)} {numbers.signed(row.number('gain_low'))}" for row in closest]
    line.append(f"\n{filled(lows, width)}" if lows else "")
    return line


def _has_interval(row: Row) -> bool:
    """Whether the row has a valid interval; a lower end below -1 comes from too few folds."""
    low = row.number("gain_low")
    return bool(row.text("name")) and low is not None and low >= -1


def _rank(row: Row) -> float:
    low = row.number("gain_low")
    return inf if low is None else -low


POWER_RELATIONS_SHOWN = 4
"""Number of relations shown: of those with too little data, the ones with most instances; of the
others, the ones with the largest detectable gains. ``power.csv`` has all."""

_POWER_LABEL = 26
"""Width of the labels of this part, in characters, with the space after them."""

_FEW_FORMS = "too few target forms"
"""The column ``why`` of ``power.csv`` where a relation's targets have too few different forms."""

_OUT_OF_REACH = "more instances are needed"
"""Shown where ``power.csv`` gives no reason why a gain cannot be detected."""


def draw_power(rows: Sequence[Row], width: int) -> Iterator[RenderableType]:
    """Yield the relations with too little data, and the smallest detectable gain of the others."""
    with_instances = [row for row in rows if row.whole("n")]
    if not with_instances:
        return
    yield title("statistical power", "relation by relation: power.csv")
    table = pairs_table()
    marks = [row for row in with_instances if _is_single_mark(row)]
    by_reason: dict[str, list[Row]] = {}
    for row in with_instances:
        if row not in marks and (reason := _lacking(row)):
            by_reason.setdefault(reason, []).append(row)
    for place, (reason, relations) in enumerate(by_reason.items()):
        amount = _forms if "forms" in reason else _instances
        largest = sorted(relations, key=lambda row: -row.whole("n"))
        names = [f"{relation_words(row)}: {amount(row)}" for row in largest[:POWER_RELATIONS_SHOWN]]
        if len(largest) > POWER_RELATIONS_SHOWN:
            names.append(f"{len(largest) - POWER_RELATIONS_SHOWN:,} more")
        heading = f"{numbers.count(len(relations), 'relation')}: {safe_text(reason)}"
        words = Text.assemble(heading, ("\n" + filled(names, width - _POWER_LABEL), LABEL))
        table.add_row("" if place else numbers.TOO_LITTLE, words)
    if marks:
        table.add_row("no role possible", _single_marks(marks, width - _POWER_LABEL))
    sufficient = [row for row in with_instances if row not in marks and not _lacking(row)]
    if sufficient:
        table.add_row("smallest detectable gain", _gains(sufficient, width - _POWER_LABEL))
    yield table


def _instances(row: Row) -> str:
    return f"n {row.whole('n'):,}"


def _forms(row: Row) -> str:
    return numbers.count(row.whole("forms"), "form")


def _lacking(row: Row) -> str:
    """Why a relation cannot show a head's role; empty where it can.

    No gain reaches 1, so a detectable gain of 1 or more cannot be detected.
    """
    if not row.flag("can_say"):
        return row.text("why")
    detectable = row.number("detectable")
    impossible = row.text("why") or (detectable is not None and detectable >= 1)
    return (row.text("why") or _OUT_OF_REACH) if impossible else ""


def _is_single_mark(row: Row) -> bool:
    """Whether the targets are a class of marks with very few different characters.

    A head that looks for the mark and a head that looks for this token cannot be told apart, with
    any amount of text.
    """
    return (
        row.text("family") == "punctuation"
        and row.text("relation") != "any"
        and not row.flag("can_say")
        and row.text("why") == _FEW_FORMS
    )


def _single_marks(rows: Sequence[Row], width: int) -> Text:
    names = [
        f"{relation_words(row)}: {numbers.count(row.whole('forms'), 'character')}" for row in rows
    ]
    return Text.assemble(
        (filled(names, width), LABEL),
        "\ntoo few different characters to tell a head that looks for the mark from one"
        " that looks for a single token; such heads count under any mark",
    )


def _gains(rows: Sequence[Row], width: int) -> str:
    """Format ``.31 verb → its object (obj), at most .20 in the 30 others``, largest first."""
    ordered = sorted(rows, key=_detectable, reverse=True)
    shown = [f"{_format(row)} {relation_words(row)}" for row in ordered[:POWER_RELATIONS_SHOWN]]
    others = ordered[POWER_RELATIONS_SHOWN:]
    if others:
        most = "at most " if len(others) > 1 else ""
        shown.append(f"{most}{_format(others[0])} in the {numbers.count(len(others), 'other')}")
    return filled(shown, width)


def _format(row: Row) -> str:
    return numbers.fraction(row.number("detectable"))


def _detectable(row: Row) -> float:
    value = row.number("detectable")
    return inf if value is None else value


FLAGGED = 3
"""Number of sinks shown; the manifest has all."""

_LABEL = 8
"""Width of the labels at the top of the page, in characters, with the space after them."""

_REASONS = {
    "its target words are unusable": "target word unusable",
    "its query word is unusable": "query word unusable",
    "its targets stand before the passage": "target lies before the passage",
    "shares a token with another word": "token shared with another word",
    "has no characters of its own": "no characters of their own",
    "has no token of its own": "no token of their own",
}
"""Reason in ``skipped.csv`` -> its wording on the page."""


def draw_summary(
    run: Run,
    console: Console,
    rule_changes: Sequence[str] = (),
    unearned: Sequence[tuple[str, Row | None]] = (),
) -> None:
    """Print the summary page of a run.

    The page has the facts of the measurement, the roles by layer, what they are claims about, the
    best heads, the controls, the statistical power, what was skipped, and the next commands.
    ``rule_changes`` lists how the rules of the run differ from the packaged ones. ``unearned`` has
    the roles of the user that no head earned (``commands.show.unearned_roles``).
    """
    manifest = run.manifest
    heads = run.rows(run_folder.HEADS)
    relations = run.rows(run_folder.RELATIONS)
    console.print(_facts(manifest, rule_changes, console.width))
    console.print(title("roles by layer"))
    for line in _grid(manifest, heads, unearned, console.width):
        console.print(line, no_wrap=True, overflow="ignore", crop=False)
    pairs = run.rows(run_folder.PAIRS)
    for part in [
        *_caution(manifest),
        *_plain_text(manifest),
        *draw_best(heads, relations),
        *_by_behaviour(heads),
        *_redundant(heads, pairs),
    ]:
        console.print(part)
    width = console.width
    controls = run.rows(run_folder.CONTROLS) if run_folder.CONTROLS in run.tables else []
    power = run.rows(run_folder.POWER) if run_folder.POWER in run.tables else []
    for part in [*draw_controls(manifest.controls, controls, width), *draw_power(power, width)]:
        console.print(part)
    for part in _skipped(run.rows(run_folder.SKIPPED), console.width):
        console.print(part)
    console.print()
    draw_line(console, ("run   ", LABEL), (safe_text(str(run.path)), "bold"))
    for place, step in enumerate(next_steps(run, heads, relations)):
        draw_line(console, ("      " if place else "next  ", LABEL), safe_text(step))


def _facts(manifest: Manifest, rules: Sequence[str], width: int) -> Table:
    model = manifest.model
    table = pairs_table()
    table.add_row("model", Text(clip_start(model.asked, width - 10), style="bold"))
    table.add_row(
        "",
        filled(
            [
                f"{safe_text(model.architecture)}: {numbers.count(model.n_layers, 'layer')} of "
                f"{numbers.count(model.n_heads, 'head')}",
                f"{numbers.groups(model.n_kv_heads)}; {_precision(model)}",
            ],
            width - _LABEL,
        ),
    )
    if model.adapter is not None:
        known = f" ({safe_text(model.adapter_sha256)[:12]})" if model.adapter_sha256 else ""
        table.add_row("adapter", f"{clip_start(model.adapter, width - 26)}{known}")
    for place, probe in enumerate(manifest.probes[:LISTED]):
        built_in = " (built in)" if _is_built_in(probe) else ""
        amounts = probe_amounts(probe)
        amounts[0] = f"{clip(probe.name, 40)}{built_in}: {amounts[0]}"
        table.add_row("" if place else "probes", filled(amounts, width - _LABEL))
    if len(manifest.probes) > LISTED:
        table.add_row("", f"and {numbers.count(len(manifest.probes) - LISTED, 'more file')}")
    if manifest.annotator is not None:
        table.add_row("parser", filled(annotator_words(manifest.annotator), width - _LABEL))
    table.add_row("text", filled(_text(manifest), width - _LABEL))
    for place, sink in enumerate(manifest.sinks_flagged[:FLAGGED]):
        more = len(manifest.sinks_flagged) - FLAGGED
        rest = f"   and {more:,} more" if place == FLAGGED - 1 and more > 0 else ""
        table.add_row("" if place else "sinks", clip(sink, width - 10 - len(rest)) + rest)
    if rules:
        table.add_row("rules", f"packaged, except {listed(rules)}")
    stages = [f"{name} {numbers.duration(manifest.seconds[name])}" for name in _stages(manifest)]
    total = numbers.duration(sum(manifest.seconds.values()))
    of_stages = [f"{total}: {stages[0]}", *stages[1:]] if stages else [total]
    table.add_row("time", filled(of_stages, width - _LABEL))
    table.add_row("memory", f"{numbers.memory(manifest.peak_memory_mib)} at most")
    return table


def _precision(model: ModelNote) -> str:
    """Format the dtype, the quantization it was converted from, and the device."""
    dtype = model.dtype
    if model.quantization is not None:  # the note of a GGUF file already ends with the dtype
        stored = model.quantization
        dtype = stored if stored.endswith(dtype) else f"{stored}, {dtype}"
    reason = f" ({safe_text(model.dtype_reason)})" if model.dtype_reason else ""
    return f"{safe_text(dtype)} on {safe_text(model.device)}{reason}"


def _stages(manifest: Manifest) -> list[str]:
    return [*(name for name in STAGES if name in manifest.seconds)]


def _is_built_in(probe: ProbeNote) -> bool:
    # Built-in sets are named without the suffix of their file, all other files with it.
    return Path(probe.path).stem == probe.name


def _caution(manifest: Manifest) -> Iterator[Text]:
    """Yield a note where probes are built in: such roles are claims about these sentences only."""
    built_in = [probe for probe in manifest.probes if _is_built_in(probe)]
    if not built_in:
        return
    # A placeholder: a long path would wrap, and half of a copied command scans another model.
    model = "" if manifest.model.kind == "bundled" else " MODEL"
    which = "the built-in" if len(built_in) == len(manifest.probes) else "partly the built-in"
    yield Text(
        f"\nThese roles are claims about {which} probe sentences, which were written for this "
        "test. To test the claims on your own treebank:"
    )
    yield Text(f"  headprobe scan{model} -p your.conllu", style="bold")


def _plain_text(manifest: Manifest) -> Iterator[Text]:
    """Yield what plain and parsed text cannot say, with the commands that can."""
    for limit, commands in text_limits(manifest):
        yield Text(f"\n{limit}")
        for command in commands:
            yield Text(f"  {command}", style="bold")


def _text(manifest: Manifest) -> list[str]:
    parts = [numbers.count(manifest.passages, "passage"), numbers.count(manifest.tokens, "token")]
    if manifest.sampled_from is not None:
        parts[0] += f" sampled from {manifest.sampled_from:,}"
    if manifest.bits_per_character is not None:
        parts.append(_loss(manifest.bits_per_character))
    if manifest.unusable_words:
        parts.append(f"{small(manifest.unusable_words)} of words unusable")
    return parts


def _loss(bits: BitsNote) -> str:
    return numbers.text_loss(bits.value, bits.per_byte)


def _grid(
    manifest: Manifest,
    heads: Sequence[Row],
    unearned: Sequence[tuple[str, Row | None]],
    width: int,
) -> Iterator[Text]:
    model = manifest.model
    group = model.n_heads // max(min(model.n_kv_heads, default=1), 1)
    yield from role_grid(heads, group, width)
    yield Text()
    yield from legend(heads, width)
    for role, closest in unearned:
        yield Text.assemble(f"{clip(role, 40)} ", (f"0{_closest(closest)}", LABEL))
    for line in filled(grid_key(heads, group, width), width, "; ").splitlines():
        yield Text(line, style=LABEL)


def _closest(row: Row | None) -> str:
    """Format the instances of a relation, and its best head: ``: n 64, best head L2H4 +.03``."""
    if row is None:
        return ": no instances in these probes"
    best = ""
    if row.text("best_head"):
        best = f", best head {row.text('best_head')} {numbers.signed(row.number('best_gain'))}"
    return f": n {row.whole('n'):,}{best}"


def _by_behaviour(heads: Sequence[Row]) -> Iterator[RenderableType]:
    """Yield the heads of each role that needs no relation.

    Heads whose strongest role it is come first; within both groups, the strongest heads do.
    """
    table = pairs_table()
    for role in (POSITIONAL, DUPLICATE, INDUCTION, UNNAMED):
        holders = [row for row in heads if role in roles_of(row)]
        holders.sort(key=lambda row: (row.text("role") != role, -(row.number("strength") or 0.0)))
        if holders:
            table.add_row(role, listed([row.text("name") for row in holders]))
    if table.row_count:
        yield title("probe-independent roles", "strongest first; evidence: show-head")
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
    totals = {kind: sum(row.whole("count") for row in group) for kind, group in kinds.items()}
    ordered = sorted(kinds, key=lambda kind: -totals[kind])
    note = "places in the probe files: skipped.csv"
    yield title("skipped", note if len(rows) > len(ordered[:LISTED]) else "")
    for kind in ordered[:LISTED]:
        what = numbers.count(totals[kind], clip(kind[0], width))
        reason = _REASONS.get(kind[1], clip(kind[1], width))
        places = len(kinds[kind])
        source = clip_start(kinds[kind][0].text("source"), width // 2)
        where = source if places == 1 else f"at {places:,} places"
        yield Text.assemble(f"{what} skipped: {reason}", (f"   {where}", LABEL))


def next_steps(run: Run, heads: Sequence[Row], relations: Sequence[Row]) -> list[str]:
    """Return commands for the next steps; they name the run unless it is used by default anyway.

    ``show-head`` gets the best head, or else the strongest head with any role. Without such a head,
    the next step is a probe file.
    """
    path = shlex.quote(str(run.path))
    in_runs = run.path.absolute().parent == run_folder.RUNS.absolute()
    is_default = in_runs and is_default_run(run.path)
    with_role = sorted((head for head in heads if kind_of(head) != NONE), key=_strongest_first)
    best = [row for _, row in best_heads(relations)] or with_role
    if best:
        look = f"headprobe show-head {best[0].text('name')}{'' if is_default else f' -r {path}'}"
    else:
        look = "headprobe docs probes"
    return [
        look,
        f"headprobe export{'' if is_default else f' {path}'} --csv tables",
    ]


def _strongest_first(head: Row) -> tuple[bool, float]:
    """Sort key: heads with a role before redundant heads without one, the strongest first."""
    return not roles_of(head), -(head.number("strength") or 0.0)
