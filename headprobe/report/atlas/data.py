"""The data of an atlas: what its script draws, as plain JSON values.

All numbers are rounded here, by ``headprobe.format``, and travel as whole hundredths. The script
computes nothing, so a number on the page always equals the cell of the table that it comes from.
All text passes ``safe_text``.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import PurePath
from types import MappingProxyType
from typing import Any

from headprobe import __version__
from headprobe import format as wording
from headprobe.format import clip, safe_text
from headprobe.report.ablation import recovery_text
from headprobe.report.best_heads import relation_words
from headprobe.report.colours import colour_class
from headprobe.report.head import missed_targets, outcome_of
from headprobe.report.layout import kinds, marks
from headprobe.report.takeover import has_verdict, takeover_words
from headprobe.report.text_notes import annotator_words, probe_amounts, text_limits
from headprobe.results.importance import LOSSES, single_effects
from headprobe.results.views import HeadView, kind_of
from headprobe.runs.folder import PAIRS, POWER, Run
from headprobe.runs.manifest import Manifest
from headprobe.runs.tables import Row

Json = dict[str, Any]

RELATIONS_SHOWN = 10
"""Relations of a head that the atlas shows with all their numbers: those that earned a role, then
those with the highest lower end of the gain. Of the others it shows the gain."""

LONGEST_WORD = 40
"""Characters after which a word of a sentence is cut."""

MAX_BYTES = 1_900_000
"""Size of the data at most. Sentences are added while there is room, those of heads with the
strongest roles first, so that a page of 1,024 heads stays below 2 MB."""

HEAD_FIELDS = (
    *("sink", "self", "previous", "entropy", "distance", "punctuation"),
    *("output_norm", "residual_share", "positional", "duplicate_token", "induction"),
)
"""Columns of ``heads.csv`` that are numbers and are shown for each head."""

RELATION_FIELDS = (
    *("relation", "role", "top1", "baseline", "over", "gain", "low", "high", "out", "category"),
    *("beats", "q", "all"),
)
"""What the list of each relation of a head holds: ``relation`` and ``baseline`` are indices;
``over`` is the baseline's top1, ``out`` the held-out gain; ``low`` is the text ``TOO_LITTLE`` where
the interval is wider than any gain; ``all`` maps each baseline to its top1 where a role was
earned."""

SENTENCE_FIELDS = (*("text", "about", "outcome", "query", "targets", "attended", "missed", "same"),)
"""What the list of each sentence holds: ``text`` and ``about`` are indices, the others places of
words; ``attended`` are pairs of a place and a weight."""

ABLATION_FIELDS = (*("set", "outcome", "effect", "low", "high", "q", "important", "recovery"),)
"""What the list of each ablation of a head holds; effects are whole thousandths, ``recovery`` is
text."""

BASELINE_SUFFIX = "_top1"
"""How the columns of baselines end in ``relations.csv``."""


def hundredths(value: float | None) -> int | None:
    """Return a number rounded to two decimals as ``headprobe.format`` does, in hundredths."""
    return None if value is None else round(float(f"{value:.2f}") * 100)


def thousandths(value: float | None) -> int | None:
    """Return an effect rounded to three decimals, in thousandths."""
    return None if value is None else round(float(f"{value:.3f}") * 1000)


def atlas_data(
    run: Run,
    views: Iterable[HeadView],
    rule_changes: Sequence[str],
    added: Mapping[str, Any] = MappingProxyType({}),
) -> Json:
    """Collect the data of a run's atlas.

    ``views`` are the views of all heads, by layer and head; they are read once and not kept.
    ``added`` is what the page shows besides the run (``atlas.views``).
    """
    manifest = run.manifest
    power = run.rows(POWER) if POWER in run.tables else []
    pairs = run.rows(PAIRS)
    collected = _Collector()
    for view in views:
        collected.add(view)
    found = kinds(collected.rows)
    chosen = marks(each.kind for each in found)
    order = {each.kind: index for index, each in enumerate(found)}
    for entry, head in zip(collected.heads, collected.rows, strict=True):
        entry["kind"] = order[kind_of(head)]
    for row in power:
        collected.add_power(row)
    data = {
        "version": __version__,
        "model": clip(PurePath(manifest.model.asked).name or manifest.model.asked, 200),
        "layers": manifest.model.n_layers,
        "columns": manifest.model.n_heads,
        "facts": list(_facts(manifest, rule_changes)),
        "kinds": [
            {
                "name": safe_text(each.kind),
                "letter": chosen[each.kind].letter,
                "style": colour_class(each.kind),
                "heads": each.heads,
                "strongest": each.strongest,
            }
            for each in found
        ],
        "relations": collected.relations,
        "gains": collected.gains,
        "baselines": list(collected.baselines),
        "heads": collected.heads,
        "pairs": [_pair(row) for row in pairs],
        "effects": _effects(run, [head.text("name") for head in collected.rows]),
        "fields": {
            "relations": RELATION_FIELDS,
            "sentences": SENTENCE_FIELDS,
            "ablation": ABLATION_FIELDS,
        },
        **added,
    }
    return data | collected.sentences(MAX_BYTES - _size(data))


class _Collector:
    """Gathers the heads one after another, and what they share only once."""

    def __init__(self) -> None:
        self.relations: list[Json] = []
        self.gains: list[list[int | None]] = []
        self.baselines: dict[str, int] = {}
        self.heads: list[Json] = []
        self.rows: list[Row] = []
        self._numbers_of: dict[tuple[str, str, str], int] = {}
        self._examples: list[Sequence[Mapping[str, Any]]] = []

    def add(self, view: HeadView) -> None:
        measured = [row for row in view.relations if row.whole("n")]
        for row in measured:
            if _key(row) not in self._numbers_of:
                self._numbers_of[_key(row)] = len(self.relations)
                self.relations.append(_relation(row))
                self.gains.append([])
            self.gains[self._index(row)].append(hundredths(row.number("gain")))
        head = view.head
        earned = list(dict.fromkeys(head.text("roles").split(";")))
        shown = sorted(measured, key=_rank)[:RELATIONS_SHOWN]
        self.heads.append(
            {
                "name": head.text("name"),
                "layer": head.whole("layer"),
                "head": head.whole("head"),
                "group": head.whole("kv_group"),
                "roles": [safe_text(role) for role in earned if role],
                "strength": hundredths(head.number("strength")),
                "reason": safe_text(head.text("reason")),
                "repeats": safe_text(head.text("repeater_of")),
                "numbers": [hundredths(head.number(name)) for name in HEAD_FIELDS],
                "profile": [[distance, hundredths(share)] for distance, share in view.profile],
                "relations": [self._numbers(row) for row in shown],
                "domains": list(self._domains(view, shown)),
                **_causal(view),
            }
        )
        self.rows.append(head)
        self._examples.append(view.examples)

    def add_power(self, row: Row) -> None:
        """Add what a relation can show; a relation without instances is not in the atlas."""
        if _key(row) in self._numbers_of:
            relation = self.relations[self._index(row)]
            relation["detectable"] = hundredths(row.number("detectable"))
            relation["why"] = safe_text(row.text("why"))

    def _index(self, row: Row) -> int:
        return self._numbers_of[_key(row)]

    def _baseline(self, row: Row) -> int:
        offset = row.whole("best_offset") if row.text("best_offset") else None
        name = clip(wording.baseline_name(row.text("baseline"), offset), LONGEST_WORD)
        return self.baselines.setdefault(name, len(self.baselines))

    def _numbers(self, row: Row) -> list[Any]:
        """One relation of one head: the values of ``RELATION_FIELDS``."""
        low, high = row.number("gain_low"), row.number("gain_high")
        is_too_wide = wording.span(low, high) == wording.TOO_LITTLE
        return [
            self._index(row),
            safe_text(row.text("role")),
            hundredths(row.number("top1")),
            self._baseline(row),
            hundredths(row.number("baseline_top1")),
            hundredths(row.number("gain")),
            wording.TOO_LITTLE if is_too_wide else hundredths(low),
            None if is_too_wide else hundredths(high),
            hundredths(row.number("gain_b")),
            hundredths(row.number("category_top1")),
            safe_text(row.text("beats")),
            wording.p_value(row.number("q")),
            _baselines(row) if row.text("role") else None,
        ]

    def _domains(self, view: HeadView, shown: Sequence[Row]) -> Iterator[Json]:
        """The gains by domain of the relations that earned a role, else of the first shown."""
        of = [row for row in shown if row.text("role")] or list(shown[:1])
        for relation in of:
            rows = [row for row in view.domains if _key(row) == _key(relation)]
            for row in rows if len(rows) > 1 else ():
                yield {
                    "relation": self._index(relation),
                    "domain": clip(row.text("domain"), LONGEST_WORD),
                    "n": row.whole("n"),
                    "top1": hundredths(row.number("top1")),
                    "over": hundredths(row.number("baseline_top1")),
                    "gain": hundredths(row.number("gain")),
                }

    def sentences(self, room: int) -> Json:
        """The sentences of the heads, up to ``room`` bytes; the strongest roles come first.

        ``omitted`` counts the heads whose sentences were left out.
        """
        texts: dict[str, int] = {}
        subjects: dict[str, int] = {}
        omitted = 0
        for number in sorted(range(len(self.heads)), key=self._priority):
            lines, size = [], 0
            for example in self._examples[number]:
                text, about = json_text(_text(example)), _about(example)
                if text not in texts:
                    size += len(text.encode()) + 1
                lines.append(
                    [
                        texts.setdefault(text, len(texts)),
                        subjects.setdefault(about, len(subjects)),
                        *_places(example),
                    ]
                )
            room -= size + _size(lines)
            if room < 0:
                omitted += bool(lines)
                continue
            self.heads[number]["sentences"] = lines
        shown = {line[0] for head in self.heads for line in head.get("sentences", ())}
        return {
            "texts": [json.loads(text) if n in shown else None for text, n in texts.items()],
            "subjects": list(subjects),
            "omitted": omitted,
        }

    def _priority(self, number: int) -> tuple[bool, int]:
        strength = self.heads[number]["strength"]
        return strength is None, -(strength or 0)


def _causal(view: HeadView) -> Json:
    """What a head's ablation says, and what takes over from it; nothing where neither was run."""
    ablation = [
        [
            clip(row.text("set"), LONGEST_WORD),
            clip(row.text("outcome"), LONGEST_WORD),
            thousandths(row.number("effect")),
            thousandths(row.number("effect_low")),
            thousandths(row.number("effect_high")),
            wording.p_value(row.number("q")) if row.flag("usable") else "unusable",
            row.flag("important"),
            recovery_text(row),
        ]
        for row in view.ablation
    ]
    takeover = [clip(takeover_words(row), 200) for row in view.takeover if has_verdict(row)]
    return {name: rows for name, rows in (("ablation", ablation), ("takeover", takeover)) if rows}


