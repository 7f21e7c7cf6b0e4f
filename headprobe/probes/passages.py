"""Cutting documents into passages of whole sentences (docs/method.md), and sampling passages."""

import hashlib
from bisect import insort
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice, zip_longest

from headprobe.probes.document import Document, Passage, PassageWord, Sentence
from headprobe.probes.file import SkipCallback
from headprobe.probes.relations import (
    Excerpt,
    Excerpts,
    cut_off,
    declared,
    make_relations,
)
from headprobe.probes.semantic import twin_document
from headprobe.vocabulary import Skipped

CountTokens = Callable[[Sequence[str]], Sequence[int]]
"""Returns the number of tokens of each text, without special tokens."""


def cut_passages(
    document: Document,
    count_tokens: CountTokens,
    budget: int,
    note: SkipCallback,
    context: int | None = None,
) -> Iterator[Passage]:
    """Yield the passages of a document in order, each with up to ``budget`` tokens.

    A sentence longer than the budget becomes a passage of its own. A sentence longer than
    ``context`` (by default the budget) is skipped and reported to ``note``; no passage spans the
    gap that it leaves. A passage with replaced words has a twin, unless that is longer than
    ``context``.
    """
    limit = budget if context is None else context
    texts = [sentence_text(sentence) for sentence in document.sentences]
    counts = count_tokens(texts)
    excerpts = Excerpts(document)
    twin = twin_document(document) if document.twins else None
    number = 0
    for first, last in _runs(texts, counts, count_tokens, budget):
        if counts[first] > limit:
            note(
                Skipped(
                    document.sentences[first].source,
                    "sentence",
                    f"longer than the {limit} tokens that fit",
                )
            )
            continue
        number += 1
        excerpt = excerpts.take(first, last)
        passage = _passage(document, excerpt, texts[first:last], number, first)
        if twin is not None:
            passage = replace(passage, twin=_twin_passage(twin, first, last, passage))
            if passage.twin is not None and count_tokens([passage.twin.text])[0] > limit:
                note(Skipped(passage.source, "twin", f"longer than the {limit} tokens that fit"))
                passage = replace(passage, twin=None)
        yield passage


def sentence_text(sentence: Sentence) -> str:
    """Return the exact text of a sentence, without a space after its last word."""
    return "".join(
        surface.form + " " * surface.space_after for surface in sentence.surfaces[:-1]
    ) + "".join(surface.form for surface in sentence.surfaces[-1:])


def _runs(
    texts: Sequence[str], counts: Sequence[int], count_tokens: CountTokens, budget: int
) -> Iterator[tuple[int, int]]:
    """Yield the first sentence of each passage and the one after its last.

    A sentence over the budget is yielded alone.
    """
    first = 0
    while first < len(texts):
        last, total = first, 0
        while last < len(texts) and total + counts[last] <= budget:
            total += counts[last]
            last += 1
        # Tokens can differ where joined sentences meet, so the joined text is counted too.
        while last - first > 1 and count_tokens([" ".join(texts[first:last])])[0] > budget:
            last -= 1
        last = max(last, first + 1)
        yield first, last
        first = last


def _passage(
    document: Document, excerpt: Excerpt, texts: Sequence[str], number: int, first: int
) -> Passage:
    relations = make_relations(excerpt, annotated=document.annotated, from_text=document.from_text)
    return Passage(
        id=f"{document.id}-{number}",
        document=document.id,
        domain=document.domain,
        cluster=document.cluster or document.id,
        text=" ".join(texts),
        words=tuple(_words(excerpt, texts)),
        links=relations.links,
        classes=relations.classes,
        mention_ends=_mention_ends(excerpt),
        cut_off=cut_off(excerpt) if document.annotated else 0,
        source=excerpt.sentences[0].source,
        first_sentence=first,
    )


def _twin_passage(twin: Document, first: int, last: int, passage: Passage) -> Passage | None:
    """Return the twin of a passage, which holds the same sentences; None if no word differs."""
    texts = [sentence_text(sentence) for sentence in twin.sentences[first:last]]
    if " ".join(texts) == passage.text:
        return None
    excerpt = Excerpts(twin).take(first, last)
    return replace(
        passage,
        id=f"{passage.id}-twin",
        text=" ".join(texts),
        words=tuple(_words(excerpt, texts)),
        links=tuple(
            link._replace(relation=replace(link.relation, twin=True))
            for link in declared(excerpt).links
        ),
        classes={},
        mention_ends={},
        cut_off=0,
    )


def _words(excerpt: Excerpt, texts: Sequence[str]) -> Iterator[PassageWord]:
    """Yield the words of all sentences, whose ``texts`` are joined by single spaces."""
    start = 0
    for index, (sentence, text) in enumerate(zip(excerpt.sentences, texts, strict=True)):
        yield from _passage_words(sentence, index, start)
        start += len(text) + 1


def _mention_ends(excerpt: Excerpt) -> dict[int, int]:
    """Return, for each word that heads mentions, the last word of the mention that ends first.

    Mentions that start before the excerpt do not count.
    """
    ends: dict[int, int] = {}
    for mention in excerpt.mentions:
        if mention.words[0] >= 0:
            ends[mention.head] = min(ends.get(mention.head, mention.words[-1]), mention.words[-1])
    return ends


def _passage_words(sentence: Sentence, index: int, start: int) -> Iterator[PassageWord]:
    """Yield the words of a sentence whose text begins at character ``start`` of the passage."""
    for surface in sentence.surfaces:
        words = sentence.words[surface.first : surface.last + 1]
        # The words of a contraction ("du" = "de" + "le") have no characters of their own.
        separable = len(words) == 1 or "".join(word.form for word in words) == surface.form
        word_start = start
        for word in words:
            end = word_start + len(word.form) * separable
            yield PassageWord(
                word.form, word.upos, index, word_start, end, word.deprel, word.lemma_key
            )
            word_start = end
        start += len(surface.form) + surface.space_after


RankedPassage = tuple[str, int, int, Passage]
"""A passage after its hash, the number of its file, and its own number in order of reading."""


def sample_passages(
    passages: Iterable[tuple[int, Passage]], size: int, seed: int
) -> tuple[list[tuple[int, Passage]], int]:
    """Return at most ``size`` passages in their order of reading, and the number of all passages.

    Each passage comes with the number of its file. The strata, one for each file and domain, take
    turns in contributing their passage with the lowest hash, until there are enough. The hash is of
    the seed and the passage's id, so whether a passage precedes another in its stratum does not
    depend on what else is read.
    """
    strata: dict[tuple[int, str], list[RankedPassage]] = {}
    number = -1
    for number, (file, passage) in enumerate(passages):
        rank = hashlib.blake2b(f"{seed} {passage.id}".encode(), digest_size=8).hexdigest()
        stratum = strata.setdefault((file, passage.domain), [])
        insort(stratum, (rank, file, number, passage), key=lambda ranked: ranked[:3])
        del stratum[size:]
    rounds = zip_longest(*(strata[key] for key in sorted(strata)))
    chosen = islice((ranked for turn in rounds for ranked in turn if ranked is not None), size)
    ordered = sorted(chosen, key=lambda ranked: ranked[2])
    return [(file, passage) for _, file, _, passage in ordered], number + 1
