"""Reader of plain text, and the splitter of text that comes without a tokenisation.

Plain text has no annotation. It serves the statistics that need none: the shape of the attention
and the redundancy of heads.

A word is a sequence of letters, digits and their combining marks. An apostrophe or a hyphen between
two of them belongs to the word, and so does a point or a comma between two digits. A Chinese or
Japanese character is a word by itself. Any other character that is not a space is a word by itself;
punctuation has the UPOS PUNCT.
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
"""Chinese and Japanese characters, as a character class without brackets."""

_WORD_JOINERS = "'’\\-‐‑"
"""Apostrophes and hyphens, which belong to a word between two letters."""

_SYMBOLS = "#%&@§_"
"""Punctuation by Unicode that stands for words."""

_ACCENTS_AS_QUOTES = "`´"

_COMBINING_MARKS_END = 0x1F000
"""Only code points below this one are searched for combining marks."""

DOCUMENT_END = "<|endoftext|>"
"""A line with only this text ends a document, as in many training corpora."""

MAX_SENTENCES = 500
"""Sentences of one ``Document``. A longer text continues in another one, which bounds the memory
that a corpus needs."""

_SENTENCE_END = re.compile(r"(?<=[.!?…][\"'”’»)\]])\s+|(?<=[.!?…])\s+|(?<=[。！？])(?![”’」』）])")


def read_text(
    file: ProbeFile, note: SkipCallback, advance: AdvanceCallback = no_progress
) -> Iterator[Document]:
    """Yield the documents of a text file, which lines of ``<|endoftext|>`` separate.

    A sentence ends at the end of its line, or at a full stop, question mark or exclamation mark
    before a space. Raises HeadprobeError where the file is not UTF-8.
    """
    del note  # Plain text is read completely: nothing is skipped.
    sentences: list[Sentence] = []
    documents = pieces = 0
    for number, line in enumerate(file.lines(advance), start=1):
        ends = line.strip() == DOCUMENT_END
        if sentences and (ends or len(sentences) >= MAX_SENTENCES):
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
    """Return the ``piece``-th part of the ``number``-th document; its parts share a cluster."""
    name = file.name if number == 0 else f"{file.name}-{number + 1}"
    return Document(
        id=name if piece == 0 else f"{name}+{piece}",
        domain=PurePath(file.name).stem,
        sentences=tuple(sentences),
        source=sentences[0].source,
        cluster=name,
        annotated=False,
    )


def plain_sentence(text: str, source: str) -> Sentence:
    """Split a text into words without a tree; runs of white space become single spaces."""
    words: list[Word] = []
    surfaces: list[Surface] = []
    for match in _pattern().finditer(text):
        form = match.group()
        space_after = match.end() < len(text) and text[match.end()].isspace()
        surfaces.append(Surface(form, len(words), len(words), space_after))
        words.append(Word(form, "PUNCT" if _is_punctuation(form[0]) else ""))
    return Sentence(tuple(words), tuple(surfaces), source)


def _is_punctuation(character: str) -> bool:
    """Whether Universal Dependencies would tag the character as PUNCT rather than as a symbol."""
    if character in _SYMBOLS:
        return False
    return unicodedata.category(character)[0] == "P" or character in _ACCENTS_AS_QUOTES


@cache
def _pattern() -> re.Pattern[str]:
    joining = _combining_marks() + "\u200c\u200d"
    letter = rf"(?:[^\W{_IDEOGRAPHS}]|[{joining}])"
    word = rf"[^\W{_IDEOGRAPHS}]{letter}*"
    return re.compile(
        rf"\d+(?:[.,]\d+)+(?!{letter})"
        rf"|{word}(?:[{_WORD_JOINERS}]{word})*"
        rf"|[{_IDEOGRAPHS}][{joining}]*"
        rf"|\S[{joining}]*"
    )


def _combining_marks() -> str:
    """Return all combining marks as a character class without brackets."""
    ranges: list[list[int]] = []
    for code in range(0x300, _COMBINING_MARKS_END):
        if unicodedata.category(chr(code))[0] != "M":
            continue
        if ranges and ranges[-1][1] == code - 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in ranges)
