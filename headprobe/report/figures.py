"""Figures of a run for papers and slides, drawn with matplotlib.

Every figure shows numbers of the run's tables; nothing is computed here. matplotlib is an optional
dependency (``headprobe[figures]``). Text from outside is never parsed as mathematics.
"""

import io
import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar

from headprobe.errors import HeadprobeError
from headprobe.format import clip, relation_words
from headprobe.report.colours import COLOURS, OWN_ROLE, QUIET
from headprobe.report.layout import kinds, marks
from headprobe.results.trace import Trace
from headprobe.results.views import HeadView, kind_of
from headprobe.runs.tables import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GREY = "#e3e5e9"
"""Colour of heads without a role."""

MAPS = 6
"""Relations drawn as heat maps, by the largest lower end of a gain: the best relation of each
family first, so that every family with a gain has a map, then the best of the others."""

HEADS_SHOWN = 16
"""Heads of a role that are drawn with their intervals and profiles."""

PALE = 0.005
"""Share of attention below which a range of distances at the end of a profile is not drawn."""


@dataclass(frozen=True)
class Size:
    """The size of figures on the page."""

    width: float
    """Width in inches."""
    tall: float
    """Largest height of a grid of heads in inches."""
    text: float
    """Size of text in points."""


SIZES: Mapping[str, Size] = MappingProxyType(
    {
        "column": Size(3.35, 7.0, 7),
        "page": Size(6.9, 6.0, 8),
        "slide": Size(10.0, 5.6, 14),
    }
)
"""Widths of a column and a page of a two-column paper, and of a slide."""


@dataclass(frozen=True)
class RunFigures:
    """What the figures of a run show."""

    model: str
    """The name of the model, for titles."""
    views: Sequence[HeadView]
    """All heads, by layer and head."""


def figures(data: RunFigures, size: Size) -> Iterator[tuple[str, "Figure"]]:
    """Yield the name of each figure and the figure.

    ``roles``: the grid of roles. ``map-...``: the gain of every head on one relation. ``gains-...``
    and ``distances-...``: the heads of one role, with intervals and with the distances they look
    at. Raises HeadprobeError if matplotlib is not installed.
    """
    with _style(size):
        yield "roles", _role_grid(data, size)
        for name, key in _named(_relations_to_map(data)):
            yield f"map-{name}", _heat_map(data, key, size)
        for name, (role,) in _named([(role,) for role in _roles_by_relation(data)]):
            yield f"gains-{name}", _gains(data, role, size)
            yield f"distances-{name}", _distances(data, role, size)


def draw_roles(data: RunFigures, size: Size) -> "Figure":
    """Return the grid of roles alone; HeadprobeError if matplotlib is not installed."""
    with _style(size):
        return _role_grid(data, size)


def named_size(name: str) -> Size:
    """Return one of ``SIZES``; HeadprobeError for another name."""
    if name not in SIZES:
        raise HeadprobeError(f"size {name!r}", "unknown", f"Use one of {', '.join(SIZES)}")
    return SIZES[name]


def save_figure(figure: "Figure", path: Path) -> None:
    """Write a figure in the format of the path's suffix; the same figure gives the same bytes."""
    import matplotlib as mpl

    notes: dict[str, dict[str, str | None]] = {
        ".svg": {"Creator": "headprobe", "Date": None},
        ".png": {"Software": "headprobe"},
        ".pdf": {"Creator": "headprobe", "CreationDate": None},
    }
    with mpl.rc_context({"svg.fonttype": "path", "svg.hashsalt": "headprobe"}):
        # Without the default padding, which makes the file wider than the figure
        figure.savefig(
            path, metadata=notes.get(path.suffix), dpi=200, bbox_inches="tight", pad_inches=0.02
        )


@contextmanager
def _style(size: Size) -> Iterator[None]:
    try:
        import matplotlib as mpl
    except ImportError:
        raise HeadprobeError(
            "figures", "need matplotlib, which is not installed", "pip install 'headprobe[figures]'"
        ) from None
    except ValueError as error:  # of MPLBACKEND, though no figure here needs a backend
        raise HeadprobeError(
            "matplotlib", f"cannot be imported ({error})", "Correct or unset MPLBACKEND"
        ) from None
    with mpl.rc_context(
        {
            "font.size": size.text,
            "text.parse_math": False,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.linewidth": 0.6,
            "figure.constrained_layout.use": True,
            "figure.constrained_layout.w_pad": 0.06,
        }
    ):
        yield


