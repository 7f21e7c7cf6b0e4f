"""Relation makers: they derive links and classes from consecutive sentences (docs/method.md).

Every link goes from a later word to earlier ones, because a decoder attends only to those.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from itertools import accumulate
from types import MappingProxyType

from headprobe.probes.document import DeclaredLink, Document, Link, Mention, Sentence, Word
from headprobe.vocabulary import ANY_MARK, REPETITION, STRICT_SUFFIX, WORD_CLASS, Relation


@dataclass(frozen=True)
class Excerpt:
    """Whole sentences of a document; word indices count from the first word of the excerpt.

    The other words of a mention or a link may lie before the excerpt, with a negative index, or
    after it.
    """

    sentences: tuple[Sentence, ...]

    mentions: tuple[Mention, ...] = ()
    """Mentions whose head word is inside, sorted by head word."""

    declared: tuple[DeclaredLink, ...] = ()
    """Declared links whose query word is inside."""

    before: frozenset[str] = frozenset()
    """Entities that have a whole mention before the excerpt."""

    @cached_property
    def words(self) -> tuple[Word, ...]:
        """The words of all sentences."""
        return tuple(word for sentence in self.sentences for word in sentence.words)

    @property
    def numbered(self) -> Iterator[tuple[int, Sentence]]:
        """Each sentence after the index of its first word."""
        return zip(_starts(self.sentences), self.sentences, strict=False)


class Excerpts:
    """Takes excerpts from one document."""

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
        """Return the excerpt of the sentences from ``first`` up to, but without, ``last``."""
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
    """Return the index of each sentence's first word, followed by the number of all words."""
    return [0, *accumulate(len(sentence.words) for sentence in sentences)]


MARKS: Mapping[str, str] = MappingProxyType(
    {
        "stop": ".!?…‥‼⁇⁈⁉。！？．｡﹒﹖﹗؟۔܀՜՞։।॥།༎።፧፨᙮᠃᠉‽",
        "comma": ",，、､،՝፣﹐﹑᠂᠈߸",
        "quote": "\"'`´‘’‚‛“”„‟«»‹›′″‵‶「」『』｢｣《》〈〉〝〞〟＂＇｀",
        "bracket": "()[]{}<>＜＞⟨⟩⟪⟫（）［］｛｝【】〔〕〖〗〘〙〚〛｟｠⁅⁆⁽⁾﴾﴿﹙﹚﹛﹜﹝﹞",
        "other": ":;-–—―‐‑‒−/\\*•·‧・_~|¦&@#%§¶†‡=+^¡¿；：－～／＼＊＿｜＝＋؛፤፥〜〰᠊־׀׃",
    }
)
"""Class of punctuation marks -> its characters. A mark without any of these characters belongs to
the class ``other``."""

_CLASS_BY_CHARACTER = {
    character: name for name, characters in MARKS.items() for character in characters
}


def is_mark(word: Word) -> bool:
    """Whether a word is a punctuation mark, that is, has the UPOS PUNCT."""
    return word.upos == "PUNCT"


def mark_class(form: str) -> str:
    """Return the class of the mark's first character in ``MARKS``, or else ``other``."""
    classes = (_CLASS_BY_CHARACTER.get(character) for character in form)
    return next((name for name in classes if name is not None), "other")


def marks_by_class() -> tuple[tuple[str, str], ...]:
    """Return each class and its characters, separated by spaces, for display."""
    return tuple((name, " ".join(characters)) for name, characters in MARKS.items())


_DEPRELS_WITHOUT_RELATION = frozenset({"", "punct", "root"})

_ANAPHOR_BY_UPOS = MappingProxyType({"PRON": "pronoun", "DET": "pronoun", "PROPN": "proper"})
"""UPOS of the anaphor's head word -> coreference relation; all other words are ``nominal``."""


@dataclass(frozen=True, slots=True)
class RelationLinks:
    """The instances that a maker derives from an excerpt."""

    links: tuple[Link, ...] = ()

    classes: Mapping[Relation, tuple[int, ...]] = field(default_factory=dict)
    """Relation with ``every`` -> the words of its class."""


Maker = Callable[[Excerpt], RelationLinks]
"""Derives the instances of some relations from an excerpt."""


def syntax(excerpt: Excerpt) -> RelationLinks:
    """Make one link for each word, relation (without subtype) and direction of its edges."""
    targets: dict[tuple[int, str, bool], list[int]] = {}
    for start, sentence in excerpt.numbered:
        for index, word in enumerate(sentence.words):
            name = word.deprel.partition(":")[0]
            head = word.head
            if head is None or name in _DEPRELS_WITHOUT_RELATION:
                continue
            later, earlier = (index, head) if head < index else (head, index)
            targets.setdefault((start + later, name, head < index), []).append(start + earlier)
    return RelationLinks(
        _links(
            (_edge_relation(name, to_head), query, words, "")
            for (query, name, to_head), words in targets.items()
        )
    )


@cache
def _edge_relation(name: str, to_head: bool) -> Relation:
    return Relation("syntax", name, "head" if to_head else "dependent", "sentence")


def coreference(excerpt: Excerpt) -> RelationLinks:
    """Make one link for each anaphor's head word and entity, and one of the strict relation."""
    links: list[UncheckedLink] = []
    for query, mentions in _earlier_mentions(excerpt):
        words, entity = excerpt.words, mentions[0].entity
        relation = Relation(
            "coreference", _ANAPHOR_BY_UPOS.get(words[query].upos, "nominal"), "antecedent"
        )
        links.append((relation, query, _words_of(mentions), entity))
        links.append((strict(relation), query, _other_forms(words, query, mentions), entity))
    return RelationLinks(_links(links))


