"""Reader of CoNLL-U files; it holds one document in memory at a time.

Formats: https://universaldependencies.org/format.html, and CoNLL-U Plus, which declares its columns
in a comment, https://universaldependencies.org/ext-format.html.

``# newdoc`` comments divide a file into documents. Each sentence before the first of these comments
is a document by itself, because treebanks are often shuffled.

``Link=negation:3`` in the MISC column is a link of a relation that the user names. It belongs to
the later word and gives the relation and the ID of the earlier word in the same sentence. Commas
separate several links of a word; those with the same relation are the targets of one link. By
default a relation looks to its ``target`` and competes in the whole passage. A comment can declare
other settings, ``# global.Link = negation looks_to:cue scope:sentence``, with semicolons between
relations. After such a comment, all links must use declared relations, so that a misspelt name
cannot create a new relation.

``# global.Pairs = pairs.tsv`` names a file of word pairs (``headprobe.probes.semantic``), relative
to the CoNLL-U file; the documents from there on have the semantic relations of these pairs.
``Twin=kettle`` in the MISC column of a target is the unrelated word at its place in the twin.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import PurePath
from typing import NoReturn

from headprobe.format import suggest_names
from headprobe.probes.corefud import DEFAULT_ORDER, MentionReader, field_order
from headprobe.probes.declared import Text, declared_relation
from headprobe.probes.document import DeclaredLink, Document, Sentence, Surface, Word
from headprobe.probes.file import (
    AdvanceCallback,
    ProbeFile,
    SkipCallback,
    no_progress,
)
from headprobe.probes.semantic import WordPairs, read_pairs
from headprobe.probes.text import plain_sentence
from headprobe.vocabulary import Relation, Skipped

COLUMNS = ("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")
"""The columns of a file that declares none."""

_COLUMNS_COMMENT = "global.columns"

_TWO_SPACES = re.compile(" {2,}")


class Block:
    """The lines of one sentence: comments, and rows of cells.

    ``first_line`` is the number of the first line in the file, from 1.
    """

    def __init__(self, file: ProbeFile, first_line: int, lines: Sequence[str]) -> None:
        self.file, self.first_line, self.lines = file, first_line, lines

    @cached_property
    def comments(self) -> Mapping[str, str | None]:
        """Comments as key -> value; the value is None for a comment without ``=``."""
        comments: dict[str, str | None] = {}
        for line in self.lines:
            if line[0] == "#":
                key, equals, value = line[1:].partition("=")
                comments[key.strip()] = value.strip() if equals else None
        return comments

    def declared_columns(self) -> tuple[str, ...] | None:
        """Return the columns that a CoNLL-U Plus comment declares; None without such a comment."""
        declared = self.comments.get(_COLUMNS_COMMENT)
        if declared is None:
            return None
        columns = tuple(declared.lower().split())
        if not {"id", "form"} <= set(columns):
            raise self.file.error(
                self.comment_line(_COLUMNS_COMMENT),
                "global.columns declares no ID or no FORM column",
                "Declare at least these two columns",
            )
        return columns

    def rows(self, columns: Sequence[str], wanted: Sequence[str]) -> Iterator[list[str]]:
        """Yield the cells of the ``wanted`` columns of each row, ``_`` for a missing column."""
        width = len(columns)
        # Each row gets one more cell, which holds the value of all missing columns.
        places = [columns.index(name) if name in columns else width for name in wanted]
        row = -1
        for line in self.lines:
            if line[0] == "#":
                continue
            row += 1
            cells = line.split("\t") if "\t" in line else _TWO_SPACES.split(line)
            if len(cells) < width:
                what = f"{len(cells)} columns instead of {width}" if cells[1:] else "no columns"
                self.fail(row, what)
            cells[width:] = "_"
            yield [cells[place] for place in places]

    def fail(self, row: int, what: str) -> NoReturn:
        """Raise the error of a malformed row, given by its index in the block."""
        raise self.file.error(
            self.row_lines()[row],
            what,
            "Correct this line; CoNLL-U has ten columns separated by tabs",
        )

    def row_lines(self) -> list[int]:
        """Return the line number of each row; comments may stand between rows."""
        return [self.first_line + i for i, line in enumerate(self.lines) if line[0] != "#"]

    def comment_line(self, key: str) -> int:
        """Return the line number of a comment."""
        indices = (i for i, line in enumerate(self.lines) if line.lstrip("# ").startswith(key))
        return self.first_line + next(indices, 0)


def blocks(file: ProbeFile, advance: AdvanceCallback) -> Iterator[Block]:
    """Yield the blocks of a file, which empty lines separate."""
    lines: list[str] = []
    number = 0
    for raw in file.lines(advance):
        number += 1
        line = raw.strip()
        if line:
            lines.append(line)
        elif lines:
            yield Block(file, number - len(lines), lines)
            lines = []
    if lines:
        yield Block(file, number - len(lines) + 1, lines)


_LINK_KEY, _LINK_COMMENT = "Link=", "global.Link"

_LINK_SETTINGS = ("looks_to", "scope")


class LinkReader:
    """Reads the links of one file; a declaration applies to the links that are read after it."""

    def __init__(self, file: ProbeFile) -> None:
        self._file = file
        self._settings: dict[str, dict[str, Text]] = {}

    def declare(self, comment: str, line: int) -> None:
        """Read the declarations of a ``global.Link`` comment.

        Raises HeadprobeError where the comment is malformed.
        """
        for part in comment.split(";"):
            name, *settings = part.split() or [""]
            values = {}
            for setting in settings:
                key, _, value = setting.partition(":")
                if key not in _LINK_SETTINGS:
                    raise self._file.error(
                        line,
                        f"the setting {key[:40]!r} is unknown",
                        suggest_names(key, _LINK_SETTINGS),
                    )
                values[key] = Text(value, line)
            self._settings[name] = values
            self._relation(Text(name, line))  # raises where the declaration is not valid

    def read(
        self, links: str, query: int, words: Sequence[Word], first: int, line: int
    ) -> Iterator[DeclaredLink]:
        """Yield the links of the word ``query`` of a sentence, in word indices of the document.

        ``query`` is an index into ``words``, the words of the sentence; ``first`` is the index of
        the sentence's first word in the document. Raises HeadprobeError where a link is malformed,
        points to no word, looks forward, or has an undeclared relation in a file that declares
        relations.
        """
        targets: dict[str, set[int]] = {}
        for link in links.split(","):
            name, _, number = link.strip().rpartition(":")
            if not name or not (number.isascii() and number.isdigit()):
                raise self._file.error(
                    line,
                    f"{link[:60]!r} is not a link",
                    "Write Link=relation:ID, with commas between several",
                )
            target = int(number[:9]) - 1
            if not 0 <= target < len(words):
                raise self._file.error(
                    line,
                    f"there is no word {number[:20]} to link to",
                    f"The words of the sentence have IDs from 1 to {len(words)}",
                )
            if target >= query:
                raise self._file.error(
                    line,
                    f"the link looks forward: {words[target].form[:40]!r} ({number}) does not "
                    f"come before {words[query].form[:40]!r} ({query + 1})",
                    "A decoder sees only earlier words; write the link on the later word",
                )
            targets.setdefault(name, set()).add(first + target)
        for name, indices in targets.items():
            yield DeclaredLink(
                self._relation(Text(name, line)), first + query, tuple(sorted(indices))
            )

    def _relation(self, name: Text) -> Relation:
        if self._settings and name.text not in self._settings:
            raise self._file.error(
                name.line,
                f"the relation {name.text[:40]!r} is not declared",
                f"Declare it in # {_LINK_COMMENT}. {suggest_names(name.text, self._settings)}",
            )
        settings = {"family": Text("user", name.line), **self._settings.get(name.text, {})}
        return declared_relation(self._file, name, settings)


_PAIRS_COMMENT, _TWIN_KEY = "global.Pairs", "Twin="

_DOMAIN_COMMENTS = ("meta::genre", "genre", "domain")

_COLUMNS_READ = ("id", "form", "lemma", "upos", "head", "deprel", "misc")

_INDEX = {str(number): number - 1 for number in range(1, 512)}
"""ID -> index, for common IDs: one look-up replaces a check of the format and a conversion."""

_ID = re.compile(r"(?P<first>0|[1-9]\d{0,8})(?:(?P<kind>[-.])(?P<second>[1-9]\d{0,8}))?", re.ASCII)


def read_conllu(
    file: ProbeFile, note: SkipCallback, advance: AdvanceCallback = no_progress
) -> Iterator[Document]:
    """Yield the documents of a CoNLL-U file with their ``Entity=`` mentions and ``Link=`` links.

    ``Entity=`` brackets that do not pair are skipped and reported to ``note``. Raises
    HeadprobeError with file:line where the file is malformed.
    """
    columns: tuple[str, ...] = COLUMNS
    order: Sequence[str] = DEFAULT_ORDER
    draft: _Draft | None = None
    links = LinkReader(file)
    pairs: WordPairs | None = None
    documents_are_marked = False
    for block in blocks(file, advance):
        columns = block.declared_columns() or columns
        comments = block.comments
        if "global.Entity" in comments:
            order = field_order(comments["global.Entity"] or "")
        if _LINK_COMMENT in comments:
            links.declare(comments[_LINK_COMMENT] or "", block.comment_line(_LINK_COMMENT))
        if _PAIRS_COMMENT in comments:
            line = block.comment_line(_PAIRS_COMMENT)
            pairs = read_pairs(_pairs_file(file, comments[_PAIRS_COMMENT] or "", line))
        newdoc = next((key for key in comments if key.split(" ", 1)[0] == "newdoc"), None)
        documents_are_marked |= newdoc is not None
        if draft is None or newdoc is not None or not documents_are_marked:
            if draft is not None:
                yield from draft.finish()
            name = comments[newdoc] if newdoc is not None else comments.get("sent_id")
            draft = _Draft(
                file, name or file.at(block.first_line), MentionReader(order, note), links, pairs
            )
        draft.take_comments(comments)
        rows = _Rows(block, columns)
        if rows.nodes:
            draft.add(rows, note)
    if draft is not None:
        yield from draft.finish()


def _pairs_file(file: ProbeFile, name: str, line: int) -> ProbeFile:
    """Return the file of word pairs that a comment names, relative to the CoNLL-U file."""
    path = file.path.parent / name
    if not name or not path.is_file():
        raise file.error(
            line,
            f"there is no file {str(path)!r} of word pairs"
            if name
            else "global.Pairs names no file",
            "Name a file of word pairs, relative to this file",
        )
    return ProbeFile(path, name)


class _Draft:
    """A document that is being read: ``add`` appends sentences, ``finish`` builds the document."""

    def __init__(
        self,
        file: ProbeFile,
        name: str,
        mentions: MentionReader,
        links: LinkReader,
        pairs: WordPairs | None,
    ) -> None:
        self.file, self.name, self.mentions, self.links = file, name, mentions, links
        self.pairs = pairs
        self.declared: list[DeclaredLink] = []
        self.twins: dict[int, str] = {}
        self.twin_lines: dict[int, int] = {}
        self.domain = self.template = self.source = ""
        self.sentences: list[Sentence] = []
        self.words = 0

    def take_comments(self, comments: Mapping[str, str | None]) -> None:
        """Read the domain and the template; the first comment of each counts."""
        for key in _DOMAIN_COMMENTS:
            self.domain = self.domain or comments.get(key) or ""
        self.template = self.template or comments.get("template") or ""

    def add(self, rows: "_Rows", note: SkipCallback) -> None:
        """Append a sentence with its mentions and links."""
        block = rows.block
        source = self.file.at(block.first_line)
        nodes = [None if word is None else self.words + word for word in rows.nodes]
        place = self.mentions.add_nodes(nodes)
        if rows.brackets:
            lines = block.row_lines()
            for node, row, brackets in rows.brackets:
                self.mentions.read(brackets, place + node, self.file.at(lines[row]))
        for row, query, text in rows.links:
            line = block.row_lines()[row]
            self.declared.extend(self.links.read(text, query, rows.words, self.words, line))
        for row, word, form in rows.twins:
            self.twins[self.words + word] = form
            self.twin_lines[self.words + word] = block.row_lines()[row]
        if not rows.words:
            note(Skipped(source, "sentence", "it has no words"))
            return
        self.source = self.source or source
        self.words += len(rows.words)
        self.sentences.append(Sentence(tuple(rows.words), tuple(rows.surfaces), source))

    def finish(self) -> Iterator[Document]:
        """Yield the document, unless it has no sentence.

        Raises HeadprobeError where a word has a twin, but no semantic relation looks to it.
        """
        if self.sentences:
            if self.pairs is not None:
                words = [word for sentence in self.sentences for word in sentence.words]
                self.declared.extend(self.pairs.links(words))
            self._check_twins()
            yield Document(
                id=self.name,
                domain=self.domain or PurePath(self.file.name).stem,
                sentences=tuple(self.sentences),
                source=self.source,
                mentions=self.mentions.finish(),
                declared=tuple(self.declared),
                cluster=self.template or self.name,
                twins=self.twins,
            )

    def _check_twins(self) -> None:
        if not self.twins:
            return
        targets = {
            target
            for link in self.declared
            if link.relation.family == "semantic"
            for target in link.targets
        }
        for word, line in self.twin_lines.items():
            if word not in targets:
                raise self.file.error(
                    line,
                    f"Twin={self.twins[word][:40]} on a word to which no semantic relation looks",
                    f"Remove it, or add the pair to the file that {_PAIRS_COMMENT} names",
                )


class _Rows:
    """The rows of a sentence, validated and parsed.

    ``nodes`` holds the index of each word and None for each empty node. ``brackets`` holds the
    node, the row and the text of each ``Entity=``. ``links`` and ``twins`` hold the row, the word
    and the text of each ``Link=`` and ``Twin=``.
    """

    def __init__(self, block: Block, columns: Sequence[str]) -> None:
        self.block = block
        self.words: list[Word] = []
        self.surfaces: list[Surface] = []
        self.nodes: list[int | None] = []
        self.brackets: list[tuple[int, int, str]] = []
        self.links: list[tuple[int, int, str]] = []
        self.twins: list[tuple[int, int, str]] = []
        self.range_end = 0
        rows = list(block.rows(columns, _COLUMNS_READ))
        self.length = sum(cells[0].isdigit() for cells in rows)
        for row, (name, form, lemma, upos, head, deprel, misc) in enumerate(rows):
            if not form:
                block.fail(row, "an empty FORM")
            kind = ""
            index = len(self.words)
            if _INDEX.get(name) == index or name == str(index + 1):
                self._add_word(row, form, lemma, upos, head, deprel, misc)
            else:
                kind = self._add_other(row, name, form, misc)
            if misc != "_":
                self._read_misc(row, kind, misc)

    def _add_word(
        self, row: int, form: str, lemma: str, upos: str, head: str, deprel: str, misc: str
    ) -> None:
        index = len(self.words)
        self.words.append(
            Word(
                form,
                "" if upos == "_" else upos,
                self._head(row, index, head),
                "" if deprel == "_" else deprel,
                "" if lemma == "_" else lemma,
            )
        )
        self.nodes.append(index)
        if index >= self.range_end:
            self.surfaces.append(Surface(form, index, index, _space_after(misc)))

    def _add_other(self, row: int, name: str, form: str, misc: str) -> str:
        """Add a multiword token or an empty node; return the mark of its ID, ``-`` or ``.``."""
        number = _ID.fullmatch(name)
        first, second = (
            (int(number[part] or 0) for part in ("first", "second")) if number else (0, 0)
        )
        kind = number["kind"] if number else None
        if not number or (kind == "-" and second < first):
            self.block.fail(row, f"{name[:20]!r} is not a valid ID")
        if kind is None:
            self.block.fail(row, f"ID {first} instead of {len(self.words) + 1}")
        if kind == "-":
            self._add_range(row, first, second, form, misc)
        else:
            self.nodes.append(None)
        return kind

    def _head(self, row: int, index: int, head: str) -> int | None:
        """Return the index of the head of word ``index``, None for a root."""
        head_index = _INDEX.get(head, self.length)
        if head_index < self.length and head_index != index:
            return head_index
        if head in {"0", "_"}:
            return None
        if not (head.isascii() and head.isdigit()):
            self.block.fail(row, f"HEAD {head[:20]!r} is not an integer")
        if len(head) > 9 or not 0 < int(head) <= self.length:
            self.block.fail(
                row, f"HEAD {head[:20]} is out of range (the sentence has {self.length} words)"
            )
        if int(head) == index + 1:
            self.block.fail(row, f"HEAD {head} is the word itself")
        return int(head) - 1

    def _add_range(self, row: int, first: int, last: int, form: str, misc: str) -> None:
        if first != len(self.words) + 1 or first <= self.range_end or last > self.length:
            self.block.fail(row, f"the range {first}-{last} does not fit the words around it")
        self.range_end = last
        self.surfaces.append(Surface(form, first - 1, last - 1, _space_after(misc)))

    def _read_misc(self, row: int, kind: str, misc: str) -> None:
        if "Entity=" in misc and kind != "-":
            for part in misc.split("|"):
                if part.startswith("Entity="):
                    self.brackets.append((len(self.nodes) - 1, row, part.removeprefix("Entity=")))
        if _TWIN_KEY in misc:
            for part in misc.split("|"):
                if part.startswith(_TWIN_KEY):
                    self._add_twin(row, kind, part.removeprefix(_TWIN_KEY))
        if _LINK_KEY in misc:
            for part in misc.split("|"):
                if not part.startswith(_LINK_KEY):
                    continue
                if kind:
                    self.block.fail(row, "a Link on a token that is not a single word")
                self.links.append((row, len(self.words) - 1, part.removeprefix(_LINK_KEY)))

    def _add_twin(self, row: int, kind: str, form: str) -> None:
        if kind or len(self.words) <= self.range_end:
            self.block.fail(row, "a Twin on a token that is not a single word")
        if len(plain_sentence(form, "").words) != 1:
            self.block.fail(row, f"Twin={form[:40]} is not one word")
        self.twins.append((row, len(self.words) - 1, form))


def _space_after(misc: str) -> bool:
    # The first test is fast and true for most words; the second finds the exact attribute.
    return "SpaceAfter=No" not in misc or "SpaceAfter=No" not in misc.split("|")
