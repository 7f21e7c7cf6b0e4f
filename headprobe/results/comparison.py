"""What ``headprobe compare`` found: the heads of two runs, side by side."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from headprobe.vocabulary import NONE

if TYPE_CHECKING:
    import pandas as pd

COMPARE = "compare.csv"
"""One row per head of the first run (docs/output.md)."""

COMPARE_JSON = "compare.json"
"""The same and the numbers of the whole comparison, as ``compare --json`` prints them."""

DEPTHS = 4
"""The number of equal parts into which the layers of a model are divided."""


@dataclass(frozen=True)
class Side:
    """One of the two runs."""

    run: Path
    model: str
    """The checkpoint, as the user named it."""
    details: str
    """Dtype, quantisation, adapter and revision."""
    probes: tuple[str, ...]
    """The names of its probe files."""
    n_layers: int
    n_heads: int
    named: int
    """The number of heads with a role."""
    ceiling: float | None
    """The share of its heads that find themselves, when assigned by their gains on the even and on
    the odd document folds."""
    has_twin: bool
    """Whether the sketch of a random twin is in the run."""
    roles_by_depth: Mapping[str, tuple[int, ...]]
    """Heads by role and by part of the depth (``DEPTHS``)."""


@dataclass(frozen=True)
class ComparedHead:
    """A head of the first run and its counterpart. None means not computed, or not applicable."""

    head_a: str
    head_b: str | None
    """The head of the same seat for two runs of one model; else the head that is assigned."""
    affinity: float | None
    """The mean Hellinger affinity of the two on the shared rows."""
    floor95: float | None
    """What the affinity must exceed (``analysis.matching.Matching.floor``)."""
    matched: bool | None
    """Whether each of the two is the other's nearest, and the affinity is above the floor; None
    without a floor."""
    nearest: bool | None
    """Whether each of the two is the other's nearest."""
    role_a: str
    role_b: str | None
    gains_r: float | None
    """The correlation of their gains over the relations of both runs."""
    family: str | None = None
    """The relation of the head's role, or its best one: family, name, and what it looks to."""
    relation: str | None = None
    looks_to: str | None = None
    n: int | None = None
    """The number of instances that are paired; None on different texts."""
    gain_a: float | None = None
    gain_b: float | None = None
    change: float | None = None
    change_low: float | None = None
    change_high: float | None = None
    q: float | None = None

    @property
    def same_role(self) -> bool:
        """Whether both heads have the same role; ``none`` counts."""
        return self.role_a == self.role_b


Text = Literal["same", "other"]


@dataclass(frozen=True)
class Comparison:
    """Two runs, head by head."""

    a: Side
    b: Side
    same_model: bool
    """Whether the runs are of one model, so that equal seats are the same head."""
    text: Text
    """Whether the runs share a probe file."""
    rows: int
    """The number of named rows on which attention is compared; 0 where a run has no sketch."""
    heads: tuple[ComparedHead, ...]
    agreement: float | None
    """The share of seats with equal roles, of one model."""
    kappa: float | None
    """Cohen's kappa over ``role``, ``none`` included, of one model."""
    seats: Mapping[str, float] | None
    """Of models of one shape: ``observed`` and ``expected`` number of equal seats with equal roles,
    and ``p`` (``analysis.matching.EqualSeats``)."""
    notes: tuple[str, ...] = ()
    """What the reader must know: what could not be computed, and the remedy."""

    @property
    def roles(self) -> Mapping[tuple[str, str], int]:
        """The number of pairs of heads by their roles in both runs."""
        return Counter((h.role_a, h.role_b) for h in self.heads if h.role_b is not None)

    @property
    def named(self) -> tuple[ComparedHead, ...]:
        """The heads of the first run that have a role."""
        return tuple(head for head in self.heads if head.role_a != NONE)

    @property
    def has_floor(self) -> bool:
        """Whether both runs have a random twin, without which nothing is called a match."""
        return self.a.has_twin and self.b.has_twin


_ALWAYS = (
    *("head_a", "head_b", "affinity", "floor95", "matched", "nearest", "role_a", "role_b"),
    "gains_r",
)

_ONE_MODEL = (
    *("family", "relation", "looks_to", "n", "gain_a", "gain_b", "change", "change_low"),
    *("change_high", "q"),
)
"""Further columns for two runs of one model."""


def comparison_table(comparison: Comparison) -> "pd.DataFrame":
    """Return ``compare.csv``: one row per head of the first run."""
    import pandas as pd

    columns = (*_ALWAYS, *_ONE_MODEL) if comparison.same_model else _ALWAYS
    kinds = {
        **dict.fromkeys(columns, "float64"),
        **dict.fromkeys(("matched", "nearest"), "boolean"),
        **dict.fromkeys(("head_a", "head_b", "role_a", "role_b"), "str"),
        **{name: "str" for name in ("family", "relation", "looks_to") if name in columns},
        **({"n": "Int64"} if comparison.same_model else {}),
    }
    rows = [[getattr(head, name) for name in columns] for head in comparison.heads]
    frame = pd.DataFrame(rows, columns=list(columns), dtype=object)
    return pd.DataFrame({name: pd.Series(frame[name], dtype=kinds[name]) for name in columns})


def comparison_values(comparison: Comparison) -> dict[str, Any]:
    """Return a comparison as JSON values."""
    values = {each.name: getattr(comparison, each.name) for each in fields(comparison)}
    return values | {
        "a": {**asdict(comparison.a), "run": str(comparison.a.run)},
        "b": {**asdict(comparison.b), "run": str(comparison.b.run)},
        "roles": [
            {"role_a": a, "role_b": b, "heads": n} for (a, b), n in sorted(comparison.roles.items())
        ],
        "heads": [asdict(head) for head in comparison.heads],
    }