def _new_figure(width: float, height: float) -> tuple["Figure", "Axes"]:
    figure = _figure_class()(figsize=(width, height))
    return figure, figure.subplots()


@cache
def _figure_class() -> "type[Figure]":
    """A figure that shows itself in a notebook.

    It is made without pyplot: no global state, no window, no backend to choose.
    """
    from matplotlib.figure import Figure

    class NotebookFigure(Figure):
        def _repr_png_(self) -> bytes:
            buffer = io.BytesIO()
            self.savefig(buffer, format="png", dpi=150, bbox_inches="tight")
            return buffer.getvalue()

    return NotebookFigure


_T = TypeVar("_T", bound=tuple[str, ...])


def _named(keys: Sequence[_T]) -> Iterator[tuple[str, _T]]:
    """Yield a file name for each key, of letters, digits and hyphens, and the key."""
    used: Counter[str] = Counter()
    for key in keys:
        words = "".join(c if c.isalnum() and c.isascii() else " " for c in " ".join(key[-2:]))
        name = "-".join(words.lower().split())[:60] or "other"
        used[name] += 1
        yield name if used[name] == 1 else f"{name}-{used[name]}", key


def _colour(kind: str) -> str:
    return GREY if kind in QUIET else COLOURS.get(kind, OWN_ROLE)


def _shape(data: RunFigures) -> tuple[int, int]:
    rows = [view.head for view in data.views]
    return 1 + max(r.whole("layer") for r in rows), 1 + max(r.whole("head") for r in rows)


@dataclass(frozen=True)
class _Grid:
    """Axes on which every head has a square: layers downwards, or to the right where the figure is
    wide and the model has more layers than heads."""

    figure: "Figure"
    axes: "Axes"
    sideways: bool
    cell: float
    """Side of a square in inches."""

    def place(self, head: Row) -> tuple[int, int]:
        """The column and the row of a head."""
        layer, number = head.whole("layer"), head.whole("head")
        return (layer, number) if self.sideways else (number, layer)


