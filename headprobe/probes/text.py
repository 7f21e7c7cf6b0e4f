"""Reader of plain text, and the splitter of text that comes without a tokenisation.

Plain text has no annotation. It serves the statistics that need none (the shape of the attention
and the redundancy of heads) and the relations to earlier marks and to earlier copies of a word. An
``Annotator`` turns it into annotated text.

*Lines.* Where a file is hard-wrapped (``is_hard_wrapped``), consecutive lines are one paragraph and
empty lines separate paragraphs. Otherwise each line is a paragraph. A sentence never continues in
another paragraph.

*Documents.* A file is one document, or as many as lines of ``<|endoftext|>`` separate. Intervals
need many documents, so a document of more than ``SECTION_WORDS`` words is read as sections of about
this length, which count as documents: about as long as the documents of treebanks are.

*Words.* A word is a sequence of letters, digits and their combining marks. An apostrophe or a
hyphen between two of them belongs to the word, and so does a point or a comma between two digits. A
Chinese or Japanese character is a word by itself. Any other character that is not a space is a word
by itself; punctuation has the UPOS PUNCT.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import islice, pairwise, tee
from pathlib import PurePath
from typing import NamedTuple

from headprobe.probes.annotator import Annotator
from headprobe.probes.document import Document, Sentence, Surface, Word
from headprobe.probes.file import AdvanceCallback, ProbeFile, SkipCallback, no_progress
from headprobe.vocabulary import Skipped

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

SECTION_WORDS = 1000
"""Words after which the next paragraph of a document starts a new section."""

_MAX_SECTION_WORDS = 1500
"""Words after which the next sentence starts a new section, for paragraphs that are longer."""

MAX_CHARACTERS = 5000
"""The longest text that an annotator receives, and the longest paragraph of wrapped lines."""

_WRAP_WIDTHS = range(40, 201)
"""Line lengths, in characters, of hard-wrapped text."""

_LINES_LOOKED_AT = 5000
"""The most lines of a file that decide whether it is hard-wrapped."""

_SENTENCE_END = re.compile(r"(?<=[.!?…][\"'”’»)\]])\s+|(?<=[.!?…])\s+|(?<=[。！？])(?![”’」』）])")


class Paragraph(NamedTuple):
    """A stretch of text that no sentence crosses."""

    text: str
    """Its words, separated by single spaces."""

    document: int
    """Number of its document in the file, from 0."""

    source: str
    """Where it starts (file:line)."""


def read_text(
    file: ProbeFile,
    note: SkipCallback,
    advance: AdvanceCallback = no_progress,
    annotator: Annotator | None = None,
) -> Iterator[Document]:
    """Yield the documents of a text file, divided into sections.

    Without an ``annotator``, a sentence ends at a full stop, question mark or exclamation mark
    before a space. Raises HeadprobeError where the file is not UTF-8 text.
    """
    sentences: list[Sentence] = []
    words = number = section = 0
    for paragraph, parsed in _split(_paragraphs(file, advance), note, annotator):
        ends = paragraph.document != number
        if sentences and (ends or words >= SECTION_WORDS):
            yield _section(file, sentences, number, section, annotator)
            sentences, words, section = [], 0, section + 1
        if ends:
            number, section = paragraph.document, 0
        for sentence in parsed:
            if words >= _MAX_SECTION_WORDS:
                yield _section(file, sentences, number, section, annotator)
                sentences, words, section = [], 0, section + 1
            sentences.append(sentence)
            words += len(sentence.words)
    if sentences:
        yield _section(file, sentences, number, section, annotator)


def _section(
    file: ProbeFile,
    sentences: list[Sentence],
    document: int,
    section: int,
    annotator: Annotator | None,
) -> Document:
    name = file.name if document == 0 else f"{file.name}-{document + 1}"
    return Document(
        id=name if section == 0 else f"{name}+{section}",
        domain=file.domain or PurePath(file.name).stem,
        sentences=tuple(sentences),
        source=sentences[0].source,
        annotated=annotator is not None,
        from_text=True,
    )


def _split(
    paragraphs: Iterable[Paragraph], note: SkipCallback, annotator: Annotator | None
) -> Iterator[tuple[Paragraph, list[Sentence]]]:
    """Yield each paragraph with its sentences; long ones in pieces, if there is an annotator."""
    if annotator is None:
        for paragraph in paragraphs:
            split = (plain_sentence(t, paragraph.source) for t in split_sentences(paragraph.text))
            yield paragraph, [sentence for sentence in split if sentence.words]
        return
    for_parser, for_source = tee(_pieces(paragraphs, note))
    parsed_texts = annotator.parse(piece.text for piece in for_parser)
    for piece, parsed in zip(for_source, parsed_texts, strict=True):
        yield piece, [Sentence(each.words, each.surfaces, piece.source) for each in parsed]


def split_sentences(text: str) -> list[str]:
    """Split a text after full stops, question marks and exclamation marks."""
    return [sentence for sentence in _SENTENCE_END.split(text) if sentence]


def _pieces(paragraphs: Iterable[Paragraph], note: SkipCallback) -> Iterator[Paragraph]:
    """Divide paragraphs of more than ``MAX_CHARACTERS``, where possible between sentences."""
    for paragraph in paragraphs:
        if len(paragraph.text) <= MAX_CHARACTERS:
            yield paragraph
            continue
        for text in _join(_divide(paragraph, note)):
            yield paragraph._replace(text=text)


def _divide(paragraph: Paragraph, note: SkipCallback) -> Iterator[str]:
    """Yield the sentences of a long paragraph, or the words of a sentence that is too long."""
    for sentence in split_sentences(paragraph.text):
        for part in [sentence] if len(sentence) <= MAX_CHARACTERS else sentence.split(" "):
            if len(part) <= MAX_CHARACTERS:
                yield part
            else:
                reason = f"has no space or sentence end in {MAX_CHARACTERS:,} characters"
                note(Skipped(paragraph.source, "text", reason))


def _join(parts: Iterable[str]) -> Iterator[str]:
    """Join consecutive parts by spaces, up to ``MAX_CHARACTERS``."""
    joined = ""
    for part in parts:
        if joined and len(joined) + 1 + len(part) > MAX_CHARACTERS:
            yield joined
            joined = ""
        joined = f"{joined} {part}" if joined else part
    if joined:
        yield joined


def _paragraphs(file: ProbeFile, advance: AdvanceCallback) -> Iterator[Paragraph]:
    """Yield the paragraphs of a file. Raises HeadprobeError where it is no UTF-8 text."""
    wrapped = is_hard_wrapped(list(islice(file.lines(), _LINES_LOOKED_AT)))
    lines: list[str] = []
    document = length = 0
    first = 1
    for number, raw in enumerate(file.lines(advance), start=1):
        if "\0" in raw:
            raise file.error(number, "holds a NUL character", "Name a text file in UTF-8")
        line = " ".join(raw.split())
        ends = line == DOCUMENT_END
        if lines and (ends or not line or not wrapped or length >= MAX_CHARACTERS):
            yield Paragraph(" ".join(lines), document, file.at(first))
            lines, length = [], 0
        if line and not ends:
            first = first if lines else number
            lines.append(line)
            length += len(line) + 1
        document += ends
    if lines:
        yield Paragraph(" ".join(lines), document, file.at(first))


def is_hard_wrapped(lines: Sequence[str]) -> bool:
    """Return whether line breaks are mere layout, as in text that is wrapped at a fixed width.

    They are where nearly every line is full, so that the first word of the next line does not fit
    any more, and some line begins in lower case.
    """
    breaks = [
        (len(line.rstrip()), following.split()[0])
        for line, following in pairwise(lines)
        if line.strip() and following.strip() and DOCUMENT_END not in (line, following)
    ]
    if not any(word[0].islower() for _, word in breaks):
        return False
    lengths = sorted(length for length, _ in breaks)
    width = lengths[(len(lengths) - 1) * 9 // 10]
    full = sum(length + 1 + len(word) > width for length, word in breaks)
    return width in _WRAP_WIDTHS and full >= 0.8 * len(breaks)


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
