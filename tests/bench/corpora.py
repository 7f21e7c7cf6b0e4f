"""Real annotated text from the bundled probe sets, cut to the lengths that the bench asks for."""

from collections.abc import Iterator

import numpy as np

from headprobe.batching.corpus import Corpus, align
from headprobe.model.load import CheckpointSource, load_encoder
from headprobe.probes.catalog import find_probe_files, read_documents
from headprobe.probes.document import Document, Mention, Passage
from headprobe.probes.passages import cut_passages

LONG = {"long": 512, "longest": 8192}
"""Tokens of passages that documents are joined for."""


def ignore(_: object) -> None:
    """What is skipped is of no interest here."""


def corpus(kind: str, count: int) -> Corpus:
    """``short``: passages of one or two sentences, 8 to 64 tokens, about 26 in the mean; ``long``:
    passages of 512 tokens, the documents of a set joined, ``longest`` of 8,192; ``all``: as a scan
    cuts them, whatever the count."""
    encoder = load_encoder(CheckpointSource.demo())
    documents = list(read_documents(find_probe_files(()), ignore))
    rng = np.random.default_rng(0)
    found: list[Passage] = []
    if kind == "short":
        for document in documents:
            found += cut_passages(document, encoder.count, int(rng.integers(16, 48)), ignore)
        lengths = np.array(encoder.count([passage.text for passage in found])) + 1
        fits = np.flatnonzero((lengths >= 8) & (lengths <= 64))
        found = [found[i] for i in rng.choice(fits, count, replace=False)]
    elif kind in LONG:
        for document in _joined(documents):
            found += list(cut_passages(document, encoder.count, LONG[kind] - 1, ignore))[:-1]
    else:
        found = [
            each
            for document in documents
            for each in cut_passages(document, encoder.count, 511, ignore)
        ]
        count = len(found)
    if len(found) < count:
        raise SystemExit(f"the bundled sets hold {len(found)} such passages only")
    return align(found[:count], encoder, ignore, seed=0)


def _joined(documents: list[Document]) -> Iterator[Document]:
    """One document for each domain."""
    for domain in sorted({document.domain for document in documents}):
        sentences, mentions, words = [], [], 0
        for document in documents:
            if document.domain == domain:
                mentions += [
                    Mention(
                        f"{document.id}/{mention.entity}",
                        tuple(word + words for word in mention.words),
                        mention.head + words,
                    )
                    for mention in document.mentions
                ]
                sentences += document.sentences
                words += sum(len(sentence.words) for sentence in document.sentences)
        yield Document(domain, domain, tuple(sentences), domain, tuple(mentions))
