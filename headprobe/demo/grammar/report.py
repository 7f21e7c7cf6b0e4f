"""What the probe sets hold: instances, target forms and position baselines per relation."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from headprobe.demo.grammar.reading import Document, Instance, instances, read_documents
from headprobe.demo.grammar.wordlists import words

PERSONAL = {
    **dict.fromkeys(words("she her herself hers"), "she"),
    **dict.fromkeys(words("he him his himself"), "he"),
    **dict.fromkeys(words("it its itself"), "it"),
    **dict.fromkeys(words("they them their themselves"), "they"),
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One relation: counts and the hit rates of the best position rules, over instances."""

    relation: str
    looks_to: str
    n: int
    forms: int
    offset: float
    best_offset: int
    start: float


def load(paths: Iterable[Path]) -> list[Document]:
    """All documents of the files, in order."""
    return [document for path in paths for document in read_documents(path)]


def rows(documents: Iterable[Document]) -> list[Row]:
    """One row per relation and looks_to, largest first."""
    found: dict[tuple[str, str], list[Instance]] = defaultdict(list)
    for document in documents:
        for relation, looks_to, instance in instances(document):
            found[relation, looks_to].append(instance)
    return sorted((_row(*key, each) for key, each in found.items()), key=lambda row: -row.n)


def _row(relation: str, looks_to: str, found: list[Instance]) -> Row:
    offsets: Counter[int] = Counter()
    starts: Counter[tuple[str, int]] = Counter()
    for instance in found:
        offsets.update(instance.query - target for target in instance.targets)
        starts.update(("passage", target) for target in instance.targets)
        starts.update(
            ("sentence", target - instance.sentence_start)
            for target in instance.targets
            if target >= instance.sentence_start
        )
    (best, hits), n = offsets.most_common(1)[0], len(found)
    forms = len({instance.form for instance in found})
    return Row(relation, looks_to, n, forms, hits / n, best, max(starts.values()) / n)


def cues(documents: Iterable[Document]) -> Counter[str]:
    """Pronouns with a rival by where the deciding cue stands.

    A rival is another entity of the same sort (person or not) mentioned before. Where it
    takes another pronoun, the pronoun's own form decides ("before"); otherwise the rest of
    the clause has to ("after"), which a model has not read yet at the pronoun.
    """
    count: Counter[str] = Counter()
    for document in documents:
        taken = entity_pronouns(document)
        for mention in document.mentions:
            own = PERSONAL.get(document.words[mention.head].form.lower())
            if own is None:
                continue
            for other in {m.entity for m in document.mentions if m.end < mention.head}:
                rival = next(m for m in document.mentions if m.entity == other)
                same_sort = (rival.etype == "person") == (mention.etype == "person")
                if other != mention.entity and same_sort and other in taken:
                    count["after" if own == taken[other] else "before"] += 1
    return count


def entity_pronouns(document: Document) -> dict[str, str]:
    """The pronoun each entity takes: as declared, else as first seen in the text."""
    declared = document.comments.get("pronouns", "")
    taken = dict(part.split() for part in declared.split(", ") if part)
    for mention in document.mentions:
        form = document.words[mention.head].form.lower()
        if form in PERSONAL:
            taken.setdefault(mention.entity, PERSONAL[form])
    return taken


def table(found: Iterable[Row]) -> str:
    """The rows as text."""
    lines = [
        f"{'relation':16} {'looks_to':11} {'n':>6} {'forms':>6} "
        f"{'offset':>7} {'at':>4} {'start':>6}"
    ]
    lines += [
        f"{row.relation:16} {row.looks_to:11} {row.n:6} {row.forms:6} "
        f"{row.offset:7.2f} {-row.best_offset:4} {row.start:6.2f}"
        for row in found
    ]
    return "\n".join(lines)
