"""Relation makers: from a run of sentences to links and classes, as METHOD section 2 has it.

Every link goes from the later word to earlier ones, because a decoder sees only those.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from types import MappingProxyType

from headprobe.probes.document import Link, Mention, Word
from headprobe.probes.excerpt import Excerpt
from headprobe.probes.marks import ANY, MARKS, is_mark, mark_class
from headprobe.store.relation import Relation

ANAPHORS = ("pronoun", "nominal", "proper")
"""The coreference relations: what kind of word the anaphor is."""

_NO_RELATIONS = frozenset({"", "punct", "root"})
_ANAPHOR_OF = MappingProxyType({"PRON": "pronoun", "DET": "pronoun", "PROPN": "proper"})
_STRICT = "-strict"


@dataclass(frozen=True, slots=True)
class Made:
    """What a maker finds: links, and for relations with ``every`` the words of their class."""

    links: tuple[Link, ...] = ()
    classes: Mapping[Relation, tuple[int, ...]] = field(default_factory=dict)


Maker = Callable[[Excerpt], Made]


def syntax(excerpt: Excerpt) -> Made:
    """One instance per word, relation (subtype folded) and direction of its edges."""
    targets: dict[tuple[int, str, bool], list[int]] = {}
    for start, sentence in excerpt.numbered:
        for index, word in enumerate(sentence.words):
            name = word.deprel.partition(":")[0]
            head = word.head
            if head is None or name in _NO_RELATIONS:
                continue
            later, earlier = (index, head) if head < index else (head, index)
            targets.setdefault((start + later, name, head < index), []).append(start + earlier)
    return Made(
        _links((_edge(name, to_head), query, t) for (query, name, to_head), t in targets.items())
    )


@cache
def _edge(name: str, to_head: bool) -> Relation:
    return Relation("syntax", name, "head" if to_head else "dependent", "sentence")


def coreference(excerpt: Excerpt) -> Made:
    """One instance per anaphor's head word and entity, and its strict version beside it."""
    links: list[tuple[Relation, int, Iterable[int]]] = []
    for query, mentions in _earlier_mentions(excerpt):
        words = excerpt.words
        relation = Relation(
            "coreference", _ANAPHOR_OF.get(words[query].upos, "nominal"), "antecedent"
        )
        links.append((relation, query, _words_of(mentions)))
        links.append((strict(relation), query, _other_forms(words, query, mentions)))
    return Made(_links(links))


def punctuation(excerpt: Excerpt) -> Made:
    """The marks of each class; every word looks to every earlier one."""
    marks = [(index, word) for index, word in enumerate(excerpt.words) if is_mark(word)]
    members = {ANY: [index for index, _ in marks]} | {name: [] for name in MARKS}
    for index, word in marks:
        members[mark_class(word.form)].append(index)
    return Made(
        classes={
            Relation("punctuation", name, "mark", every=True): tuple(found)
            for name, found in members.items()
            if found
        }
    )


def declared(excerpt: Excerpt) -> Made:
    """The links that the probe file declares; of coreference the strict version too."""
    links: list[tuple[Relation, int, Iterable[int]]] = []
    for link in excerpt.declared:
        inside = [target for target in link.targets if target >= 0]
        links.append((link.relation, link.query, inside))
        if link.relation.family == "coreference":
            mentions = [Mention("", (target,), target) for target in inside]
            forms = _other_forms(excerpt.words, link.query, mentions)
            links.append((strict(link.relation), link.query, forms))
    return Made(_links(links))


MAKERS: dict[str, Maker] = {
    "syntax": syntax,
    "coreference": coreference,
    "punctuation": punctuation,
    "declared": declared,
}
"""Extension point: every maker that is asked about each passage."""


def make(excerpt: Excerpt) -> Made:
    """All links and classes of an excerpt, by every maker."""
    found = [maker(excerpt) for maker in MAKERS.values()]
    return Made(
        tuple(link for made in found for link in made.links),
        {relation: words for made in found for relation, words in made.classes.items()},
    )


def cut_off(excerpt: Excerpt) -> int:
    """How many anaphors and declared links have targets before the excerpt only."""
    anaphors = {(m.head, m.entity) for m in excerpt.mentions if m.entity in excerpt.before}
    linked = {(query, mentions[0].entity) for query, mentions in _earlier_mentions(excerpt)}
    declared = sum(max(link.targets) < 0 for link in excerpt.declared)
    return len(anaphors - linked) + declared


def strict(relation: Relation) -> Relation:
    """The same relation without the anaphor's own form."""
    return replace(relation, name=relation.name + _STRICT, strict=True)


def _links(found: Iterable[tuple[Relation, int, Iterable[int]]]) -> tuple[Link, ...]:
    links = (Link(relation, query, tuple(sorted(set(words)))) for relation, query, words in found)
    return tuple(link for link in links if link.targets)


def _earlier_mentions(excerpt: Excerpt) -> Iterator[tuple[int, list[Mention]]]:
    """(anaphor's head word, the mentions of the same entity that end before it)."""
    entities: dict[str, list[Mention]] = {}
    for mention in excerpt.mentions:
        entities.setdefault(mention.entity, []).append(mention)
    anaphors = sorted({(mention.head, mention.entity) for mention in excerpt.mentions})
    for query, entity in anaphors:
        earlier = [m for m in entities[entity] if m.words[0] >= 0 and m.words[-1] < query]
        if earlier:
            yield query, earlier


def _words_of(mentions: Iterable[Mention]) -> Iterator[int]:
    return (word for mention in mentions for word in mention.words)


def _other_forms(words: tuple[Word, ...], query: int, mentions: Iterable[Mention]) -> list[int]:
    """The words of mentions without those of the query's form, be it the head's or their own."""
    form = words[query].form.lower()
    others = (mention for mention in mentions if words[mention.head].form.lower() != form)
    return [word for word in _words_of(others) if words[word].form.lower() != form]
