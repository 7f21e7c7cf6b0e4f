"""Relation makers: from a run of sentences to links and classes, as METHOD section 2 has it.

Every link goes from the later word to earlier ones, because a decoder sees only those.

A run of whole sentences of a document, seen with word indices of its own.

Punctuation marks and their classes: the one list (METHOD section 2).
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from itertools import accumulate
from types import MappingProxyType

from headprobe.probes.document import DeclaredLink, Document, Link, Mention, Sentence, Word
from headprobe.vocabulary import Relation


@dataclass(frozen=True)
class Excerpt:
    """Whole sentences of a document; word indices count from the first of their words.

    ``mentions`` are those whose head word is inside, by head word; ``declared`` are the links whose
    query is. Their other words may lie before the excerpt (a negative index) or after it.
    ``before`` are the entities that have a whole mention before the excerpt.
    """

    sentences: tuple[Sentence, ...]
    mentions: tuple[Mention, ...] = ()
    declared: tuple[DeclaredLink, ...] = ()
    before: frozenset[str] = frozenset()

    @cached_property
    def words(self) -> tuple[Word, ...]:
        return tuple(word for sentence in self.sentences for word in sentence.words)

    @property
    def numbered(self) -> Iterator[tuple[int, Sentence]]:
        """(index of its first word, sentence)."""
        return zip(_starts(self.sentences), self.sentences, strict=False)


class Excerpts:
    """Takes excerpts out of one document."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._starts = _starts(document.sentences)
        self._mentions = sorted(document.mentions, key=lambda mention: mention.head)
        self._declared = sorted(document.declared, key=lambda declared: declared.query)
        self._heads = [mention.head for mention in self._mentions]
        self._queries = [declared.query for declared in self._declared]
        self._first_end: dict[str, int] = {}
        for mention in document.mentions:
            end = self._first_end.get(mention.entity, mention.words[-1])
            self._first_end[mention.entity] = min(end, mention.words[-1])

    def take(self, first: int, last: int) -> Excerpt:
        """The sentences ``first`` to ``last`` - 1."""
        start, end = self._starts[first], self._starts[last]
        return Excerpt(
            self._document.sentences[first:last],
            tuple(
                Mention(
                    mention.entity, tuple(w - start for w in mention.words), mention.head - start
                )
                for mention in self._mentions[
                    bisect_left(self._heads, start) : bisect_left(self._heads, end)
                ]
            ),
            tuple(
                DeclaredLink(
                    declared.relation,
                    declared.query - start,
                    tuple(target - start for target in declared.targets),
                )
                for declared in self._declared[
                    bisect_left(self._queries, start) : bisect_left(self._queries, end)
                ]
            ),
            frozenset(entity for entity, end in self._first_end.items() if end < start),
        )


def _starts(sentences: Sequence[Sentence]) -> list[int]:
    """The index of each sentence's first word, and last the number of all words."""
    return [0, *accumulate(len(sentence.words) for sentence in sentences)]


ANY = "any"
"""The relation to marks of every class."""

MARKS: Mapping[str, str] = MappingProxyType(
    {
        "stop": ".!?…‥‼⁇⁈⁉。！？．｡﹒﹖﹗؟۔܀՜՞։।॥།༎።፧፨᙮᠃᠉‽",
        "comma": ",，、､،՝፣﹐﹑᠂᠈߸",
        "quote": "\"'`´‘’‚‛“”„‟«»‹›′″‵‶「」『』｢｣《》〈〉〝〞〟＂＇｀",
        "bracket": "()[]{}<>＜＞⟨⟩⟪⟫（）［］｛｝【】〔〕〖〗〘〙〚〛｟｠⁅⁆⁽⁾﴾﴿﹙﹚﹛﹜﹝﹞",
        "other": ":;-–—―‐‑‒−/\\*•·‧・_~|¦&@#%§¶†‡=+^¡¿；：－～／＼＊＿｜＝＋؛፤፥〜〰᠊־׀׃",
    }
)
"""Class -> its characters. A mark without any of them is of the class ``other``."""

