"""CoNLL-U files to documents, one document in memory at a time.

The format: https://universaldependencies.org/format.html. Files that say which document a sentence
belongs to (``# newdoc``) give documents; where they have not said so yet, each sentence stands
alone, because treebanks are often shuffled.

CoNLL-U files as blocks of lines, one for each sentence: comments, and rows of columns.

The format: https://universaldependencies.org/format.html; CoNLL-U Plus declares its columns in a
comment: https://universaldependencies.org/ext-format.html.

``Link=negation:3`` in the MISC column: links of relations that a user names.

It stands on the later word and gives the relation and the ID of the earlier word in the sentence;
several are divided by commas, and those of one relation are the targets of one link. A comment says
what a relation looks to and what competes, where that is not ``target`` and the whole passage:
``# global.Link = negation looks_to:cue scope:sentence``, several divided by semicolons. A file that
declares relations declares all that it uses, so that no misspelt name makes another relation.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import PurePath
from typing import NoReturn

from headprobe.probes.corefud import DEFAULT_ORDER, MentionReader, field_order
from headprobe.probes.declared import Text, declared_relation
from headprobe.probes.document import DeclaredLink, Document, Sentence, Surface, Word
from headprobe.probes.file import (
    AdvanceCallback,
    ProbeFile,
    SkipCallback,
    no_progress,
    suggest_names,
)
from headprobe.vocabulary import Relation, Skipped

COLUMNS = ("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")
"""Those of a file that declares none."""

_COLUMNS_COMMENT = "global.columns"

_TWO_SPACES = re.compile(" {2,}")


class Block:
    """The lines of one sentence, without those around them; ``first_line`` counts from 1."""

    def __init__(self, file: ProbeFile, first_line: int, lines: Sequence[str]) -> None:
        self.file, self.first_line, self.lines = file, first_line, lines

    @cached_property
    def comments(self) -> Mapping[str, str | None]:
        """What stands after ``#``: keys with the values after ``=``, or None."""
        comments: dict[str, str | None] = {}
        for line in self.lines:
            if line[0] == "#":
                key, equals, value = line[1:].partition("=")
                comments[key.strip()] = value.strip() if equals else None
        return comments

    def declared_columns(self) -> tuple[str, ...] | None:
        """The columns, where a comment of CoNLL-U Plus declares them."""
        declared = self.comments.get(_COLUMNS_COMMENT)
        if declared is None:
            return None
        columns = tuple(declared.lower().split())
        if not {"id", "form"} <= set(columns):
            raise self.file.error(
                self.comment_line(_COLUMNS_COMMENT),
                "global.columns declares no ID or no FORM",
                "Declare at least these two columns",
            )
        return columns

    def rows(self, columns: Sequence[str], wanted: Sequence[str]) -> Iterator[list[str]]:
        """The cells of the columns ``wanted`` of each row; ``_`` where there is no such column."""
        width = len(columns)
        # a cell of its own, the last, stands for every column that is missing
        places = [columns.index(name) if name in columns else width for name in wanted]
        row = -1
        for line in self.lines:
            if line[0] == "#":
                continue
            row += 1
            cells = line.split("\t") if "\t" in line else _TWO_SPACES.split(line)
            if len(cells) < width:
                self.fail(row, f"{len(cells)} columns, not {width}" if cells[1:] else "no columns")
            cells[width:] = "_"
            yield [cells[place] for place in places]

    def fail(self, row: int, what: str) -> NoReturn:
        """Raise the error of a malformed row (by its index in the block)."""
        raise self.file.error(
            self.row_lines()[row], what, "Mend this line; CoNLL-U divides its ten columns by tabs"
        )

    def row_lines(self) -> list[int]:
        """The line number of each row: comments may stand between them."""
        return [self.first_line + i for i, line in enumerate(self.lines) if line[0] != "#"]

    def comment_line(self, key: str) -> int:
        """The line of a comment."""
        found = (i for i, line in enumerate(self.lines) if line.lstrip("# ").startswith(key))
        return self.first_line + next(found, 0)


def blocks(file: ProbeFile, advance: AdvanceCallback) -> Iterator[Block]:
    """The blocks of a file, which empty lines divide."""
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


KEY, COMMENT = "Link=", "global.Link"

_SETTINGS = ("looks_to", "scope")


