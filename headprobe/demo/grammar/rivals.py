"""Whether simple rules find the antecedents of the probe sets, measured with the tool's own code.

The files are read and aligned as in a scan, with one token per character instead of a model's
tokenizer, so every word is usable. ``rule_rates`` and ``balance`` return the numbers that
``--report`` prints and ``tests/demo/test_rivals.py`` bounds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn, cast

import numpy as np
from numpy.typing import NDArray

from headprobe.analysis.baselines import BaselineInput, baseline_input, offset, start
from headprobe.arrays import Ints
from headprobe.batching.corpus import align
from headprobe.batching.encoder import Encoded, Encoder
from headprobe.demo.grammar.reading import Document, Mention
from headprobe.demo.grammar.report import PERSONAL, entity_pronouns
from headprobe.errors import HeadprobeError
from headprobe.probes.catalog import find_probe_files, read_documents
from headprobe.probes.passages import cut_passages
from headprobe.runs.instances import Instances, RelationInstances
from headprobe.vocabulary import Relation, Skipped, number_deprels

PLACES = (1, 2, 3, 4)
"""Which nearest mention and which last subject the rules choose: the k-th, for these k."""

POOLED = "anaphor-strict"
STRICT = ("pronoun-strict", "nominal-strict", "proper-strict", POOLED)
"""The relations that are measured; the last one pools the other three."""


@dataclass(frozen=True)
class RuleRates:
    """How often each rule chooses a target, and how many instances and folds there are."""

    relation: str
    n: int
    document_folds: float
    """Effective number of document folds: 1 / the sum of squared shares of the instances."""
    form_folds: float
    """Effective number of folds of the nearest targets' lower-cased forms."""
    rates: Mapping[str, float]
    """Rule -> the share of instances in which it is right."""


class Characters:
    """An encoder with one token per character: every word has tokens of its own."""

    start = (0,)

    def encode(self, texts: list[str]) -> list[Encoded]:
        return [
            Encoded(
                np.arange(len(text), dtype=np.int32),
                np.array([(i, i + 1) for i in range(len(text))], dtype=np.int32),
            )
            for text in texts
        ]

    def count(self, texts: Sequence[str]) -> list[int]:
        return [1 for _ in texts]


def load_instances(paths: Sequence[Path]) -> Instances:
    """Read probe files as a scan does. Raises HeadprobeError if anything would be skipped."""
    encoder = Characters()
    files = find_probe_files([str(path) for path in paths])
    passages = [
        passage
        for document in read_documents(files, _refuse)
        for passage in cut_passages(document, encoder.count, 10**9, _refuse)
    ]
    # Alignment calls nothing but these two methods; a real Encoder would need a tokenizer.
    return align(passages, cast("Encoder", encoder), _refuse, seed=0).instances


def _refuse(skipped: Skipped) -> NoReturn:
    raise HeadprobeError(skipped.source, skipped.reason, "Correct the grammar")


def rule_rates(instances: Instances) -> list[RuleRates]:
    """The hit rates of all rules on each of the ``STRICT`` relations."""
    return [_rates(name, instances, links) for name, links in _strict_links(instances)]


def _strict_links(instances: Instances) -> Iterator[tuple[str, RelationInstances]]:
    number = {relation.name: i for i, relation in enumerate(instances.relations)}
    for name in STRICT[:-1]:
        yield name, instances.of(number[name])
    parts = [number[name] for name in STRICT[:-1]]
    pooled = len(instances.relations)
    relation = Relation("coreference", POOLED, "antecedent", strict=True)
    merged = np.where(np.isin(instances.link_relation, parts), pooled, instances.link_relation)
    together = replace(instances, relations=(*instances.relations, relation), link_relation=merged)
    yield POOLED, together.of(pooled)


def _rates(name: str, instances: Instances, links: RelationInstances) -> RuleRates:
    inputs = baseline_input(instances, links)
    rates = {"offset": float(offset(inputs).hits.mean()), "start": float(start(inputs).hits.mean())}
    ends = np.asarray(instances.mention_end, dtype=np.int64)
    subjects = instances.deprel == number_deprels(["nsubj"])[0]
    query, word = inputs.candidates.pairs()
    mention = (ends[word] >= 0) & (ends[word] < inputs.candidates.query[query])
    rates["first mention"] = _right(inputs, _first(query[mention], word[mention], len(links)))
    for label, among in (("mention", mention), ("subject", subjects[word])):
        for place in PLACES:
            chosen = _nearest(query[among], word[among], len(links), place)
            rates[f"{label} {place}"] = _right(inputs, chosen)
    nearest = links.targets[links.stop - 1]
    return RuleRates(
        name,
        len(links),
        _effective(instances.document_fold[instances.passage[links.query]]),
        _effective(instances.form_fold[nearest]),
        rates,
    )


