"""CoNLL-U files as blocks of lines, one for each sentence: comments, and rows of columns.

The format: https://universaldependencies.org/format.html; CoNLL-U Plus declares its columns in a
comment: https://universaldependencies.org/ext-format.html.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import NoReturn

from headprobe.probes.probe_file import Advance, ProbeFile

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
        found: dict[str, str | None] = {}
        for line in self.lines:
            if line[0] == "#":
                key, equals, value = line[1:].partition("=")
                found[key.strip()] = value.strip() if equals else None
        return found

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

    def rows(self, columns: Sequence[str], asked: Sequence[str]) -> Iterator[list[str]]:
        """The cells of the columns ``asked`` of each row; ``_`` where there is no such column."""
        width = len(columns)
        # a cell of its own, the last, stands for every column that is missing
        places = [columns.index(name) if name in columns else width for name in asked]
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


def blocks(file: ProbeFile, advance: Advance) -> Iterator[Block]:
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