def _grid(data: RunFigures, size: Size) -> _Grid:
    layers, heads = _shape(data)
    sideways = layers > heads and size.width > size.tall
    columns, rows = (layers, heads) if sideways else (heads, layers)
    cell = min((size.width - 0.8) / columns, (size.tall - 1.6) / rows)
    figure, axes = _new_figure(max(cell * columns + 0.8, 2.6), cell * rows + 1.6)
    axes.set_aspect("equal")
    axes.set_xlim(-0.6, columns - 0.4)
    axes.set_ylim(rows - 0.4, -0.6)
    axes.set_xticks(range(0, columns, -(-columns // 16)))
    axes.set_yticks(range(0, rows, -(-rows // 16)))
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.set_xlabel("layer" if sideways else "head")
    axes.set_ylabel("head" if sideways else "layer")
    axes.xaxis.set_label_position("top")
    for spine in axes.spines.values():
        spine.set_visible(False)
    return _Grid(figure, axes, sideways, cell)


def _role_grid(data: RunFigures, size: Size) -> "Figure":
    """One square per head, coloured and lettered by its strongest role."""
    from matplotlib.patches import Patch, Rectangle

    grid = _grid(data, size)
    found = kinds([view.head for view in data.views])
    chosen = marks(each.kind for each in found)
    for view in data.views:
        (x, y), kind = grid.place(view.head), kind_of(view.head)
        square = Rectangle((x - 0.46, y - 0.46), 0.92, 0.92, color=_colour(kind), linewidth=0)
        grid.axes.add_patch(square)
        if kind not in QUIET:
            letter = chosen[kind].letter
            points = min(size.text, 72 * 0.6 * grid.cell)
            grid.axes.text(x, y, letter, ha="center", va="center", fontsize=points)
    handles = [
        Patch(
            color=_colour(each.kind),
            label=f"{chosen[each.kind].letter} {clip(each.kind, 24)} ({each.strongest})",
        )
        for each in found
        if each.strongest
    ]
    grid.figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=4 if grid.sideways else 2,
        frameon=False,
        handlelength=1,
        columnspacing=1,
    )
    grid.axes.set_title(clip(data.model, 60))
    return grid.figure


_Key = tuple[str, str, str]


def _key(row: Row) -> _Key:
    return row.text("family"), row.text("relation"), row.text("looks_to")


def _relations_to_map(data: RunFigures) -> list[_Key]:
    best: dict[_Key, float] = {}
    for view in data.views:
        for row in view.relations:
            low = row.number("gain_low")
            if low is not None:
                best[_key(row)] = max(low, best.get(_key(row), low))
    by_gain = sorted(best, key=lambda key: -best[key])
    of_family = {key[0]: key for key in reversed(by_gain)}
    return sorted(by_gain, key=lambda key: key != of_family[key[0]])[:MAPS]


def _heat_map(data: RunFigures, key: _Key, size: Size) -> "Figure":
    """The gain of every head on one relation; white is no gain or a loss."""
    grid = _grid(data, size)
    layers, heads = _shape(data)
    columns, rows = (layers, heads) if grid.sideways else (heads, layers)
    gains = [[float("nan")] * columns for _ in range(rows)]
    for view in data.views:
        x, y = grid.place(view.head)
        for row in view.relations:
            gain = row.number("gain")
            if _key(row) == key and gain is not None:
                gains[y][x] = gain
    image = grid.axes.imshow(gains, cmap="Blues", vmin=0, aspect="equal")
    # Beside the squares, which need not fill the height of the figure
    wide = grid.cell * columns
    bar = grid.axes.inset_axes((1 + 0.08 / wide, 0, 0.1 / wide, 1))
    grid.figure.colorbar(image, cax=bar, label="gain over the best baseline")
    grid.axes.set_title(clip(relation_words(*key), 60))
    return grid.figure


def _roles_by_relation(data: RunFigures) -> list[str]:
    roles = {row.text("role") for view in data.views for row in view.relations}
    return sorted(role for role in roles if role)


def _claims(data: RunFigures, role: str) -> list[tuple[HeadView, Row]]:
    """The heads that hold a role and the rows that earned it, best lower ends first."""
    found = [
        (view, row) for view in data.views for row in view.relations if row.text("role") == role
    ]
    found.sort(key=lambda each: -(each[1].number("gain_low") or 0))
    return found[:HEADS_SHOWN]


def _gains(data: RunFigures, role: str, size: Size) -> "Figure":
    """The gains of the heads of a role, with their intervals."""
    claims = _claims(data, role)
    labels = [_label(view, row, size) for view, row in claims]
    height = 0.75 + sum(0.17 + 0.11 * label.count("\n") for label in labels)
    figure, axes = _new_figure(size.width, height * size.text / 7)
    for place, (_, row) in enumerate(claims):
        low, high, gain = (row.number(name) for name in ("gain_low", "gain_high", "gain"))
        if low is not None and high is not None:
            axes.plot([low, high], [place, place], color=_colour(role), linewidth=2.5)
        if gain is not None:
            axes.plot([gain], [place], "o", color="#222222", markersize=size.text / 3)
    axes.axvline(0, color="#999999", linewidth=0.6)
    axes.set_yticks(range(len(claims)), labels)
    axes.set_ylim(len(claims) - 0.4, -0.6)
    # Centred, these words would be wider than a column
    axes.set_xlabel("gain over the best baseline (95 % interval)", loc="right")
    axes.set_title(clip(role, 40))
    return figure


def _label(view: HeadView, row: Row, size: Size) -> str:
    """The name of a head and what it looks for, in lines of at most 60 % of the width."""
    words = f"{view.head.text('name')}  {clip(relation_words(*_key(row)), 44)}"
    character = 0.55 * size.text / 72  # the mean width in inches
    return "\n".join(
        textwrap.wrap(words, int(0.6 * size.width / character), break_on_hyphens=False)
    )


def _distances(data: RunFigures, role: str, size: Size) -> "Figure":
    """How far back the heads of a role look: shares of attention by distance in words."""
    views = list({id(view): view for view, _ in _claims(data, role)}.values())
    profiles = [dict(view.full_profile) for view in views]
    # Some heads look further back than others; ranges too pale to be seen are left out at the end
    names: list[str] = max((list(profile) for profile in profiles), key=len)
    while len(names) > 1 and all(each.get(names[-1], 0.0) < PALE for each in profiles):
        names.pop()
    figure, axes = _new_figure(size.width, (0.17 * len(views) + 1.0) * size.text / 7)
    shares = [[profile.get(name, 0.0) for name in names] for profile in profiles]
    image = axes.imshow(shares, cmap="Blues", vmin=0, aspect="auto")
    axes.set_xticks(range(len(names)), names, rotation=45)
    axes.set_yticks(range(len(views)), [view.head.text("name") for view in views])
    axes.set_xlabel("distance in words")
    axes.tick_params(length=0)
    figure.colorbar(image, ax=axes, label="share of attention")
    axes.set_title(clip(role, 40))
    return figure


def trace_figures(trace: Trace, size: Size) -> "Iterator[tuple[str, Figure]]":
    """Yield the name of each figure of a trace and the figure.

    ``roles-by-step``: the heads that hold each role. ``bits-by-step``: bits per character.
    ``onsets``: between which steps each role of a head begins. Raises HeadprobeError if matplotlib
    is not installed.
    """
    with _style(size):
        yield "roles-by-step", _curves(trace, size)
        yield "bits-by-step", _bits(trace, size)
        if trace.onsets:
            yield "onsets", _onsets(trace, size)


_WIDE = 50
"""Ratio of the last step to the first one after 0 above which steps are on a logarithmic scale."""


def _step_axis(trace: Trace, axes: "Axes") -> None:
    steps = [step.step for step in trace.counted]
    first = next((step for step in steps if step > 0), 1)
    if steps[-1] / first > _WIDE:
        axes.set_xscale("symlog", linthresh=first)
    axes.set_xlabel("step")


def _curves(trace: Trace, size: Size) -> "Figure":
    figure, axes = _new_figure(size.width, size.width * 0.62)
    steps = trace.counted
    for role in trace.roles:
        heads = [step.counts.get(role, 0) for step in steps]
        axes.plot(
            [step.step for step in steps],
            heads,
            marker="o",
            markersize=size.text / 3,
            linewidth=1.2,
            color=_colour(role),
            label=clip(role, 24),
        )
    _step_axis(trace, axes)
    axes.set_ylabel("heads that hold the role")
    axes.set_ylim(bottom=0)
    axes.locator_params(axis="y", integer=True)
    axes.set_title(clip(trace.model, 60))
    if trace.roles:
        figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return figure


def _bits(trace: Trace, size: Size) -> "Figure":
    figure, axes = _new_figure(size.width, size.width * 0.45)
    known = [(step.step, step.bits) for step in trace.counted if step.bits is not None]
    axes.plot(
        [step for step, _ in known],
        [bits for _, bits in known],
        marker="o",
        markersize=size.text / 3,
        linewidth=1.2,
        color="#0072b2",
    )
    _step_axis(trace, axes)
    axes.set_ylabel("bits per character")
    axes.set_title(clip(trace.model, 60))
    return figure


def _onsets(trace: Trace, size: Size) -> "Figure":
    """The first onsets, as intervals between two checkpoints."""
    shown = sorted(trace.onsets, key=lambda each: (each.event.by, each.event.after))
    shown = shown[: 2 * HEADS_SHOWN]
    figure, axes = _new_figure(size.width, (0.17 * len(shown) + 0.75) * size.text / 7)
    for place, each in enumerate(shown):
        ends = [each.event.after or 0, each.event.by or 0]
        axes.plot(ends, [place, place], color=_colour(each.role), linewidth=3)
    axes.set_yticks(range(len(shown)), [f"{each.head}  {clip(each.role, 24)}" for each in shown])
    axes.set_ylim(len(shown) - 0.4, -0.6)
    _step_axis(trace, axes)
    axes.set_title("onsets, between two checkpoints")
    return figure
