"""CoNLL-U files to documents, one document in memory at a time.

The format: https://universaldependencies.org/format.html. Files that say which document a sentence
belongs to (``# newdoc``) give documents; where they have not said so yet, each sentence stands
alone, because treebanks are often shuffled.
"""

from collections.abc import Iterator, Sequence
from pathlib import PurePath
from typing import NoReturn

from conllu import TokenList, parse_token_and_metadata
from conllu.exceptions import ParseException
from conllu.parser import DEFAULT_FIELDS, parse_id_value, parse_line

from headprobe.probes.conllu_links import COMMENT, KEY, LinkReader
from headprobe.probes.corefud import DEFAULT_ORDER, MentionReader, field_order
from headprobe.probes.document import Declared, Document, Sentence, Surface, Word
from headprobe.probes.probe_file import Advance, Note, ProbeFile, keep_still
from headprobe.store.skipped import Skipped

_DOMAIN_COMMENTS = ("meta::genre", "genre", "domain")
_USED = frozenset({"form", "upos", "head", "deprel", "misc"})
_COLUMN_PARSERS = {
    "id": lambda columns, i: parse_id_value(columns[i]),
    **{name: lambda columns, i: columns[i] for name in _USED},
    **{name: lambda _columns, _i: None for name in set(DEFAULT_FIELDS) - _USED - {"id"}},
}
_COMMENT_PARSERS = {"__fallback__": lambda key, value: (key, value)}


def read_conllu(file: ProbeFile, note: Note, advance: Advance = keep_still) -> Iterator[Document]:
    """The documents of a CoNLL-U file, with the mentions of CorefUD's ``Entity=`` brackets and the
    links of ``Link=`` (``probes.conllu_links``).

    Raises HeadprobeError with file:line where the file is malformed. Brackets that do not pair are
    noted and left out.
    """
    columns: tuple[str, ...] = DEFAULT_FIELDS
    order: Sequence[str] = DEFAULT_ORDER
    draft: _Draft | None = None
    links = LinkReader(file)
    documents_are_marked = False
    for block in _blocks(file, advance):
        columns = block.declared_columns() or columns
        tokens = block.parse(columns)
        comments = tokens.metadata
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
        if tokens:
            draft.add(block, tokens, columns, note)
    if draft is not None:
        yield from draft.finish()


class _Block:
    """The lines of one sentence; ``first_line`` counts from 1."""

    def __init__(self, file: ProbeFile, first_line: int, lines: list[str]) -> None:
        self.file, self.first_line, self.lines = file, first_line, lines

    def declared_columns(self) -> tuple[str, ...] | None:
        """The columns, where a comment of CoNLL-U Plus declares them."""
        for line in self.lines:
            if not line.startswith("#"):
                return None
            if line.startswith("# global.columns"):
                columns = tuple(line.partition("=")[2].lower().split())
                if not {"id", "form"} <= set(columns):
                    raise self.file.error(
                        self.first_line,
                        "global.columns declares no ID or no FORM",
                        "Declare at least these two columns",
                    )
                return columns
        return None

    def parse(self, columns: Sequence[str]) -> TokenList:
        """The nodes and comments of the block."""
        try:
            return parse_token_and_metadata(
                "\n".join(self.lines), columns, dict(_COLUMN_PARSERS), _COMMENT_PARSERS
            )
        except (ParseException, ValueError):
            self._fail_where_malformed(columns)

    def fail(self, node: int, what: str) -> NoReturn:
        """Raise the error of a malformed node (by its index in the block)."""
        raise self.file.error(
            self.node_lines()[node], what, "Mend this line; CoNLL-U divides its ten columns by tabs"
        )

    def node_lines(self) -> list[int]:
        """The line number of each node: comments may stand between them."""
        return [self.first_line + i for i, line in enumerate(self.lines) if line.strip()[0] != "#"]

    def comment_line(self, key: str) -> int:
        """The line of a comment."""
        found = (i for i, line in enumerate(self.lines) if line.lstrip("# ").startswith(key))
        return self.first_line + next(found, 0)

    def _fail_where_malformed(self, columns: Sequence[str]) -> NoReturn:
        rows = [line.strip() for line in self.lines]
        nodes = [row for row in rows if row[0] != "#"]
        for node, row in enumerate(nodes):
            try:
                parse_line(row, columns, dict(_COLUMN_PARSERS))
            except (ParseException, ValueError):
                start = row.partition("\t")[0][:20]
                self.fail(node, f"{start!r} is not a valid ID" if "\t" in row else "no columns")
        raise AssertionError("the sentence is malformed, its lines are not")


