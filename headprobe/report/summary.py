"""What a scan found, on one page.

What the controls earned: nothing, where all is well.

What a run could not have seen.
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
from headprobe.report.layout import LABEL, LISTED, filled, listed, pairs_table, roles_of, title
from headprobe.results.views import NONE, kind_of
from headprobe.runs import folder as run_folder
from headprobe.runs.folder import Run
from headprobe.runs.manifest import STAGES, ControlNote, Manifest, ModelNote, ProbeNote
from headprobe.runs.tables import Row
from headprobe.vocabulary import DUPLICATE, INDUCTION, POSITIONAL, UNNAMED, head_name

CONTROL_RELATIONS_SHOWN = 3
"""Relations shown of each control; all of them are in ``controls.csv``."""

_CONTROLS_LABEL = 16
"""Characters of a label and the space after it."""

_NAMES = {"twin": "random twin", "shuffled": "shuffled links"}


def draw_controls(
    notes: Sequence[ControlNote], rows: Sequence[Row], width: int
) -> Iterator[RenderableType]:
    """One line for each control: its roles, and the relations that came nearest to one."""
    if not notes:
        return
    yield title("controls", "should earn no role; the nearest, by the lower end of gain")
    table = pairs_table()
    for note in notes:
        mine = [row for row in rows if row.text("control") == note.control]
        table.add_row(
            _NAMES.get(note.control, safe_text(note.control)),
            _line(note, mine, width - _CONTROLS_LABEL),
        )
    yield table


def _line(note: ControlNote, rows: Sequence[Row], width: int) -> Text:
    roles = numbers.count(note.named, "role")
    line = Text(roles, style="bold red" if note.named else "")
    kinds = [f"{count:,} {safe_text(role)}" for role, count in note.roles.items()]
    if kinds:
        line.append(f" ({', '.join(kinds)})")
    if note.taken_from is not None:
        line.append(f"   reused from {safe_text(note.taken_from)}", style=LABEL)
    nearest = islice(
        (row for row in sorted(rows, key=_rank) if _has_interval(row)), CONTROL_RELATIONS_SHOWN
    )
    lows = [f"{relation_words(row)} {numbers.signed(row.number('gain_low'))}" for row in nearest]
    line.append(f"\n{filled(lows, width)}" if lows else "")
    return line


def _has_interval(row: Row) -> bool:
    """A lower end below -1 is of too few folds, and no gain can be so low."""
    low = row.number("gain_low")
    return bool(row.text("name")) and low is not None and low >= -1


def _rank(row: Row) -> float:
    low = row.number("gain_low")
    return inf if low is None else -low


POWER_RELATIONS_SHOWN = 4
"""Relations shown: those with most instances among the small ones, those that would hide the
largest gains among the others; all of them are in ``power.csv``."""

_POWER_LABEL = 26
"""Characters of a label and the space after it."""

_FEW_FORMS = "too few target forms"
"""What ``power.csv`` says where a relation's targets have too few different forms."""

_OUT_OF_REACH = "even a perfect head may be missed"


def draw_power(rows: Sequence[Row], width: int) -> Iterator[RenderableType]:
    """Which relations are too small to say anything, and how large a gain a head must have to be
    seen in the others."""
    known = [row for row in rows if row.whole("n")]
    if not known:
        return
    yield title("statistical power", "relation by relation: power.csv")
    table = pairs_table()
    marks = [row for row in known if _is_single_mark(row)]
    reasons: dict[str, list[Row]] = {}
    for row in known:
        if row not in marks and (reason := _lacking(row)):
            reasons.setdefault(reason, []).append(row)
    for place, (reason, found) in enumerate(reasons.items()):
        counted = "forms" if "forms" in reason else "n"
        largest = sorted(found, key=lambda row: -row.whole("n"))
        names = [
            f"{relation_words(row)} {row.whole(counted):,}"
            for row in largest[:POWER_RELATIONS_SHOWN]
        ]
        if len(largest) > POWER_RELATIONS_SHOWN:
            names.append(f"{len(largest) - POWER_RELATIONS_SHOWN:,} more")
        amount = f"{numbers.count(len(found), 'relation')}: {safe_text(reason)}"
        words = Text.assemble(amount, ("\n" + filled(names, width - _POWER_LABEL), LABEL))
        table.add_row("" if place else numbers.TOO_LITTLE, words)
    if marks:
        table.add_row("no role possible", _single_marks(marks, width - _POWER_LABEL))
    able = [row for row in known if row not in marks and not _lacking(row)]
    if able:
        table.add_row("smallest detectable gain", _gains(able, width - _POWER_LABEL))
    yield table


