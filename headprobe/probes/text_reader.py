"""Plain text to documents: for shape and redundancy, since it carries no relation."""

import re
from collections.abc import Iterator
from pathlib import PurePath

from headprobe.probes.document import Document, Sentence
from headprobe.probes.plain_words import plain_sentence
from headprobe.probes.probe_file import Advance, Note, ProbeFile, keep_still

DOCUMENT_END = "<|endoftext|>"
"""A line of its own that ends a document, as corpora for training have it."""

LONGEST = 500
"""Sentences after which a document goes on as another one, so that no corpus fills the memory."""

_SENTENCE_END = re.compile(r"(?<=[.!?…][\"'”’»)\]])\s+|(?<=[.!?…])\s+|(?<=[。！？])(?![”’」』）])")


def read_text(file: ProbeFile, note: Note, advance: Advance = keep_still) -> Iterator[Document]:
    """The documents of a text file: one, unless lines of ``<|endoftext|>`` divide it.

    A sentence ends with its line, or at a full stop, question or exclamation mark before a space.
    Raises HeadprobeError where the file is not UTF-8.
    """
    del note  # nothing is left out
    sentences: list[Sentence] = []
    documents = pieces = 0
    for number, line in enumerate(file.lines(advance), start=1):
        ends = line.strip() == DOCUMENT_END
        if sentences and (ends or len(sentences) >= LONGEST):
            yield _document(file, sentences, documents, pieces)
            sentences, pieces = [], pieces + 1
        if ends:
            documents, pieces = documents + 1, 0
            continue
        for text in _SENTENCE_END.split(line):
            sentence = plain_sentence(text, file.at(number))
            if sentence.words:
                sentences.append(sentence)
    if sentences:
        yield _document(file, sentences, documents, pieces)


def _document(file: ProbeFile, sentences: list[Sentence], number: int, piece: int) -> Document:
    name = file.name if number == 0 else f"{file.name}-{number + 1}"
    return Document(
        id=name if piece == 0 else f"{name}+{piece}",
        domain=PurePath(file.name).stem,
        sentences=tuple(sentences),
        source=sentences[0].source,
        cluster=name,
        annotated=False,
    )
