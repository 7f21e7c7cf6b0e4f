"""A second, plain reader: CoNLL-U files to relation instances, exactly as docs/method.md says.

It shares no code with the writer nor with the measuring pipeline, so that it can disagree.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

MARK_CLASSES = {
    "stop": ".!?…。！？",
    "comma": ",，、",
    "quote": "\"“”‘’'«»",
    "bracket": "()[]{}",
}
BRACKET = re.compile(r"\((\w+)-(\w*)-(\d+)-\)|\((\w+)-(\w*)-(\d+)-|(\w+)\)")


@dataclass(frozen=True)
class Word:
    """A word of a document; `at`, `head` and `sentence_start` count words of the document."""

    at: int
    form: str
    lemma: str
    upos: str
    head: int
    deprel: str
    sentence_start: int


@dataclass
class Mention:
    """Words `start` to `end`, both included."""

    entity: str
    etype: str
    start: int
    end: int
    head: int


@dataclass
class Document:
    """One document with its comments; `texts` pairs `# text` with the rebuilt surface."""

    name: str
    comments: dict[str, str] = field(default_factory=dict)
    words: list[Word] = field(default_factory=list)
    mentions: list[Mention] = field(default_factory=list)
    texts: list[tuple[str, str]] = field(default_factory=list)
    roots: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Instance:
    """One thing to be found: from word `query` to any of `targets`, among `candidates`."""

    document: str
    query: int
    sentence_start: int
    targets: frozenset[int]
    form: str


def read_documents(path: Path) -> Iterator[Document]:
    """The documents of one file."""
    for block in path.read_text("utf-8").split("# newdoc id = ")[1:]:
        name, _, rest = block.partition("\n")
        document = Document(name)
        for sentence in rest.strip("\n").split("\n\n"):
            _read_sentence(document, sentence.splitlines())
        yield document


def _read_sentence(document: Document, lines: list[str]) -> None:
    base = len(document.words)
    text = ""
    surface: list[str] = []
    covered = 0
    opened: list[Mention] = []
    roots = 0
    for line in lines:
        if line.startswith("#"):
            key, _, value = line[2:].partition(" = ")
            text = value if key == "text" else text
            document.comments.setdefault(key, value)
            continue
        columns = line.split("\t")
        assert len(columns) == 10, line
        space = "" if "SpaceAfter=No" in columns[9].split("|") else " "
        if "-" in columns[0]:
            covered = int(columns[0].split("-")[1])
            surface.append(columns[1] + space)
            continue
        number, head = int(columns[0]), int(columns[6])
        assert number == len(document.words) - base + 1, line
        if number > covered:
            surface.append(columns[1] + space)
        at = base + number - 1
        roots += head == 0
        above = base + head - 1 if head else -1
        form, lemma, upos = columns[1:4]
        document.words.append(Word(at, form, lemma, upos, above, columns[7], base))
        _read_brackets(document, columns[9], at, opened)
    assert not opened, (document.name, [m.entity for m in opened])
    document.texts.append((text, "".join(surface).rstrip(" ")))
    document.roots.append(roots)


def _read_brackets(document: Document, misc: str, at: int, opened: list[Mention]) -> None:
    values = [part[7:] for part in misc.split("|") if part.startswith("Entity=")]
    for match in BRACKET.finditer(values[0] if values else ""):
        single, etype, head, opening, etype2, head2, closing = match.groups()
        if single:
            document.mentions.append(Mention(single, etype, at, at, at + int(head) - 1))
        elif opening:
            opened.append(Mention(opening, etype2, at, -1, at + int(head2) - 1))
        else:
            done = opened.pop()
            assert done.entity == closing, (document.name, done.entity, closing)
            done.end = at
            document.mentions.append(done)


def mark_class(form: str) -> str:
    """The class of a mark by its first character."""
    for name, characters in MARK_CLASSES.items():
        if form[0] in characters:
            return name
    return "other"


def instances(document: Document) -> Iterator[tuple[str, str, Instance]]:
    """Every (relation, looks_to, instance) of a document."""
    yield from _syntax(document)
    yield from _coreference(document)
    yield from _punctuation(document)
    yield from _word_classes(document)


def _make(document: Document, query: int, targets: set[int]) -> Instance:
    nearest = document.words[max(targets)].form.lower()
    start = document.words[query].sentence_start
    return Instance(document.name, query, start, frozenset(targets), nearest)


def _syntax(document: Document) -> Iterator[tuple[str, str, Instance]]:
    found: dict[tuple[str, str, int], set[int]] = defaultdict(set)
    for word in document.words:
        relation = word.deprel.split(":")[0]
        if relation in ("punct", "root") or word.head < 0:
            continue
        query, target = max(word.at, word.head), min(word.at, word.head)
        looks_to = "dependent" if target == word.at else "head"
        found[relation, looks_to, query].add(target)
    for (relation, looks_to, query), targets in found.items():
        yield relation, looks_to, _make(document, query, targets)


def _coreference(document: Document) -> Iterator[tuple[str, str, Instance]]:
    for anaphor in document.mentions:
        head = document.words[anaphor.head]
        earlier = [
            m for m in document.mentions if m.entity == anaphor.entity and m.end < anaphor.head
        ]
        name = {"PRON": "pronoun", "DET": "pronoun", "PROPN": "proper"}.get(head.upos, "nominal")
        targets = {at for m in earlier for at in range(m.start, m.end + 1)}
        if targets:
            yield name, "antecedent", _make(document, anaphor.head, targets)
        form = head.form.lower()
        strict = {
            at
            for m in earlier
            if document.words[m.head].form.lower() != form
            for at in range(m.start, m.end + 1)
            if document.words[at].form.lower() != form
        }
        if strict:
            yield f"{name}-strict", "antecedent", _make(document, anaphor.head, strict)


def _punctuation(document: Document) -> Iterator[tuple[str, str, Instance]]:
    seen: dict[str, set[int]] = defaultdict(set)
    for word in document.words:
        for name, targets in seen.items():
            yield name, "mark", _make(document, word.at, targets)
        if word.upos == "PUNCT":
            seen["any"].add(word.at)
            seen[mark_class(word.form)].add(word.at)


_CLASS_OF = {"NOUN": "noun", "PROPN": "noun", "VERB": "verb", "ADJ": "adjective"}


def _word_classes(document: Document) -> Iterator[tuple[str, str, Instance]]:
    seen: dict[str, set[int]] = defaultdict(set)
    for word in document.words:
        for name, targets in seen.items():
            yield name, "word", _make(document, word.at, targets)
        if word.upos in _CLASS_OF:
            seen[_CLASS_OF[word.upos]].add(word.at)
