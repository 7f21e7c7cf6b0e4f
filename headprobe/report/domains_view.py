"""Whether a head does everywhere what it is named for."""

from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from headprobe.report import numbers
from headprobe.report.best_heads import relation_words
from headprobe.report.palette import LABEL
from headprobe.report.parts import longest_word, title
from headprobe.report.plain import clip
from headprobe.store.tables import Row

SHOWN = 3
"""Relations shown; all of them are in ``domains.csv``."""

_ASKED = ("family", "relation", "looks_to")


def draw_domains(
    head: Row, relations: Sequence[Row], domains: Sequence[Row]
) -> Iterator[RenderableType]:
    """The gains of a head in each domain, for the relations that earned it a role, else for its
    best one; nothing where the probes have one domain."""
    earned = [_asked(row) for row in relations if row.text("role")]
    best = (head.text("best_relation"), head.text("best_looks_to"))
    chosen = earned or [asked for asked in map(_asked, relations) if asked[1:] == best]
    found = {asked: [row for row in domains if _asked(row) == asked] for asked in chosen[:SHOWN]}
    told = [rows for rows in found.values() if len(rows) > 1]
    if not told:
        return
    yield title("by domain")
    words = [relation_words(rows[0]) for rows in told]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style=LABEL)
    table.add_column("looks for", overflow="fold", min_width=longest_word(words))
    table.add_column("domain", overflow="fold")
    for name in ("n", "top1", "baseline", "gain"):
        table.add_column(name, justify="right", no_wrap=True)
    for rows in told:
        for place, row in enumerate(rows):
            table.add_row(
                "" if place else relation_words(row),
                clip(row.text("domain"), 24),
                f"{row.whole('n'):,}",
                numbers.fraction(row.number("top1")),
                numbers.fraction(row.number("baseline_top1")),
                Text(numbers.signed(row.number("gain")), style="bold"),
            )
    yield Padding(table, (0, 0, 0, 2))


def _asked(row: Row) -> tuple[str, str, str]:
    family, relation, looks_to = (row.text(name) for name in _ASKED)
    return family, relation, looks_to