def _lacking(row: Row) -> str:
    """Why a relation says nothing; empty where it can. A gain of 1 or more is no gain to detect."""
    if not row.flag("can_say"):
        return row.text("why")
    detectable = row.number("detectable")
    impossible = row.text("why") or (detectable is not None and detectable >= 1)
    return _OUT_OF_REACH if impossible else ""


def _is_single_mark(row: Row) -> bool:
    """One class of marks with too few characters to tell a head for the mark from a head for that
    token: however much text there is, it earns no role."""
    return (
        row.text("family") == "punctuation"
        and row.text("relation") != "any"
        and not row.flag("can_say")
        and row.text("why") == _FEW_FORMS
    )


def _single_marks(rows: Sequence[Row], width: int) -> Text:
    names = [f"{relation_words(row)} {row.whole('forms'):,}" for row in rows]
    return Text.assemble(
        (filled(names, width), LABEL),
        "\ntoo few different characters to tell a head that looks for the mark from one"
        " that looks for a single token; heads that do are counted under any mark",
    )


def _gains(rows: Sequence[Row], width: int) -> str:
    """``.31 verb → its object (obj), ..., at most .20 in the 30 others``, largest first."""
    ordered = sorted(rows, key=_detectable, reverse=True)
    shown = [f"{_least(row)} {relation_words(row)}" for row in ordered[:POWER_RELATIONS_SHOWN]]
    others = ordered[POWER_RELATIONS_SHOWN:]
    if others:
        most = "at most " if len(others) > 1 else ""
        shown.append(f"{most}{_least(others[0])} in the {numbers.count(len(others), 'other')}")
    return filled(shown, width)


def _least(row: Row) -> str:
    return numbers.fraction(row.number("detectable"))


def _detectable(row: Row) -> float:
    value = row.number("detectable")
    return inf if value is None else value


FLAGGED = 3
"""Keys shown that draw attention whatever the text; all of them are in the manifest."""

_LABEL = 8
"""Characters of a label at the top of the page and the space after it."""

_REASONS = {
    "its target words are unusable": "target word not separable",
    "its query word is unusable": "query word not separable",
    "its targets stand before the passage": "target lies before the passage",
    "shares a token with another word": "token shared with another word",
    "has no characters of its own": "no characters of their own",
    "has no token of its own": "no token of their own",
}
"""Reasons of ``skipped.csv`` in the words of the page."""


def draw_summary(run: Run, console: Console, rule_changes: Sequence[str] = ()) -> None:
    """Print the summary page of a run.

    The page has the facts of the measurement, the roles by layer, what they are claims about, the
    best heads, the controls, the statistical power, what was skipped, and the next commands.
    ``rule_changes`` lists how the rules of the run differ from the packaged ones.
    """
    manifest = run.manifest
    heads = run.rows(run_folder.HEADS)
    relations = run.rows(run_folder.RELATIONS)
    console.print(_facts(manifest, rule_changes, console.width))
    console.print(title("roles by layer"))
    for line in _grid(manifest, heads, console.width):
        console.print(line, no_wrap=True, overflow="ignore", crop=False)
    alike = run.rows(run_folder.PAIRS)
    for part in [
        *_caution(manifest),
        *draw_best(heads, relations),
        *_by_behaviour(heads),
        *_redundant(heads, alike),
    ]:
        console.print(part)
    width = console.width
    controls = run.rows(run_folder.CONTROLS) if run_folder.CONTROLS in run.tables else []
    power = run.rows(run_folder.POWER) if run_folder.POWER in run.tables else []
    for part in [*draw_controls(manifest.controls, controls, width), *draw_power(power, width)]:
        console.print(part)
    for part in _skipped(run.rows(run_folder.SKIPPED), console.width):
        console.print(part)
    console.print(_end(run, heads, relations))


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
        amounts = [
            f"{clip(probe.name, 40)}{built_in}: {numbers.count(probe.documents, 'document')}",
            numbers.count(probe.sentences, "sentence"),
            numbers.count(probe.words, "word"),
        ]
        table.add_row("" if place else "probes", filled(amounts, width - _LABEL))
    if len(manifest.probes) > LISTED:
        table.add_row("", f"and {numbers.count(len(manifest.probes) - LISTED, 'more file')}")
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
    """How the weights are stored, where that differs from what they are computed in, and where."""
    dtype = model.dtype
    if model.quantization is not None:  # that of a GGUF file says what it was converted to
        stored = model.quantization
        dtype = stored if stored.endswith(dtype) else f"{stored}, {dtype}"
    reason = f" ({safe_text(model.dtype_reason)})" if model.dtype_reason else ""
    return f"{safe_text(dtype)} on {safe_text(model.device)}{reason}"


