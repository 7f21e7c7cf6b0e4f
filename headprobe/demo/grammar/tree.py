"""Dependency trees that are built together with their words, and how they become CoNLL-U."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from headprobe.demo.grammar.wordlists import words as word_set

NO_SPACE_BEFORE = word_set(". , ! ? ; : ) ” ’ …")
NO_SPACE_AFTER = word_set("( “ ‘")
OPENING_QUOTES = word_set('“ ‘ "')
CLOSING_MARKS = word_set(". , ! ? ; : )")
CLITICS = word_set("n't 's ' 'll 'd 've 're 'm")
OUTSIDE_MENTION = word_set("case cc mark punct")


@dataclass
class Node:
    """One word with its dependents in surface order.

    `entity` marks the whole phrase as a mention, `own_entity` the bare head (with its
    `flat` parts), as for the first name of a coordination.
    """

    form: str
    lemma: str
    upos: str
    deprel: str
    entity: str | None = None
    own_entity: str | None = None
    left: list[Node] = field(default_factory=list)
    right: list[Node] = field(default_factory=list)

    def children(self) -> list[Node]:
        """All dependents, in surface order."""
        return self.left + self.right

    def words(self) -> Iterator[Node]:
        """The phrase in surface order; projective because a phrase is never interrupted."""
        for child in self.left:
            yield from child.words()
        yield self
        for child in self.right:
            yield from child.words()


@dataclass(frozen=True)
class Mention:
    """Words `start` to `end` (0-based, both included) of one sentence; `head` lies inside."""

    entity: str
    start: int
    end: int
    head: int


@dataclass
class Sentence:
    """A finished sentence: words in order, heads by position (-1 for the root), mentions."""

    words: list[Node]
    heads: list[int]
    mentions: list[Mention]
    glued: list[bool]

    @property
    def text(self) -> str:
        """The surface string."""
        parts: list[str] = []
        for word, glued in zip(self.words, self.glued, strict=True):
            parts.append(word.form if glued or not parts else " " + word.form)
        return "".join(parts)


def finish(root: Node) -> Sentence:
    """Number the words of a tree, choose a or an, capitalise, and collect the mentions."""
    _merge_commas(root)
    words = list(root.words())
    position = {id(word): index for index, word in enumerate(words)}
    heads = [-1] * len(words)
    for word in words:
        for child in word.children():
            heads[position[id(child)]] = position[id(word)]
    _choose_article(words)
    _capitalise(words)
    mentions = [m for word in words for m in _mentions_of(word, position)]
    mentions.sort(key=lambda m: (m.start, -m.end))
    return Sentence(words, heads, mentions, _glue(words))


def _merge_commas(root: Node) -> None:
    """Drop a comma that another mark follows (the end of an apposition at a sentence's end)."""
    words = list(root.words())
    doomed = {
        id(here)
        for here, following in pairwise(words)
        if here.form == "," and following.upos == "PUNCT" and following.form in CLOSING_MARKS
    }
    for word in words:
        word.left = [child for child in word.left if id(child) not in doomed]
        word.right = [child for child in word.right if id(child) not in doomed]


def _mentions_of(word: Node, position: dict[int, int]) -> Iterator[Mention]:
    head = position[id(word)]
    if word.own_entity:
        parts = [position[id(c)] for c in word.children() if c.deprel in ("flat", "nmod:desc")]
        yield Mention(word.own_entity, min([head, *parts]), max([head, *parts]), head)
    if word.entity:
        outside = {
            id(inner)
            for child in word.left
            if child.deprel in OUTSIDE_MENTION
            for inner in child.words()
        }
        span = [w for w in word.words() if id(w) not in outside]
        while span[-1].upos == "PUNCT":
            span.pop()
        yield Mention(word.entity, position[id(span[0])], position[id(span[-1])], head)


def _choose_article(words: list[Node]) -> None:
    for here, following in pairwise(words):
        if here.form.lower() in ("a", "an") and here.upos == "DET":
            here.form = "an" if sounds_like_vowel(following.form) else "a"


def sounds_like_vowel(form: str) -> bool:
    """Whether English says "an" before this word."""
    low = form.lower()
    if low.startswith(("hour", "honest", "honour", "heir")):
        return True
    if low.startswith(("uni", "use", "eu", "one", "once", "ut")):
        return low.startswith(("unim", "unin", "unius", "utt"))
    return low[0] in "aeiou"


def _capitalise(words: list[Node]) -> None:
    """Capitalise the sentence, and direct speech that opens at its start or after a mark."""
    quotes_seen = 0
    wanted = True
    for index, word in enumerate(words):
        if word.upos != "PUNCT":
            if wanted:
                word.form = word.form[0].upper() + word.form[1:]
            wanted = False
        elif word.form in OPENING_QUOTES:
            quotes_seen += 1
            after_mark = index == 0 or words[index - 1].upos == "PUNCT"
            wanted = wanted or (quotes_seen == 1 and after_mark)


def _glue(words: list[Node]) -> list[bool]:
    """For each word, whether no space stands before it."""
    glued: list[bool] = []
    inside = False
    previous: Node | None = None
    after_opening = False
    for word in words:
        quote = word.form == '"' and word.upos == "PUNCT"
        closing = quote and inside
        tight = word.form in NO_SPACE_BEFORE and word.upos == "PUNCT"
        clitic = word.form in CLITICS and word.upos in ("PART", "AUX")
        glued.append(previous is not None and (after_opening or closing or tight or clitic))
        after_opening = word.upos == "PUNCT" and (
            word.form in NO_SPACE_AFTER or (quote and not inside)
        )
        inside = inside != quote
        previous = word
    return glued
