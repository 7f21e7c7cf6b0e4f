"""The role grid: one cell per head, one line per layer."""

from collections.abc import Iterator, Sequence

from rich.text import Text

from headprobe.format import clip
from headprobe.report.layout import LABEL, kinds, marks, second_kind
from headprobe.results.views import NONE, kind_of, roles_of
from headprobe.runs.tables import Row

BETWEEN = "    "
"""Space between panels side by side."""

TALL = 24
"""Number of lines above which the grid is divided into panels, if the width allows."""

VERY_TALL = 40
"""Number of layers above which neighbouring layers without any role share a line."""

_STEPS = (1, 2, 4, 8, 16, 32, 64)


def role_grid(heads: Sequence[Row], group: int, width: int) -> list[Text]:
    """Return lines of at most ``width`` characters: a ruler of head numbers, then the layers.

    A cell is the letter of the head's kind. If any head has a second role, cells are two characters
    wide, and a small letter stands for that role (``layout.second_kind``). ``group`` is the number
    of query heads per key/value head; a space separates the groups if the width allows. If not all
    heads of a layer fit on a line, the grid is divided into blocks, one below the other.
    """
    layers = _by_layer(heads)
    n_heads = len(layers[0]) if layers else 0
    label, cell, room = _sizes(heads, len(layers), width)
    cells = _cells(layers)
    lines: list[Text] = []
    for first, last, every in _blocks(n_heads, group, room, cell):
        columns = [cell * place + place // every for place in range(last - first)]
        rows = list(_rows(layers, cells, first, last, columns, label))
        panel = label + columns[-1] + cell
        panels = max(1, min((width + 4) // (panel + 4), -(-len(rows) // TALL)))
        lines += [Text()] if lines else []
        lines += _side_by_side(_ruler(first, columns, label), rows, panels)
    return lines


def legend(heads: Sequence[Row], width: int) -> list[Text]:
    """Return the key to the letters, with numbers of heads: ``C coreference 5 (1 strongest)``.

    The number in brackets counts the capital letters in the grid; it is omitted if it is the same.
    """
    counts = kinds(heads)
    chosen = marks(each.kind for each in counts)
    lines = [Text()]
    for each in counts:
        mark = chosen[each.kind]
        count = f"{each.heads:,}"
        if each.strongest != each.heads:
            count += f" ({each.strongest:,} strongest)"
        entry = Text.assemble((mark.letter, mark.style), f" {clip(each.kind, 40)} ", (count, LABEL))
        if lines[-1] and len(lines[-1]) + 3 + len(entry) > width:
            lines.append(Text())
        lines[-1].append("   " if lines[-1] else "").append_text(entry)
    return lines


def grid_key(heads: Sequence[Row], group: int, width: int) -> list[str]:
    """Return phrases that explain how to read the grid."""
    n_layers = len({row.whole("layer") for row in heads})
    n_heads = len({row.whole("head") for row in heads})
    _, cell, room = _sizes(heads, n_layers, width)
    phrases = ["rows: layers", "columns: heads"]
    if group > 1 and all(every == group for *_, every in _blocks(n_heads, group, room, cell)):
        phrases.append("spaces separate KV groups")
    if cell == 2:
        phrases += ["capital letter: strongest role", "small letter: second role of the same head"]
    return phrases


def _sizes(heads: Sequence[Row], n_layers: int, width: int) -> tuple[int, int, int]:
    """Widths in characters of a row's label, of a cell, and of all cells of a row."""
    label = len(str(n_layers)) + 2
    order = [each.kind for each in kinds(heads)]
    cell = 2 if any(second_kind(head, order) for head in heads) else 1
    return label, cell, max(width - label, 8 * cell)


def _by_layer(heads: Sequence[Row]) -> list[list[Row]]:
    layers: dict[int, list[Row]] = {}
    for row in sorted(heads, key=lambda row: (row.whole("layer"), row.whole("head"))):
        layers.setdefault(row.whole("layer"), []).append(row)
    return list(layers.values())


def _cells(layers: Sequence[Sequence[Row]]) -> list[list[Text]]:
    heads = [head for layer in layers for head in layer]
    order = [each.kind for each in kinds(heads)]
    chosen = marks(order)

    def cell(head: Row) -> Text:
        first, second = chosen[kind_of(head)], second_kind(head, order)
        text = Text(first.letter, style=first.style)
        if second:
            text.append(chosen[second].letter.lower(), style=chosen[second].style)
        return text

    return [[cell(head) for head in layer] for layer in layers]


def _blocks(n_heads: int, group: int, room: int, cell: int) -> list[tuple[int, int, int]]:
    """Return (first head, end, heads between spaces) for each block of columns."""
    for every in (group, 8, 16):
        if cell * n_heads + (n_heads - 1) // every <= room:
            return [(0, n_heads, every)]
    size = max(1, room // (8 * cell + 1)) * 8
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
    layers: Sequence[Sequence[Row]],
    cells: Sequence[Sequence[Text]],
    first: int,
    last: int,
    columns: Sequence[int],
    label: int,
) -> Iterator[Text]:
    empty = [
        all(kind_of(head) == NONE and not roles_of(head) for head in layer) for layer in layers
    ]
    number = 0
    while number < len(layers):
        end = number
        while len(layers) > VERY_TALL and end < len(layers) and empty[end]:
            end += 1
        if end - number > 2:
            yield Text(f"{number}–{end - 1} no role", style=LABEL)
            number = end
            continue
        yield _row(layers[number][0].whole("layer"), cells[number][first:last], columns, label)
        number += 1


def _row(layer: int, cells: Sequence[Text], columns: Sequence[int], label: int) -> Text:
    line = Text(str(layer).rjust(label - 2) + "  ", style="")
    line.stylize(LABEL)
    for cell, column in zip(cells, columns, strict=True):
        line.append(" " * (label + column - len(line))).append_text(cell)
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
