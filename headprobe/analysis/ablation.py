"""The rows of ``ablation.csv``: what the changes of an outcome say of each set of heads.

See ``docs/causal.md``. An outcome has units (tokens of text, minimal pairs) in clusters (document
folds, templates). The effect of a set stands beside those of its null sets on the same units.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headprobe.analysis.effects import (
    CausalThresholds,
    NullComparison,
    adjust,
    cluster_ratio,
    cluster_sums,
    compare_with_null,
    mean_effects,
    min_sets,
    selectivity,
)
from headprobe.arrays import Bools, Floats

NOTHING = float("nan")

PREFIXES = ("", "matched_")
"""How the columns of the two kinds of null sets begin."""


@dataclass(frozen=True)
class OutcomeChange:
    """What S interventions changed in one outcome."""

    name: str
    base: Floats
    """[U]: the values of the intact model."""
    change: Floats
    """[S, U]: the value under each intervention minus that of the intact model."""
    cluster: NDArray[np.int64]
    """[U]: the cluster of each unit."""
    harm: int
    """1 if an ablation does harm where it raises the values, -1 if where it lowers them."""
    chance: float
    """The value by chance: that of a uniform guess for losses, 0 for margins."""

    def only(self, units: Bools, name: str) -> "OutcomeChange":
        """Return the outcome on some units [U], under another name."""
        return OutcomeChange(
            name,
            self.base[units],
            self.change[:, units],
            self.cluster[units],
            self.harm,
            self.chance,
        )


@dataclass(frozen=True)
class SetPlaces:
    """Where the interventions of a set and of its null sets stand, on the axis S."""

    own: int
    nulls: tuple[Sequence[int], ...]
    """For each of ``PREFIXES`` the places of the null sets."""
    exact: tuple[bool, ...]
    """For each of ``PREFIXES`` whether these are all sets that exist."""

    @property
    def all(self) -> list[int]:
        """All places, the set's own first."""
        return [self.own, *(place for null in self.nulls for place in null)]


def is_above_chance(
    base: Floats,
    cluster: NDArray[np.int64],
    harm: int,
    chance: float,
    thresholds: CausalThresholds,
) -> bool:
    """Return whether the intact model is above chance, judged by clusters.

    A loss must be below that of a uniform guess. Of minimal pairs, the model must prefer the good
    sentence in more than half: the share is taken over pairs, and its p over templates.
    """
    better: Floats = chance - base if harm > 0 else (base > chance).astype(np.float64) - 0.5
    sums, sizes = cluster_sums(better[None], cluster)
    return bool(mean_effects(sums, sizes, thresholds.confidence).p[0] <= thresholds.max_p)


def outcome_rows(
    outcome: OutcomeChange,
    places: Sequence[SetPlaces],
    usable: bool,
    queries: Sequence[Bools | None],
    thresholds: CausalThresholds,
) -> list[dict[str, Any]]:
    """Return the row of each set, without ``q`` and ``important`` (``add_q``).

    ``queries`` are the units of each set at the query rows of its relations, or None. Effects of an
    outcome that is not ``usable`` are empty; it needs no changes.
    """
    rows = []
    for place, is_query in zip(places, queries, strict=True):
        row: dict[str, Any] = {"outcome": outcome.name, "n": len(outcome.base)}
        row["base"] = float(outcome.base.mean())
        row["accuracy"] = float((outcome.base > 0).mean()) if outcome.harm < 0 else NOTHING
        if usable:
            change = outcome.change[place.all]
            row |= _effect_cells(outcome, change, place, is_query, thresholds)
        else:
            row |= dict.fromkeys(("ablated", "effect", "effect_low", "effect_high"), NOTHING)
            row |= dict.fromkeys(("selectivity", "selectivity_p"), NOTHING)
            row |= {"matched_selectivity_p": NOTHING, "p_effect": NOTHING}
            for prefix, null, exact in zip(PREFIXES, place.nulls, place.exact, strict=True):
                nothing = compare_with_null(NOTHING, np.zeros(0), exact, min_sets(thresholds.max_p))
                row |= _null_cells(prefix, nothing, outcome.harm)
                row[f"{prefix}sets"] = len(null)
        row["usable"] = usable
        rows.append(row)
    return rows


