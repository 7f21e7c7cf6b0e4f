"""What one head does on a text that the user typed."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from headprobe.report.excerpts import LONGEST_WORD
from headprobe.report.numbers import fraction
from headprobe.report.palette import LABEL
from headprobe.report.plain import clip, plain

SHOWN = 4
"""Words shown for each query, the strongest first."""

FAINT = 0.005
"""Weights that would print as .00 are not shown."""


@dataclass(frozen=True)
class TextView:
    """Attention of one head over a text, word by word.

    ``words`` [W] as they stand in the text; ``weights[q][k]`` is the raw attention from the last
    token of word q to all tokens of word k <= q (rows as long as q + 1); ``sink[q]`` what goes to
    the removed sinks. ``usable`` [W] says which words have tokens of their own (METHOD section 1);
    the rows of the others are empty.
    """

    name: str
    words: tuple[str, ...]
    weights: tuple[tuple[float, ...], ...]
    sink: tuple[float, ...]
    usable: tuple[bool, ...]


def draw_text(view: TextView, console: Console) -> None:
    """Print for each word what it looks at, strongest first."""
    console.print(Text.assemble((plain(view.name), "bold"), " on your text"))
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style=LABEL)
    table.add_column("word", no_wrap=True, overflow="ellipsis", max_width=24)
    table.add_column("start", justify="right", no_wrap=True, style=LABEL)
    table.add_column("itself", justify="right", no_wrap=True, style=LABEL)
    table.add_column("looks at", overflow="fold")
    shown = _told_apart(view.words)
    for place, form in enumerate(shown):
        if not view.usable[place]:
            table.add_row(form, "", "", Text("shares a token with another word", style=LABEL))
            continue
        row = view.weights[place]
        sink, itself = fraction(view.sink[place]), fraction(row[place])
        table.add_row(form, sink, itself, _looks_at(shown, row[:place]))
    console.print(table)


def _told_apart(words: Sequence[str]) -> list[str]:
    """Every word as it is shown; from its second time on with its number, as probe files write it
    (``the#2``)."""
    met: Counter[str] = Counter()
    shown = []
    for word in words:
        met[word] += 1
        form = clip(word, LONGEST_WORD)
        shown.append(form if met[word] == 1 else f"{form}#{met[word]}")
    return shown


def _looks_at(words: Sequence[str], weights: Sequence[float]) -> Text:
    strongest = sorted(range(len(weights)), key=lambda place: -weights[place])[:SHOWN]
    line = Text()
    for place in strongest:
        if weights[place] < FAINT:
            break
        line.append("   " if line else "", style=LABEL)
        line.append(words[place], style="" if line else "bold green")
        line.append(f" {fraction(weights[place])}", style=LABEL)
    return line
