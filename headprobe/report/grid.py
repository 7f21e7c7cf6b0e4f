"""All heads of a model at a glance: one cell per head, one line per layer."""

from collections.abc import Iterator, Sequence

from rich.text import Text

from headprobe.report.palette import LABEL, NONE, Mark, kind_of, kinds, marks
from headprobe.report.plain import plain
from headprobe.store.tables import Row

BETWEEN = "    "
"""Between panels that stand side by side."""

TALL = 24
"""Lines above which the grid is set in several panels, if the width allows."""

VERY_TALL = 40
"""Layers above which neighbouring layers without any role share a line."""

_STEPS = (1, 2, 4, 8, 16, 32, 64)


def role_grid(heads: Sequence[Row], group: int, width: int) -> list[Text]:
    """Lines of at most ``width`` characters: a ruler of head numbers, then the layers.

    ``group`` is how many query heads share a key/value head; where it fits, a gap parts the groups.
    Models with more heads than fit are cut into blocks, one below the other.
    """
    layers = _by_layer(heads)
    n_heads = len(layers[0]) if layers else 0
    label = len(str(len(layers))) + 2
    room = max(width - label, 8)
    lines: list[Text] = []
    for first, last, every in _blocks(n_heads, group, room):
        columns = [place + (place // every if every else 0) for place in range(last - first)]
        rows = list(_rows(layers, first, last, columns, label))
        panels = max(1, min((width + 4) // (label + columns[-1] + 5), -(-len(rows) // TALL)))
        lines += [Text()] if lines else []
        lines += _side_by_side(_ruler(first, columns, label), rows, panels)
    return lines


def legend(heads: Sequence[Row], width: int) -> list[Text]:
    """What the cells mean and how many heads there are of each kind."""
    found = kinds(heads)
    chosen = marks(kind for kind, _ in found)
    lines = [Text()]
    for kind, number in found:
        entry = Text.assemble(
            (chosen[kind].letter, chosen[kind].style), f" {plain(kind)} ", (f"{number:,}", LABEL)
        )
        if lines[-1] and len(lines[-1]) + 3 + len(entry) > width:
            lines.append(Text())
        lines[-1].append("   " if lines[-1] else "").append_text(entry)
    return lines


def parts_groups(n_heads: int, group: int, width: int, n_layers: int) -> bool:
    """Whether the gaps of the grid part the key/value groups."""
    room = max(width - len(str(n_layers)) - 2, 8)
    return group > 1 and all(every == group for *_, every in _blocks(n_heads, group, room))


def _by_layer(heads: Sequence[Row]) -> list[list[Row]]:
    layers: dict[int, list[Row]] = {}
    for row in sorted(heads, key=lambda row: (row.whole("layer"), row.whole("head"))):
        layers.setdefault(row.whole("layer"), []).append(row)
    return list(layers.values())


def _blocks(n_heads: int, group: int, room: int) -> list[tuple[int, int, int]]:
    """(first head, end, heads between gaps) of each block of columns."""
    for every in (group, 8, 16):
        if n_heads + (n_heads - 1) // every <= room:
            return [(0, n_heads, every)]
    size = max(8, (room * 8 // 9) // 8 * 8)
    return [(first, min(first + size, n_heads), 8) for first in range(0, n_heads, size)]


def _ruler(first: int, columns: Sequence[int], label: int) -> Text:
    for step in _STEPS:
        places = [place for place in range(len(columns)) if place % step == 0]
        text = ""
        for place in places:
            number = str(first + place)
            if text and len(text) >= columns[place]:
                break
            text = text.ljust(columns[place]) + number
        else:
            break
    return Text(" " * label + text, style=LABEL)


def _rows(
    layers: Sequence[Sequence[Row]], first: int, last: int, columns: Sequence[int], label: int
) -> Iterator[Text]:
    chosen = marks(kind for kind, _ in kinds([head for layer in layers for head in layer]))
    empty = [all(kind_of(head) == NONE for head in layer) for layer in layers]
    number = 0
    while number < len(layers):
        end = number
        while len(layers) > VERY_TALL and end < len(layers) and empty[end]:
            end += 1
        if end - number > 2:
            yield Text(f"{number}–{end - 1} no role", style=LABEL)
            number = end
            continue
        cells = [chosen[kind_of(head)] for head in layers[number][first:last]]
        yield _row(layers[number][0].whole("layer"), cells, columns, label)
        number += 1


def _row(layer: int, cells: Sequence[Mark], columns: Sequence[int], label: int) -> Text:
    line = Text(str(layer).rjust(label - 2) + "  ", style="")
    line.stylize(LABEL)
    for cell, column in zip(cells, columns, strict=True):
        line.append(" " * (label + column - len(line))).append(cell.letter, style=cell.style)
    return line


def _side_by_side(ruler: Text, rows: Sequence[Text], panels: int) -> list[Text]:
    height = -(-len(rows) // panels)
    columns = [[ruler, *rows[start : start + height]] for start in range(0, len(rows), height)]
    wide = max(len(line) for column in columns for line in column)
    lines = []
    for index in range(height + 1):
        line = Text()
        for place, column in enumerate(columns):
            if index < len(column):
                line.append(" " * (place * (wide + len(BETWEEN)) - len(line)))
                line.append_text(column[index])
        lines.append(line)
    return lines