_CLASS = {character: name for name, characters in MARKS.items() for character in characters}


def is_mark(word: Word) -> bool:
    """Whether a word is a mark: its UPOS is PUNCT."""
    return word.upos == "PUNCT"


def mark_class(form: str) -> str:
    """The class of a mark: that of its first listed character, else ``other``."""
    return next((_CLASS[character] for character in form if character in _CLASS), "other")


def marks_by_class() -> tuple[tuple[str, str], ...]:
    """(class, its characters divided by spaces), for showing to a person."""
    return tuple((name, " ".join(characters)) for name, characters in MARKS.items())


ANAPHORS = ("pronoun", "nominal", "proper")
"""The coreference relations: what kind of word the anaphor is."""

_NO_RELATIONS = frozenset({"", "punct", "root"})

_ANAPHOR_OF = MappingProxyType({"PRON": "pronoun", "DET": "pronoun", "PROPN": "proper"})

_STRICT = "-strict"


@dataclass(frozen=True, slots=True)
class RelationLinks:
    """What a maker finds: links, and for relations with ``every`` the words of their class."""

    links: tuple[Link, ...] = ()
    classes: Mapping[Relation, tuple[int, ...]] = field(default_factory=dict)


Maker = Callable[[Excerpt], RelationLinks]


def syntax(excerpt: Excerpt) -> RelationLinks:
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
    return RelationLinks(
        _links((_edge(name, to_head), query, t) for (query, name, to_head), t in targets.items())
    )


@cache
def _edge(name: str, to_head: bool) -> Relation:
    return Relation("syntax", name, "head" if to_head else "dependent", "sentence")


def coreference(excerpt: Excerpt) -> RelationLinks:
    """One instance per anaphor's head word and entity, and its strict version beside it."""
    links: list[tuple[Relation, int, Iterable[int]]] = []
    for query, mentions in _earlier_mentions(excerpt):
        words = excerpt.words
        relation = Relation(
            "coreference", _ANAPHOR_OF.get(words[query].upos, "nominal"), "antecedent"
        )
        links.append((relation, query, _words_of(mentions)))
        links.append((strict(relation), query, _other_forms(words, query, mentions)))
    return RelationLinks(_links(links))


def punctuation(excerpt: Excerpt) -> RelationLinks:
    """The marks of each class; every word looks to every earlier one."""
    marks = [(index, word) for index, word in enumerate(excerpt.words) if is_mark(word)]
    members = {ANY: [index for index, _ in marks]} | {name: [] for name in MARKS}
    for index, word in marks:
        members[mark_class(word.form)].append(index)
    return RelationLinks(
        classes={
            Relation("punctuation", name, "mark", every=True): tuple(found)
            for name, found in members.items()
            if found
        }
    )


def declared(excerpt: Excerpt) -> RelationLinks:
    """The links that the probe file declares; of coreference the strict version too."""
    links: list[tuple[Relation, int, Iterable[int]]] = []
    for link in excerpt.declared:
        inside = [target for target in link.targets if target >= 0]
        links.append((link.relation, link.query, inside))
        if link.relation.family == "coreference":
            mentions = [Mention("", (target,), target) for target in inside]
            forms = _other_forms(excerpt.words, link.query, mentions)
            links.append((strict(link.relation), link.query, forms))
    return RelationLinks(_links(links))


MAKERS: dict[str, Maker] = {
    "syntax": syntax,
    "coreference": coreference,
    "punctuation": punctuation,
    "declared": declared,
}
"""Extension point: every maker that is asked about each passage."""


def make_relations(excerpt: Excerpt) -> RelationLinks:
    """All links and classes of an excerpt, by every maker."""
    found = [maker(excerpt) for maker in MAKERS.values()]
    return RelationLinks(
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


def _links(triples: Iterable[tuple[Relation, int, Iterable[int]]]) -> tuple[Link, ...]:
    links = (Link(relation, query, tuple(sorted(set(words)))) for relation, query, words in triples)
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
