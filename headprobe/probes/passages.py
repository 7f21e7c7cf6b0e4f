"""Documents to passages: runs of whole sentences under a token budget (METHOD section 1).

A seeded sample of passages, spread over probe files and their domains.
"""

import hashlib
from bisect import insort
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice, zip_longest

from headprobe.probes.document import Document, Passage, PassageWord, Sentence
from headprobe.probes.file import SkipCallback
from headprobe.probes.relations import Excerpt, Excerpts, RelationLinks, cut_off, make_relations
from headprobe.vocabulary import Skipped

CountTokens = Callable[[Sequence[str]], Sequence[int]]
"""Tokens of each text, without special ones."""


def cut_passages(
    document: Document,
    count_tokens: CountTokens,
    budget: int,
    note: SkipCallback,
    context: int | None = None,
) -> Iterator[Passage]:
    """The passages of a document, in order, filled up to ``budget`` tokens.

    A sentence that is longer by itself makes a passage of its own; one longer than ``context`` (the
    budget, by default) is noted and left out, and no passage reaches across the gap.
    """
    most = budget if context is None else context
    texts = [sentence_text(sentence) for sentence in document.sentences]
    counts = count_tokens(texts)
    excerpts = Excerpts(document)
    number = 0
    for first, last in _runs(texts, counts, count_tokens, budget):
        if counts[first] > most:
            note(
                Skipped(
                    document.sentences[first].source,
                    "sentence",
                    f"longer than the {most} tokens that fit",
                )
            )
            continue
        number += 1
        yield _passage(document, excerpts.take(first, last), texts[first:last], number)


def sentence_text(sentence: Sentence) -> str:
    """The exact text of a sentence, without a space after its last word."""
    return "".join(
        surface.form + " " * surface.space_after for surface in sentence.surfaces[:-1]
    ) + "".join(surface.form for surface in sentence.surfaces[-1:])


def _runs(
    texts: Sequence[str], counts: Sequence[int], count_tokens: CountTokens, budget: int
) -> Iterator[tuple[int, int]]:
    """(first, last + 1) sentence of each passage; a sentence over the budget stands alone."""
    first = 0
    while first < len(texts):
        last, total = first, 0
        while last < len(texts) and total + counts[last] <= budget:
            total += counts[last]
            last += 1
        # Tokens may split otherwise where sentences meet, so the whole is counted as well.
        while last - first > 1 and count_tokens([" ".join(texts[first:last])])[0] > budget:
            last -= 1
        last = max(last, first + 1)
        yield first, last
        first = last


def _passage(document: Document, excerpt: Excerpt, texts: Sequence[str], number: int) -> Passage:
    words: list[PassageWord] = []
    start = 0
    for index, (sentence, text) in enumerate(zip(excerpt.sentences, texts, strict=True)):
        words.extend(_placed(sentence, index, start))
        start += len(text) + 1
    relations = make_relations(excerpt) if document.annotated else RelationLinks()
    return Passage(
        id=f"{document.id}-{number}",
        document=document.id,
        domain=document.domain,
        cluster=document.cluster or document.id,
        text=" ".join(texts),
        words=tuple(words),
        links=relations.links,
        classes=relations.classes,
        mention_ends=_mention_ends(excerpt),
        cut_off=cut_off(excerpt) if document.annotated else 0,
        source=excerpt.sentences[0].source,
    )


def _mention_ends(excerpt: Excerpt) -> dict[int, int]:
    """Word that heads mentions to the end of the one that ends first; parts outside do not count"""
    ends: dict[int, int] = {}
    for mention in excerpt.mentions:
        if mention.words[0] >= 0:
            ends[mention.head] = min(ends.get(mention.head, mention.words[-1]), mention.words[-1])
    return ends


def _placed(sentence: Sentence, index: int, start: int) -> Iterator[PassageWord]:
    """The words of a sentence with their characters, the sentence starting at ``start``."""
    for surface in sentence.surfaces:
        words = sentence.words[surface.first : surface.last + 1]
        own = len(words) == 1 or "".join(word.form for word in words) == surface.form
        place = start
        for word in words:
            end = place + len(word.form) * own
            yield PassageWord(word.form, word.upos, index, place, end, word.deprel)
            place = end
        start += len(surface.form) + surface.space_after


Numbered = tuple[str, int, int, Passage]
"""A passage with its lot, the number of its file, and its own number."""


def sample_passages(
    passages: Iterable[tuple[int, Passage]], most: int, seed: int
) -> tuple[list[tuple[int, Passage]], int]:
    """At most so many of the passages (each with the number of its file), in their order, and how
    many there were.

    Every file and domain gives one in turn, drawn by lot, until there are enough. The lot is a hash
    of seed and id, so that it depends on nothing else that is read.
    """
    strata: dict[tuple[int, str], list[Numbered]] = {}
    number = -1
    for number, (file, passage) in enumerate(passages):
        lot = hashlib.blake2b(f"{seed} {passage.id}".encode(), digest_size=8).hexdigest()
        stratum_passages = strata.setdefault((file, passage.domain), [])
        insort(stratum_passages, (lot, file, number, passage), key=lambda each: each[:3])
        del stratum_passages[most:]
    turns = zip_longest(*(strata[stratum] for stratum in sorted(strata)))
    chosen = islice((each for turn in turns for each in turn if each is not None), most)
    ordered = sorted(chosen, key=lambda each: each[2])
    return [(file, passage) for _, file, _, passage in ordered], number + 1
