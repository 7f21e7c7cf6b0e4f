"""What all pages share: letters and colours of roles, the console, titles, tables, progress bars.

The console parses no markup: text of the user appears unchanged. Only terminals get colour.
"""

import re
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TextIO, cast

from rich.cells import cell_len
from rich.console import Console
from rich.progress import BarColumn, Task, TextColumn
from rich.progress import Progress as Bar
from rich.table import Table
from rich.text import Text

from headprobe.format import duration, safe_text
from headprobe.progress import PlainProgress, Progress
from headprobe.results.views import IDLE, NONE, REPEATER, kind_of, roles_of
from headprobe.runs.tables import Row

LABEL = "grey50"
"""The style of labels and notes."""


@dataclass(frozen=True)
class Mark:
    """The letter and the style of a kind of head."""

    letter: str
    style: str


_MARKS = {
    "coreference": Mark("C", "bold magenta"),
    "syntax": Mark("S", "bold cyan"),
    "punctuation": Mark("P", "bold yellow"),
    "semantic": Mark("E", "bold green"),
    "word-class": Mark("W", "yellow"),
    "positional": Mark("O", "green"),
    "duplicate-token": Mark("D", "blue"),
    "induction": Mark("I", "bold blue"),
    "mixed": Mark("M", "bold white"),
    "unnamed": Mark("U", "italic red"),
    REPEATER: Mark("=", LABEL),
    IDLE: Mark("z", LABEL),
    NONE: Mark("·", LABEL),
}


@dataclass(frozen=True)
class KindCount:
    """How often a kind of head occurs."""

    kind: str
    """A role, or ``mixed``, ``repeater``, ``idle`` or ``none``."""
    heads: int
    """Number of heads of this kind, or with this role among others."""
    strongest: int
    """Number of heads for which the kind is the letter in the grid."""


def kinds(heads: Sequence[Row]) -> list[KindCount]:
    """Count each kind that occurs: built-in roles, roles of the user, repeaters, idle, none."""
    strongest = Counter(kind_of(head) for head in heads)
    holding = Counter(kind for head in heads for kind in {kind_of(head), *roles_of(head)})
    last = [REPEATER, IDLE, NONE]
    built_in = [kind for kind in _MARKS if kind not in last]
    user = sorted(kind for kind in holding if kind not in _MARKS)
    return [
        KindCount(kind, holding[kind], strongest[kind])
        for kind in [*built_in, *user, *last]
        if holding[kind]
    ]


def second_kind(head: Row, order: Sequence[str]) -> str:
    """Return the head's second role in the grid: the first other one in ``order``, or ``""``."""
    others = {role for role in roles_of(head) if role != kind_of(head)}
    return next((kind for kind in order if kind in others), "")


def marks(kinds_shown: Iterable[str]) -> dict[str, Mark]:
    """Return the mark of every kind; roles of the user get letters that are free."""
    chosen = dict(_MARKS)
    for kind in kinds_shown:
        if kind not in chosen:
            taken = {mark.letter for mark in chosen.values()}
            free = [*kind.upper(), *"ABEFGHJKLNQRTVWXY0123456789?"]
            letter = next((c for c in free if c.isascii() and c.isalnum() and c not in taken), "?")
            chosen[kind] = Mark(letter, "bold green")
    return chosen


class _PipeConsole(Console):
    """A console that raises BrokenPipeError when its reader leaves early (``| head``)."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


class _TrimmedStream:
    """A stream that removes the trailing blanks of table rows."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        return self.stream.write(re.sub(r" +(?=\n|$)", "", text))

    def flush(self) -> None:
        self.stream.flush()

    def isatty(self) -> bool:
        return False

    @property
    def encoding(self) -> str:
        return self.stream.encoding


def console(stream: TextIO, width: int | None = None) -> Console:
    """Return a console without markup and emoji codes; control codes only on a terminal."""
    terminal = stream.isatty()
    return _PipeConsole(
        file=stream if terminal else cast(TextIO, _TrimmedStream(stream)),
        width=width,
        force_terminal=None if terminal else False,
        markup=False,
        emoji=False,
        highlight=False,
        legacy_windows=False,
    )


LISTED = 8
"""Names listed before the rest is counted."""


def title(text: str, note: str = "") -> Text:
    """Return the title of a part, with an empty line before it."""
    return Text.assemble("\n", (text, "bold"), (f"   {note}" if note else "", LABEL))