def _effect_cells(
    outcome: OutcomeChange,
    change: Floats,
    place: SetPlaces,
    is_query: Bools | None,
    thresholds: CausalThresholds,
) -> dict[str, Any]:
    """The cells of one set; ``change`` [S', U] are its own change and those of its null sets."""
    sums, sizes = cluster_sums(change, outcome.cluster)
    confidence, fewest = thresholds.confidence, min_sets(thresholds.max_p)
    effects = mean_effects(sums, sizes, confidence)
    harm = outcome.harm * effects.mean
    selective = np.full(len(change), np.nan)
    if is_query is not None:
        selective = selectivity(change, is_query, thresholds.min_rows)
    cells: dict[str, Any] = {
        "ablated": float(outcome.base.mean() + effects.mean[0]),
        "effect": float(effects.mean[0]),
        "effect_low": float(effects.low[0]),
        "effect_high": float(effects.high[0]),
        "selectivity": float(selective[0]),
        "p_effect": float(mean_effects(outcome.harm * sums, sizes, confidence).p[0]),
    }
    start = 1
    for prefix, null, exact in zip(PREFIXES, place.nulls, place.exact, strict=True):
        of_null = slice(start, start + len(null))
        start += len(null)
        cells |= _null_cells(
            prefix, compare_with_null(float(harm[0]), harm[of_null], exact, fewest), outcome.harm
        )
        compared = compare_with_null(float(selective[0]), selective[of_null], exact, fewest)
        cells[f"{prefix}selectivity_p"] = compared.p
    return cells


def _null_cells(prefix: str, null: NullComparison, harm: int) -> dict[str, Any]:
    return {
        f"{prefix}null": null.kind,
        f"{prefix}sets": null.sets,
        f"{prefix}random_median": harm * null.median,
        f"{prefix}random_q95": harm * null.q95,
        f"{prefix}p": null.p,
    }


def add_q(rows: Sequence[dict[str, Any]], max_p: float) -> None:
    """Add ``q`` and ``important`` to the rows of one call: Benjamini-Hochberg over the rows of each
    outcome. A row is important if q and the p of every null with enough sets are at most
    ``max_p``."""
    for outcome in dict.fromkeys(row["outcome"] for row in rows):
        members = [row for row in rows if row["outcome"] == outcome]
        q = adjust(np.array([row.pop("p_effect") for row in members]))
        for row, value in zip(members, q, strict=True):
            row["q"] = float(value)
            nulls = [row[f"{prefix}p"] for prefix in PREFIXES]
            row["important"] = bool(
                value <= max_p and all(math.isnan(p) or p <= max_p for p in nulls)
            )


def has_effect(row: Mapping[str, Any]) -> bool:
    """Return whether the lower end of a row's effect is above 0, as recovery needs it."""
    return bool(row["effect_low"] > 0)


RECOVERY_COLUMNS = (
    *("recovery", "recovery_low", "recovery_high"),
    *("recovery_control", "recovery_above_control_low"),
)


def recovery_cells(lost: Floats, cluster: NDArray[np.int64], confidence: float) -> dict[str, float]:
    """Return the columns on recovery: (L_mean - L_kept) / (L_mean - L_intact).

    ``lost`` [3, U] are the changes against the intact model: of the mean ablation, of the
    label-preserving one, and of its control. ``recovery_above_control_low`` is the lower end of the
    difference between both recoveries.
    """
    whole, with_label, with_control = lost
    label = cluster_ratio(whole - with_label, whole, cluster, confidence)
    control = cluster_ratio(whole - with_control, whole, cluster, confidence)
    above = cluster_ratio(with_control - with_label, whole, cluster, confidence)
    values = (label.value, label.low, label.high, control.value, above.low)
    return dict(zip(RECOVERY_COLUMNS, values, strict=True))