class LinkReader:
    """Reads the links of one file; ``declare`` holds for the lines after it."""

    def __init__(self, file: ProbeFile) -> None:
        self._file = file
        self._settings: dict[str, dict[str, Text]] = {}

    def declare(self, comment: str, line: int) -> None:
        """Take what a ``global.Link`` comment says of relations; HeadprobeError where malformed."""
        for part in comment.split(";"):
            name, *settings = part.split() or [""]
            found = {}
            for setting in settings:
                key, _, value = setting.partition(":")
                if key not in _SETTINGS:
                    raise self._file.error(
                        line, f"the setting {key[:40]!r} is unknown", suggest_names(key, _SETTINGS)
                    )
                found[key] = Text(value, line)
            self._settings[name] = found
            self._relation(Text(name, line))

    def read(
        self, links: str, query: int, words: Sequence[Word], first: int, line: int
    ) -> Iterator[DeclaredLink]:
        """The links of the ``query``-th of a sentence's words, in word indices of the document,
        where the sentence starts at ``first``.

        HeadprobeError where one is malformed, means no word, looks forward, or is of no declared
        relation although there are such.
        """
        targets: dict[str, set[int]] = {}
        for link in links.split(","):
            name, _, number = link.strip().rpartition(":")
            if not name or not (number.isascii() and number.isdigit()):
                raise self._file.error(
                    line,
                    f"{link[:60]!r} is no link",
                    "Write Link=relation:ID, several divided by commas",
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
                    f"stand before {words[query].form[:40]!r} ({query + 1})",
                    "A decoder sees only earlier words; write the link on the later one",
                )
            targets.setdefault(name, set()).add(first + target)
        for name, found in targets.items():
            yield DeclaredLink(
                self._relation(Text(name, line)), first + query, tuple(sorted(found))
            )

    def _relation(self, name: Text) -> Relation:
        if self._settings and name.text not in self._settings:
            raise self._file.error(
                name.line,
                f"the relation {name.text[:40]!r} is not declared",
                f"{suggest_names(name.text, self._settings)}; or declare it, too: # {COMMENT}",
            )
        settings = {"family": Text("user", name.line), **self._settings.get(name.text, {})}
        return declared_relation(self._file, name, settings)


_DOMAIN_COMMENTS = ("meta::genre", "genre", "domain")

_COLUMNS_READ = ("id", "form", "upos", "head", "deprel", "misc")

_INDEX = {str(number): number - 1 for number in range(1, 512)}
"""The IDs of most words there are, without a sign or leading zeros, as indices."""

_ID = re.compile(r"(?P<first>0|[1-9]\d{0,8})(?:(?P<kind>[-.])(?P<second>[1-9]\d{0,8}))?", re.ASCII)


def read_conllu(
    file: ProbeFile, note: SkipCallback, advance: AdvanceCallback = no_progress
) -> Iterator[Document]:
    """The documents of a CoNLL-U file, with the mentions of CorefUD's ``Entity=`` brackets and the
    links of ``Link=`` (``probes.conllu``).

    Raises HeadprobeError with file:line where the file is malformed. Brackets that do not pair are
    noted and left out.
    """
    columns: tuple[str, ...] = COLUMNS
    order: Sequence[str] = DEFAULT_ORDER
    draft: _Draft | None = None
    links = LinkReader(file)
    documents_are_marked = False
    for block in blocks(file, advance):
        columns = block.declared_columns() or columns
        comments = block.comments
        if "global.Entity" in comments:
            order = field_order(comments["global.Entity"] or "")
        if COMMENT in comments:
            links.declare(comments[COMMENT] or "", block.comment_line(COMMENT))
        newdoc = next((key for key in comments if key.split(" ", 1)[0] == "newdoc"), None)
        documents_are_marked |= newdoc is not None
        if draft is None or newdoc is not None or not documents_are_marked:
            if draft is not None:
                yield from draft.finish()
            name = comments[newdoc] if newdoc is not None else comments.get("sent_id")
            draft = _Draft(
                file, name or file.at(block.first_line), MentionReader(order, note), links
            )
        draft.take_comments(comments)
        rows = _Rows(block, columns)
        if rows.nodes:
            draft.add(rows, note)
    if draft is not None:
        yield from draft.finish()


class _Draft:
    """A document while its sentences come in."""

    def __init__(
        self, file: ProbeFile, name: str, mentions: MentionReader, links: LinkReader
    ) -> None:
        self.file, self.name, self.mentions, self.links = file, name, mentions, links
        self.declared: list[DeclaredLink] = []
        self.domain = self.template = self.source = ""
        self.sentences: list[Sentence] = []
        self.words = 0

    def take_comments(self, comments: Mapping[str, str | None]) -> None:
        for key in _DOMAIN_COMMENTS:
            self.domain = self.domain or comments.get(key) or ""
        self.template = self.template or comments.get("template") or ""

    def add(self, rows: "_Rows", note: SkipCallback) -> None:
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
        if not rows.words:
            note(Skipped(source, "sentence", "it has no words"))
            return
        self.source = self.source or source
        self.words += len(rows.words)
        self.sentences.append(Sentence(tuple(rows.words), tuple(rows.surfaces), source))

    def finish(self) -> Iterator[Document]:
        if self.sentences:
            yield Document(
                id=self.name,
                domain=self.domain or PurePath(self.file.name).stem,
                sentences=tuple(self.sentences),
                source=self.source,
                mentions=self.mentions.finish(),
                declared=tuple(self.declared),
                cluster=self.template or self.name,
            )