def pairs_table() -> Table:
    """Return a table of two columns: labels and their text."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style=LABEL, no_wrap=True)
    table.add_column(overflow="fold")
    return table


def filled(parts: Sequence[str], width: int, separator: str = ", ") -> str:
    """Join ``parts`` into lines of at most ``width`` characters.

    Lines break between parts only, so that numbers stay beside their units and names.
    """
    lines = [""]
    for place, part in enumerate(parts):
        ending = separator.rstrip() if place < len(parts) - 1 else ""
        if lines[-1] and cell_len(lines[-1] + part + ending) > width:
            lines[-1] = lines[-1].rstrip()
            lines.append("")
        lines[-1] += part + (separator if ending or place < len(parts) - 1 else "")
    return "\n".join(lines)


def longest_word(texts: Iterable[str], most: int = 24) -> int:
    """Return the length of the longest word, at most ``most``: a column's smallest width.

    Narrower columns would break words. The limit is for names of the user, which can be long.
    """
    return min(most, max((cell_len(word) for text in texts for word in text.split()), default=0))


@dataclass
class Column:
    """A column of a table that is fitted to the width of the console."""

    name: str
    """The heading, which may have several lines."""
    cells: Sequence[str | Text]
    """The cells from top to bottom."""
    key: str = ""
    """The column of the CSV file."""
    rank: int = 0
    """The columns of the highest rank are left out first; those of rank 0 never."""
    is_number: bool = False
    """Whether cells stand at the right."""
    folds: bool = False
    """Whether cells may continue on a further line, between words."""

    @property
    def least_width(self) -> int:
        """The width that keeps words and numbers whole, and text on few lines."""
        texts = [str(cell) for cell in self.cells]
        whole = max(map(cell_len, [*self.name.split("\n"), *texts]), default=0)
        return min(whole, max(COMFORTABLE, longest_word(texts))) if self.folds else whole


COMFORTABLE = 22
"""Width in characters at which text that folds needs few lines."""


def draw_columns(columns: Sequence[Column], console: Console) -> None:
    """Print a table of as many of ``columns`` as fit the console, the lowest ranks first.

    Columns of rank 0 that are too wide make longer lines, which a terminal wraps: what is copied
    from them stays whole.
    """
    chosen: list[Column] = []
    room = console.width + GAP
    for column in sorted(columns, key=lambda column: column.rank):
        if column.rank == 0 or column.least_width + GAP <= room:
            chosen.append(column)
            room -= column.least_width + GAP
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style=LABEL)
    shown = [column for column in columns if column in chosen]
    for column in shown:
        table.add_column(
            column.name,
            justify="right" if column.is_number else "left",
            no_wrap=not column.folds,
            overflow="fold",
            min_width=column.least_width,
        )
    for cells in zip(*(column.cells for column in shown), strict=True):
        table.add_row(*cells)
    console.print(table, width=console.width + max(0, -room), crop=False)


GAP = 2
"""Characters between the columns of a table."""


def draw_line(console: Console, *parts: str | Text | tuple[str, str]) -> None:
    """Print one line that is never wrapped, because a part of a path or command is useless."""
    console.print(Text.assemble(*parts), soft_wrap=True)


def listed(names: Sequence[str], most: int = LISTED) -> str:
    """Join the first ``most`` names, and count the rest."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(safe_text(name) for name in names[:most]) + more


class _Amount(TextColumn):
    """``212 of 400 passages   31/s   6 s left``, as far as it is known."""

    def __init__(self) -> None:
        super().__init__("")

    def render(self, task: Task) -> Text:
        unit = task.fields["unit"]
        scale = 1.0
        if unit == "bytes":
            scale, unit = (1e6, "MB") if (task.total or 0) >= 1e6 else (1e3, "kB")
        done = f"{task.completed / scale:,.0f}" if task.completed else ""
        if task.total is not None:
            done = f"{task.completed / scale:,.0f} of {task.total / scale:,.0f}"
        done = f"{done} {unit}" if done else ""
        speed = (task.speed or 0) / scale
        rate = f"{speed:,.{0 if speed >= 10 else 1}f}/s" if speed else ""
        left = f"{duration(task.time_remaining)} left" if task.time_remaining else ""
        elapsed = "" if left or not task.elapsed else duration(task.elapsed)
        return Text("   ".join(filter(None, (done.strip(), rate, left, elapsed))), style=LABEL)


class LiveProgress:
    """Progress on a terminal: one line for the current stage, removed when it ends."""

    def __init__(self, stream: TextIO) -> None:
        self._console = console(stream)
        self._bar: Bar | None = None

    def stage(self, name: str, total: int | None = None, unit: str = "") -> None:
        self.finish()
        self._bar = Bar(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            _Amount(),
            console=self._console,
            transient=True,
        )
        self._bar.add_task(safe_text(name), total=total, unit=safe_text(unit))
        self._bar.start()

    def advance(self, n: int = 1) -> None:
        if self._bar is not None:
            self._bar.advance(self._bar.task_ids[0], n)

    def warn(self, text: str) -> None:
        self._console.print(Text.assemble(("warning: ", "bold yellow"), safe_text(text)))

    def finish(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def progress_for(stream: TextIO | None = None, quiet: bool = False) -> Progress:
    """Return a progress bar on a terminal, lines elsewhere, and only warnings with ``quiet``.

    ``stream`` is stderr by default.
    """
    stream = sys.stderr if stream is None else stream
    if quiet or not stream.isatty():
        return PlainProgress(stream, quiet)

    return LiveProgress(stream)