def _right(inputs: BaselineInput, chosen: Ints) -> float:
    return float(inputs.hits_of(chosen).mean())


def _first(query: Ints, word: Ints, count: int) -> Ints:
    """The first word of each query [count], -1 if it has none; pairs are sorted."""
    chosen = np.full(count, -1, dtype=np.int64)
    chosen[query[::-1]] = word[::-1]
    return chosen


def _nearest(query: Ints, word: Ints, count: int, place: int) -> Ints:
    """The ``place``-th last word of each query [count], -1 if it has fewer; pairs are sorted."""
    last = np.searchsorted(query, np.arange(count), side="right") - place
    first = np.searchsorted(query, np.arange(count), side="left")
    found = last >= first
    return np.where(found, word[np.where(found, last, 0)] if len(word) else -1, -1)


def _effective(folds: NDArray[np.integer]) -> float:
    share = np.bincount(folds) / len(folds)
    return float(1 / np.square(share).sum())


def rules_table(found: Sequence[RuleRates]) -> str:
    """The rates as text: a row per rule, a column per relation."""
    lines = [f"{'':16}" + "".join(f"{row.relation:>17}" for row in found)]
    lines.append(f"{'n':16}" + "".join(f"{row.n:17}" for row in found))
    lines.append(f"{'document folds':16}" + "".join(f"{r.document_folds:17.1f}" for r in found))
    lines.append(f"{'form folds':16}" + "".join(f"{r.form_folds:17.1f}" for r in found))
    lines += [
        f"{rule:16}" + "".join(f"{row.rates[rule]:17.3f}" for row in found)
        for rule in found[0].rates
    ]
    return "\n".join(lines)


def rivals(document: Document) -> int:
    """How many entities compete for the last pronoun of a document that has an antecedent.

    These are the entities with a mention that ends before it. Zero if there is no such pronoun.
    """
    competing = 0
    for mention in document.mentions:
        before = {m.entity for m in document.mentions if m.end < mention.head}
        if document.words[mention.head].upos == "PRON" and mention.entity in before:
            competing = max(competing, len(before))
    return competing


def _anaphors(document: Document) -> Iterator[Mention]:
    """The third-person pronouns that have an earlier mention of another form."""
    for mention in document.mentions:
        form = document.words[mention.head].form.lower()
        if form in PERSONAL and any(_antecedes(document, m, mention) for m in document.mentions):
            yield mention


def _antecedes(document: Document, earlier: Mention, anaphor: Mention) -> bool:
    form = document.words[anaphor.head].form.lower()
    return (
        earlier.entity == anaphor.entity
        and earlier.end < anaphor.head
        and document.words[earlier.head].form.lower() != form
    )


def balance(documents: Sequence[Document]) -> dict[str, dict[str, float]]:
    """Property of the antecedent -> its values -> the share of third-person pronouns.

    ``order`` is the place of the entity among the entities of the passage, by first mention.
    ``role``, ``sentence`` and ``distance`` describe the nearest antecedent of another form.
    """
    counts: dict[str, Counter[str]] = {}
    for document in documents:
        taken = entity_pronouns(document)
        order = list(dict.fromkeys(m.entity for m in document.mentions))
        for mention in _anaphors(document):
            nearest = max(
                (m for m in document.mentions if _antecedes(document, m, mention)),
                key=lambda m: m.end,
            )
            head, words = document.words[nearest.head], document.words
            sentences = len({w.sentence_start for w in words[nearest.head : mention.head + 1]})
            values = {
                "pronoun": taken[mention.entity],
                "gender": taken[mention.entity] if taken[mention.entity] in ("she", "he") else "",
                "number": "plural" if taken[mention.entity] == "they" else "singular",
                "animacy": "animate" if mention.etype in ("person", "animal") else "inanimate",
                "order": str(min(order.index(mention.entity) + 1, 5)),
                "role": _role(head.deprel),
                "own role": _role(words[mention.head].deprel),
                "sentence": ("same", "last", "before")[min(sentences, 3) - 1],
                "distance": _distance(mention.head - nearest.end),
            }
            for name, value in values.items():
                if value:
                    counts.setdefault(name, Counter())[value] += 1
    return {
        name: {value: count[value] / count.total() for value in sorted(count)}
        for name, count in counts.items()
    }


def _role(deprel: str) -> str:
    relation = deprel.partition(":")[0]
    return {"nsubj": "subject", "obj": "object", "iobj": "object"}.get(relation, "other")


def _distance(words: int) -> str:
    for low, high in ((1, 4), (5, 8), (9, 16), (17, 32)):
        if words <= high:
            return f"{low:02}-{high:02}"
    return "33-"


def balance_table(found: Mapping[str, Mapping[str, float]]) -> str:
    """The shares as text, a line per property."""
    return "\n".join(
        f"{name:16}" + "  ".join(f"{value} {share:.2f}" for value, share in values.items())
        for name, values in found.items()
    )