class _Rows:
    """The rows of a sentence, checked and sorted into words, surfaces and nodes.

    ``nodes`` has the word index of each word and None for each empty node; ``brackets`` the node,
    the row and the text of each ``Entity=``, ``links`` the row, the word and the text of ``Link=``.
    """

    def __init__(self, block: Block, columns: Sequence[str]) -> None:
        self.block = block
        self.words: list[Word] = []
        self.surfaces: list[Surface] = []
        self.nodes: list[int | None] = []
        self.brackets: list[tuple[int, int, str]] = []
        self.links: list[tuple[int, int, str]] = []
        self.range_end = 0
        rows = list(block.rows(columns, _COLUMNS_READ))
        self.length = sum(cells[0].isdigit() for cells in rows)
        for row, (name, form, upos, head, deprel, misc) in enumerate(rows):
            if not form:
                block.fail(row, "an empty FORM")
            kind = ""
            index = len(self.words)
            if _INDEX.get(name) == index or name == str(index + 1):
                self._add_word(row, form, upos, head, deprel, misc)
            else:
                kind = self._add_other(row, name, form, misc)
            if misc != "_":
                self._read_misc(row, kind, misc)

    def _add_word(self, row: int, form: str, upos: str, head: str, deprel: str, misc: str) -> None:
        index = len(self.words)
        self.words.append(
            Word(
                form,
                "" if upos == "_" else upos,
                self._head(row, index, head),
                "" if deprel == "_" else deprel,
            )
        )
        self.nodes.append(index)
        if index >= self.range_end:
            self.surfaces.append(Surface(form, index, index, _space_after(misc)))

    def _add_other(self, row: int, name: str, form: str, misc: str) -> str:
        """Take a range (``-``) or an empty node (``.``), and say which it is."""
        number = _ID.fullmatch(name)
        first, second = (
            (int(number[part] or 0) for part in ("first", "second")) if number else (0, 0)
        )
        kind = number["kind"] if number else None
        if not number or (kind == "-" and second < first):
            self.block.fail(row, f"{name[:20]!r} is not a valid ID")
        if kind is None:
            self.block.fail(row, f"ID {first} where {len(self.words) + 1} is due")
        if kind == "-":
            self._add_range(row, first, second, form, misc)
        else:
            self.nodes.append(None)
        return kind

    def _head(self, row: int, index: int, head: str) -> int | None:
        place = _INDEX.get(head, self.length)
        if place < self.length and place != index:
            return place
        if head in {"0", "_"}:
            return None
        if not (head.isascii() and head.isdigit()):
            self.block.fail(row, f"HEAD {head[:20]!r} is not an integer")
        if len(head) > 9 or not 0 < int(head) <= self.length:
            self.block.fail(
                row, f"HEAD {head[:20]} is out of range (the sentence has {self.length})"
            )
        if int(head) == index + 1:
            self.block.fail(row, f"HEAD {head} is the word itself")
        return int(head) - 1

    def _add_range(self, row: int, first: int, last: int, form: str, misc: str) -> None:
        if first != len(self.words) + 1 or first <= self.range_end or last > self.length:
            self.block.fail(row, f"the range {first}-{last} does not fit the words it stands among")
        self.range_end = last
        self.surfaces.append(Surface(form, first - 1, last - 1, _space_after(misc)))

    def _read_misc(self, row: int, kind: str, misc: str) -> None:
        if "Entity=" in misc and kind != "-":
            for part in misc.split("|"):
                if part.startswith("Entity="):
                    self.brackets.append((len(self.nodes) - 1, row, part.removeprefix("Entity=")))
        if KEY in misc:
            for part in misc.split("|"):
                if not part.startswith(KEY):
                    continue
                if kind:
                    self.block.fail(row, "a Link on a token that is no word of its own")
                self.links.append((row, len(self.words) - 1, part.removeprefix(KEY)))


def _space_after(misc: str) -> bool:
    return "SpaceAfter=No" not in misc or "SpaceAfter=No" not in misc.split("|")