def _stages(manifest: Manifest) -> list[str]:
    return [*(name for name in STAGES if name in manifest.seconds)]


def _is_built_in(probe: ProbeNote) -> bool:
    # sets are named by the stem of their file, files and those of folders with their suffix
    return Path(probe.path).stem == probe.name


def _caution(manifest: Manifest) -> Iterator[Text]:
    """A name earned on generated sentences is a claim about such sentences."""
    written = [probe for probe in manifest.probes if _is_built_in(probe)]
    if not written:
        return
    # a placeholder: a long path would wrap, and half a command scans another model
    model = "" if manifest.model.kind == "bundled" else " MODEL"
    which = "the built-in" if len(written) == len(manifest.probes) else "partly the built-in"
    yield Text(
        f"\nThese roles are claims about {which} probe sentences, which were written for this "
        "test. To test the claims on your own treebank:"
    )
    yield Text(f"  headprobe scan{model} -p your.conllu", style="bold")


def _text(manifest: Manifest) -> list[str]:
    parts = [numbers.count(manifest.passages, "passage"), numbers.count(manifest.tokens, "token")]
    if manifest.sampled_from is not None:
        parts[0] += f" sampled from {manifest.sampled_from:,}"
    if manifest.bits_per_character is not None:
        parts.append(f"{manifest.bits_per_character.value:.2f} bits per character")
    if manifest.unusable_words:
        parts.append(f"{small(manifest.unusable_words)} of words not separable")
    return parts


def _grid(manifest: Manifest, heads: Sequence[Row], width: int) -> Iterator[Text]:
    model = manifest.model
    group = model.n_heads // max(min(model.n_kv_heads, default=1), 1)
    yield from role_grid(heads, group, width)
    yield Text()
    yield from legend(heads, width)
    for line in filled(grid_key(heads, group, width), width, "; ").splitlines():
        yield Text(line, style=LABEL)


def _by_behaviour(heads: Sequence[Row]) -> Iterator[RenderableType]:
    """The heads that hold a role which no relation of the probes earns, strongest first; where it
    is not their strongest role, after the others."""
    table = pairs_table()
    for role in (POSITIONAL, DUPLICATE, INDUCTION, UNNAMED):
        found = [row for row in heads if role in roles_of(row)]
        found.sort(key=lambda row: (row.text("role") != role, -(row.number("strength") or 0.0)))
        if found:
            table.add_row(role, listed([row.text("name") for row in found]))
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
    totals = {kind: sum(row.whole("count") for row in found) for kind, found in kinds.items()}
    ordered = sorted(kinds, key=lambda kind: -totals[kind])
    yield title("skipped", "in full: skipped.csv" if len(rows) > len(ordered[:LISTED]) else "")
    for kind in ordered[:LISTED]:
        what = numbers.count(totals[kind], clip(kind[0], width))
        reason = _REASONS.get(kind[1], clip(kind[1], width))
        places = len(kinds[kind])
        source = clip_start(kinds[kind][0].text("source"), width // 2)
        where = source if places == 1 else f"in {places:,} places"
        yield Text.assemble(f"{what} skipped: {reason}", (f"   {where}", LABEL))


def next_steps(run: Run, heads: Sequence[Row], relations: Sequence[Row]) -> list[str]:
    """Commands worth typing now, ``-r`` only where the run would not be found without it."""
    path = shlex.quote(str(run.path))
    found = run.path.absolute().parent == run_folder.RUNS.absolute()
    best = [row for _, row in best_heads(relations)] or sorted(heads, key=_least_telling)
    name = best[0].text("name") if best else head_name(0, 0)
    return [
        f"headprobe show-head {name}{'' if found else f' -r {path}'}",
        f"headprobe export{'' if found else f' {path}'} --csv tables",
    ]


def _least_telling(head: Row) -> tuple[bool, bool, float]:
    """Heads that hold a role first, then those that are redundant, the strongest first."""
    no_role, nothing = not roles_of(head), kind_of(head) == NONE
    return no_role, nothing, -(head.number("strength") or 0.0)


def _end(run: Run, heads: Sequence[Row], relations: Sequence[Row]) -> RenderableType:
    table = pairs_table()
    table.add_row("run", Text(safe_text(str(run.path)), style="bold"))
    for place, step in enumerate(next_steps(run, heads, relations)):
        table.add_row("" if place else "next", safe_text(step))
    framed = Table.grid()
    framed.add_row("")
    framed.add_row(table)
    return framed