def _blocks(file: ProbeFile, advance: Advance) -> Iterator[_Block]:
    lines: list[str] = []
    first_line = 1
    for number, line in enumerate(file.lines(advance), start=1):
        if line.strip():
            if not lines:
                first_line = number
            # The library would take two spaces inside a column for the border between two.
            if "  " in line and "\t" in line:
                line = " ".join(part for part in line.split(" ") if part)  # noqa: PLW2901
            lines.append(line)
        elif lines:
            yield _Block(file, first_line, lines)
            lines = []
    if lines:
        yield _Block(file, first_line, lines)


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

    def take_comments(self, comments: dict[str, str | None]) -> None:
        for key in _DOMAIN_COMMENTS:
            self.domain = self.domain or comments.get(key) or ""
        self.template = self.template or comments.get("template") or ""

    def add(self, block: _Block, tokens: TokenList, columns: Sequence[str], note: Note) -> None:
        rows = _Rows(block, tokens, len(columns))
        source = self.file.at(block.first_line)
        nodes = [None if word is None else self.words + word for word in rows.nodes]
        place = self.mentions.add_nodes(nodes)
        if rows.brackets:
            lines = block.node_lines()
            for node, row, brackets in rows.brackets:
                self.mentions.read(brackets, place + node, self.file.at(lines[row]))
        for row, query, text in rows.links:
            line = block.node_lines()[row]
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

    def __init__(self, block: _Block, tokens: TokenList, width: int) -> None:
        self.block = block
        self.words: list[Word] = []
        self.surfaces: list[Surface] = []
        self.nodes: list[int | None] = []
        self.brackets: list[tuple[int, int, str]] = []
        self.links: list[tuple[int, int, str]] = []
        self.range_end = 0
        self.length = sum(isinstance(token["id"], int) for token in tokens)
        for row, token in enumerate(tokens):
            if len(token) < width:
                block.fail(row, f"{len(token)} columns, not {width}")
            if not token["form"]:
                block.fail(row, "an empty FORM")
            number, misc = token["id"], token.get("misc", "_")
            if isinstance(number, int):
                self._add_word(row, number, token, misc)
            elif number is None:
                block.fail(row, "'_' is not a valid ID")
            elif number[1] == "-":
                self._add_range(row, number[0], number[2], token["form"], misc)
            else:
                self.nodes.append(None)
            if "Entity=" in misc and (isinstance(number, int) or number[1] == "."):
                self._add_brackets(row, misc)
            if KEY in misc:
                self._add_links(row, number, misc)

    def _add_word(self, row: int, number: int, token: dict[str, str], misc: str) -> None:
        index = len(self.words)
        if number != index + 1:
            self.block.fail(row, f"ID {number} where {index + 1} is due")
        form, upos, deprel = token["form"], token.get("upos", "_"), token.get("deprel", "_")
        self.words.append(
            Word(
                form,
                "" if upos == "_" else upos,
                self._head(row, number, token.get("head", "_")),
                "" if deprel == "_" else deprel,
            )
        )
        self.nodes.append(index)
        if number > self.range_end:
            self.surfaces.append(Surface(form, index, index, _space_after(misc)))

    def _head(self, row: int, number: int, head: str) -> int | None:
        if head in {"0", "_"}:
            return None
        if not (head.isascii() and head.isdigit()):
            self.block.fail(row, f"HEAD {head[:20]!r} is not an integer")
        if len(head) > 9 or not 0 < int(head) <= self.length:
            self.block.fail(
                row, f"HEAD {head[:20]} is out of range (the sentence has {self.length})"
            )
        if int(head) == number:
            self.block.fail(row, f"HEAD {head} is the word itself")
        return int(head) - 1

    def _add_range(self, row: int, first: int, last: int, form: str, misc: str) -> None:
        if first != len(self.words) + 1 or first <= self.range_end or last > self.length:
            self.block.fail(row, f"the range {first}-{last} does not fit the words it stands among")
        self.range_end = last
        self.surfaces.append(Surface(form, first - 1, last - 1, _space_after(misc)))

    def _add_brackets(self, row: int, misc: str) -> None:
        for part in misc.split("|"):
            if part.startswith("Entity="):
                self.brackets.append((len(self.nodes) - 1, row, part.removeprefix("Entity=")))

    def _add_links(self, row: int, number: object, misc: str) -> None:
        for part in misc.split("|"):
            if not part.startswith(KEY):
                continue
            if not isinstance(number, int):
                self.block.fail(row, "a Link on a token that is no word of its own")
            self.links.append((row, len(self.words) - 1, part.removeprefix(KEY)))


def _space_after(misc: str) -> bool:
    return "SpaceAfter=No" not in misc or "SpaceAfter=No" not in misc.split("|")
