"""CoNLL-U files to documents, one document in memory at a time.

The format: https://universaldependencies.org/format.html. Files that say which document a sentence
belongs to (``# newdoc``) give documents; where they have not said so yet, each sentence stands
alone, because treebanks are often shuffled.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath

from headprobe.probes.conllu_blocks import COLUMNS, Block, blocks
from headprobe.probes.conllu_links import COMMENT, KEY, LinkReader
from headprobe.probes.corefud import DEFAULT_ORDER, MentionReader, field_order
from headprobe.probes.document import Declared, Document, Sentence, Surface, Word
from headprobe.probes.probe_file import Advance, Note, ProbeFile, keep_still
from headprobe.store.skipped import Skipped

_DOMAIN_COMMENTS = ("meta::genre", "genre", "domain")
_ASKED = ("id", "form", "upos", "head", "deprel", "misc")
_INDEX = {str(number): number - 1 for number in range(1, 512)}
"""The IDs of most words there are, without a sign or leading zeros, as indices."""
_ID = re.compile(r"(?P<first>0|[1-9]\d{0,8})(?:(?P<kind>[-.])(?P<second>[1-9]\d{0,8}))?", re.ASCII)


def read_conllu(file: ProbeFile, note: Note, advance: Advance = keep_still) -> Iterator[Document]:
    """The documents of a CoNLL-U file, with the mentions of CorefUD's ``Entity=`` brackets and the
    links of ``Link=`` (``probes.conllu_links``).

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
        self.declared: list[Declared] = []
        self.domain = self.template = self.source = ""
        self.sentences: list[Sentence] = []
        self.words = 0

    def take_comments(self, comments: Mapping[str, str | None]) -> None:
        for key in _DOMAIN_COMMENTS:
            self.domain = self.domain or comments.get(key) or ""
        self.template = self.template or comments.get("template") or ""

    def add(self, rows: "_Rows", note: Note) -> None:
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
        rows = list(block.rows(columns, _ASKED))
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