def punctuation(excerpt: Excerpt) -> RelationLinks:
    """Collect the marks of each class; all words are queries, so there are no explicit links."""
    marks = [(index, word) for index, word in enumerate(excerpt.words) if is_mark(word)]
    members = {ANY_MARK: [index for index, _ in marks]} | {name: [] for name in MARKS}
    for index, word in marks:
        members[mark_class(word.form)].append(index)
    return RelationLinks(
        classes={
            Relation("punctuation", name, "mark", every=True): tuple(indices)
            for name, indices in members.items()
            if indices
        }
    )


WORD_CLASSES: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "noun": frozenset({"NOUN", "PROPN"}),
        "verb": frozenset({"VERB"}),
        "adjective": frozenset({"ADJ"}),
    }
)
"""Word-class relation -> UPOS of its words."""


def word_classes(excerpt: Excerpt) -> RelationLinks:
    """Collect the nouns, verbs and adjectives; all words are queries, as for marks."""
    members = {
        name: tuple(index for index, word in enumerate(excerpt.words) if word.upos in tags)
        for name, tags in WORD_CLASSES.items()
    }
    return RelationLinks(
        classes={
            Relation(WORD_CLASS, name, "word", every=True): indices
            for name, indices in members.items()
            if indices
        }
    )


_SAME_WORD = Relation(REPETITION, "same-word", "copy")


def repetition(excerpt: Excerpt) -> RelationLinks:
    """Make one link from each word to all earlier words of its lower-cased form, except marks."""
    links: list[UncheckedLink] = []
    earlier: dict[str, list[int]] = {}
    for index, word in enumerate(excerpt.words):
        if not is_mark(word):
            copies = earlier.setdefault(word.form.lower(), [])
            links.append((_SAME_WORD, index, tuple(copies), ""))
            copies.append(index)
    return RelationLinks(_links(links))


def declared(excerpt: Excerpt) -> RelationLinks:
    """Make the links that the probe file declares; for coreference, also those that are strict."""
    links: list[UncheckedLink] = []
    for link in excerpt.declared:
        inside = [target for target in link.targets if target >= 0]
        links.append((link.relation, link.query, inside, ""))
        if link.relation.family == "coreference":
            mentions = [Mention("", (target,), target) for target in inside]
            forms = _other_forms(excerpt.words, link.query, mentions)
            links.append((strict(link.relation), link.query, forms, ""))
    return RelationLinks(_links(links))


MAKERS: dict[str, Maker] = {
    "syntax": syntax,
    "coreference": coreference,
    "punctuation": punctuation,
    WORD_CLASS: word_classes,
    "declared": declared,
}
"""Extension point: the makers that run on each annotated passage. The keys only
tell makers apart: a maker of one family has its name, and ``declared`` has all that probe files
declare, whatever their families."""


TEXT_MAKERS: dict[str, Maker] = {"punctuation": punctuation, REPETITION: repetition}
"""The makers that run on the passages of plain text files."""


def make_relations(
    excerpt: Excerpt, *, annotated: bool = True, from_text: bool = False
) -> RelationLinks:
    """Return the links and classes of an excerpt from the makers that apply.

    The arguments are those of its ``Document``.
    """
    makers = {**(MAKERS if annotated else {}), **(TEXT_MAKERS if from_text else {})}
    results = [maker(excerpt) for maker in makers.values()]
    return RelationLinks(
        tuple(link for result in results for link in result.links),
        {relation: words for result in results for relation, words in result.classes.items()},
    )


def cut_off(excerpt: Excerpt) -> int:
    """Count the anaphors and declared links whose targets all come before the excerpt."""
    anaphors = {(m.head, m.entity) for m in excerpt.mentions if m.entity in excerpt.before}
    linked = {(query, mentions[0].entity) for query, mentions in _earlier_mentions(excerpt)}
    declared = sum(max(link.targets) < 0 for link in excerpt.declared)
    return len(anaphors - linked) + declared


def strict(relation: Relation) -> Relation:
    """Return the relation that excludes words of the anaphor's own form."""
    return replace(relation, name=relation.name + STRICT_SUFFIX, strict=True)


UncheckedLink = tuple[Relation, int, Iterable[int], str]
"""Relation, query, targets (in any order, perhaps none) and entity of a link."""


def _links(unchecked: Iterable[UncheckedLink]) -> tuple[Link, ...]:
    """Build the links that have a target."""
    links = (
        Link(relation, query, tuple(sorted(set(words))), entity)
        for relation, query, words, entity in unchecked
    )
    return tuple(link for link in links if link.targets)


def _earlier_mentions(excerpt: Excerpt) -> Iterator[tuple[int, list[Mention]]]:
    """Yield each anaphor's head word, and the mentions of the same entity that end before it.

    Mentions that start before the excerpt do not count.
    """
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
    """Return the words of mentions that do not repeat the query's form.

    A mention whose head word has this form is left out as a whole, and so is each single word that
    has it.
    """
    form = words[query].form.lower()
    others = (mention for mention in mentions if words[mention.head].form.lower() != form)
    return [word for word in _words_of(others) if words[word].form.lower() != form]
