"""Plain text to documents: for shape and redundancy, since it carries no relation.

Plain text to words, for probes that come without a tokenisation.

A word is a run of letters, digits and their combining marks; an apostrophe or a hyphen between two
of them belongs to it, and a point or a comma between two digits. A Chinese or Japanese character is
a word by itself. Anything else that is not a space stands alone, punctuation with UPOS PUNCT.
"""

import re
import unicodedata
from collections.abc import Iterator
from functools import cache
from pathlib import PurePath

from headprobe.probes.document import Document, Sentence, Surface, Word
from headprobe.probes.file import AdvanceCallback, ProbeFile, SkipCallback, no_progress

_IDEOGRAPHS = (
    "\u3005-\u3007\u3041-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)

_INNER = "'’\\-‐‑"

_SIGNS = "#%&@§_"

_ACCENTS_AS_QUOTES = "`´"

_LAST_COMBINING = 0x1F000


def plain_sentence(text: str, source: str) -> Sentence:
    """The words of a text, without a tree; runs of white space become single spaces."""
    words: list[Word] = []
    surfaces: list[Surface] = []
    for found in _pattern().finditer(text):
        form = found.group()
        space_after = found.end() < len(text) and text[found.end()].isspace()
        surfaces.append(Surface(form, len(words), len(words), space_after))
        words.append(Word(form, "PUNCT" if _is_punctuation(form[0]) else ""))
    return Sentence(tuple(words), tuple(surfaces), source)


def _is_punctuation(character: str) -> bool:
    """Punctuation by Unicode, less the signs that stand for words, as in Universal Dependencies."""
    if character in _SIGNS:
        return False
    return unicodedata.category(character)[0] == "P" or character in _ACCENTS_AS_QUOTES


@cache
def _pattern() -> re.Pattern[str]:
    joining = _combining_marks() + "\u200c\u200d"
    letter = rf"(?:[^\W{_IDEOGRAPHS}]|[{joining}])"
    word = rf"[^\W{_IDEOGRAPHS}]{letter}*"
    return re.compile(
        rf"\d+(?:[.,]\d+)+(?!{letter})"
        rf"|{word}(?:[{_INNER}]{word})*"
        rf"|[{_IDEOGRAPHS}][{joining}]*"
        rf"|\S[{joining}]*"
    )


def _combining_marks() -> str:
    """A character class (without brackets) of all characters that modify the one before them."""
    ranges: list[list[int]] = []
    for code in range(0x300, _LAST_COMBINING):
        if unicodedata.category(chr(code))[0] != "M":
            continue
        if ranges and ranges[-1][1] == code - 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in ranges)


DOCUMENT_END = "<|endoftext|>"
"""A line of its own that ends a document, as corpora for training have it."""

LONGEST = 500
"""Sentences after which a document goes on as another one, so that no corpus fills the memory."""

_SENTENCE_END = re.compile(r"(?<=[.!?…][\"'”’»)\]])\s+|(?<=[.!?…])\s+|(?<=[。！？])(?![”’」』）])")


def read_text(
    file: ProbeFile, note: SkipCallback, advance: AdvanceCallback = no_progress
) -> Iterator[Document]:
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