def _effects(run: Run, names: Sequence[str]) -> list[Json]:
    """For each outcome the effect and the harm of each head's own ablation."""
    effects = single_effects(run)
    outcomes = dict.fromkeys(name for rows in effects.values() for name in rows)
    made = []
    for outcome in outcomes:
        rows = [effects.get(name, {}).get(outcome) for name in names]
        values = [None if row is None else thousandths(row.number("effect")) for row in rows]
        sign = 1 if outcome in LOSSES else -1
        made.append(
            {
                "outcome": clip(outcome, LONGEST_WORD),
                "values": values,
                "harm": [None if value is None else max(0, sign * value) for value in values],
            }
        )
    return made


def json_text(value: object) -> str:
    """Return ``value`` as compact JSON, as it stands in the page."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _size(value: object) -> int:
    """Bytes of a value in the page."""
    return len(json_text(value).encode())


def _key(row: Row) -> tuple[str, str, str]:
    return row.text("family"), row.text("relation"), row.text("looks_to")


def _rank(row: Row) -> tuple[bool, bool, float]:
    """Relations that earned a role first, those without q last, else by the lower end of gain."""
    low = row.number("gain_low")
    return (not row.text("role"), row.number("q") is None, float("inf") if low is None else -low)


def _relation(row: Row) -> Json:
    family, relation, looks_to = _key(row)
    return {
        "words": relation_words(row),
        "family": safe_text(family),
        "name": safe_text(relation),
        "to": safe_text(looks_to),
        "n": row.whole("n"),
    }


def _pair(row: Row) -> Json:
    return {
        "a": safe_text(row.text("name_a")),
        "b": safe_text(row.text("name_b")),
        "affinity": hundredths(row.number("affinity")),
        "cosine": hundredths(row.number("output_cosine")),
        "relation": safe_text(row.text("relation")),
    }


def _baselines(row: Row) -> dict[str, int | None]:
    """The top1 of each baseline that applies."""
    names = [name.removesuffix(BASELINE_SUFFIX) for name in row.cells if BASELINE_SUFFIX in name]
    return {
        wording.baseline_name(name): hundredths(value)
        for name in names
        if name not in ("baseline", "category")
        and (value := row.number(name + BASELINE_SUFFIX)) is not None
    }


def _text(example: Mapping[str, Any]) -> list[Any]:
    """The words of a sentence, those glued to the word before, where words are left out, and the
    name of the passage."""
    return [
        [clip(str(word), LONGEST_WORD) for word in example["words"]],
        list(example["glued"]),
        list(example["gaps"]),
        clip(str(example["passage"]), LONGEST_WORD),
    ]


def _about(example: Mapping[str, Any]) -> str:
    family, relation, looks_to = (str(example[k]) for k in ("family", "relation", "looks_to"))
    return clip(wording.relation_words(family, relation, looks_to), 2 * LONGEST_WORD)


def _places(example: Mapping[str, Any]) -> list[Any]:
    """The values of ``SENTENCE_FIELDS`` after the first two."""
    attended = [[int(place), hundredths(float(weight))] for place, weight in example["attended"]]
    return [
        outcome_of(example).name.lower(),
        int(example["query"]),
        [int(place) for place in example["targets"]],
        [each for each in attended if each[1]],
        sorted(missed_targets(example)),
        [int(place) for place in example.get("same_form", ())],
    ]


def _facts(manifest: Manifest, rule_changes: Sequence[str]) -> Iterator[tuple[str, str]]:
    """What the run was made from, as labels and texts."""
    model = manifest.model
    yield "model", safe_text(model.asked)
    yield (
        "architecture",
        f"{safe_text(model.architecture)}: {wording.count(model.n_layers, 'layer')} of "
        f"{wording.count(model.n_heads, 'head')}, {wording.groups(model.n_kv_heads)}",
    )
    yield "precision", safe_text(" ".join(filter(None, (model.dtype, model.quantization))))
    if model.revision:
        yield "revision", safe_text(model.revision)
    if model.adapter:
        yield "adapter", safe_text(model.adapter)
    yield "weights (SHA-256)", safe_text(model.weights_sha256)
    for probe in manifest.probes:
        amounts = ", ".join(probe_amounts(probe))
        yield "probes", f"{safe_text(probe.name)}: {amounts}; {probe.sha256[:16]}"
    if manifest.annotator is not None:
        yield "parser", "; ".join(annotator_words(manifest.annotator))
    for limit, commands in text_limits(manifest):
        yield "limits", " ".join([limit, "; ".join(commands)]).strip()
    yield (
        "text",
        f"{wording.count(manifest.passages, 'passage')}, {wording.count(manifest.tokens, 'token')}",
    )
    if manifest.bits_per_character is not None:
        bits = manifest.bits_per_character
        yield "loss", wording.text_loss(bits.value, bits.per_byte)
    for control in manifest.controls:
        yield (
            "control",
            f"{safe_text(control.control)} (seed {control.seed}): "
            f"{wording.count(control.named, 'head')} with a role",
        )
    yield "rules", f"packaged, except {'; '.join(rule_changes)}" if rule_changes else "packaged"
    yield "seed", str(manifest.seed)
    yield "measured", safe_text(manifest.started)
    yield (
        "versions",
        ", ".join(f"{safe_text(k)} {safe_text(v)}" for k, v in manifest.versions.items()),
    )
