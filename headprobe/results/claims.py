"""The claims of a run: one row per head and role that it earned, as a paper prints them."""

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from headprobe.analysis.behaviour import BehaviourEvidence, Copying
from headprobe.analysis.evidence import BEATS, Evidence
from headprobe.format import relation_name
from headprobe.roles.verdict import Claim, Verdict
from headprobe.vocabulary import DUPLICATE, INDUCTION, POSITIONAL, REDUNDANT, head_name

COLUMNS = (
    *("role", "layer", "head", "name", "family", "relation", "looks_to", "n", "top1", "baseline"),
    *("baseline_top1", "gain", "gain_low", "gain_high", "held_out", "q", "category_top1"),
    *("category_gain", "category_gain_low", "beats", "strength", "reason"),
)
"""Columns of ``claims.csv`` (docs/output.md)."""

_TEXTS = ("role", "name", "family", "relation", "looks_to", "baseline", "beats", "reason")


def claims_table(
    evidence: Evidence, behaviour: BehaviourEvidence, verdicts: Sequence[Verdict]
) -> pd.DataFrame:
    """Return ``claims.csv``: the claims by role, then strongest first.

    Roles that rest on no relation leave the columns of a relation empty. ``held_out`` is the gain
    on the odd document folds, which choose nothing.
    """
    rows = [
        row
        for verdict in verdicts
        for row in (*_redundant(verdict), *_claims(evidence, behaviour, verdict))
    ]
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    frame = frame.astype(dict.fromkeys(("layer", "head"), "int64") | {"n": "Int64"})
    for name in COLUMNS:
        if name in _TEXTS:
            frame[name] = pd.Series([value or None for value in frame[name]], dtype="str")
        elif name not in ("layer", "head", "n"):
            frame[name] = frame[name].astype("float64")
    order = {role: place for place, role in enumerate(_role_order(frame["role"].tolist()))}
    frame = frame.assign(_role=frame["role"].map(order))
    frame = frame.sort_values(
        ["_role", "strength", "layer", "head"], ascending=[True, False, True, True]
    )
    return frame.drop(columns="_role").reset_index(drop=True)


def _role_order(roles: Sequence[str]) -> list[str]:
    """Roles by relations first, in the order in which they occur, then the others."""
    last = (POSITIONAL, DUPLICATE, INDUCTION, REDUNDANT)
    found = list(dict.fromkeys(roles))
    return [*sorted(role for role in found if role not in last), *last]


def _redundant(verdict: Verdict) -> Iterator[dict[str, Any]]:
    if verdict.role == REDUNDANT:
        yield {**_head(verdict), "role": REDUNDANT, "reason": verdict.reason}


def _claims(
    evidence: Evidence, behaviour: BehaviourEvidence, verdict: Verdict
) -> Iterator[dict[str, Any]]:
    for claim in verdict.claims:
        common = {
            **_head(verdict),
            "role": claim.role,
            "strength": claim.strength,
            "reason": claim.reason,
        }
        if claim.relation is None:
            yield {**common, **_behaviour(behaviour, claim, (verdict.layer, verdict.head))}
        else:
            yield {**common, **_relation(evidence, (verdict.layer, verdict.head, claim.relation))}


def _head(verdict: Verdict) -> dict[str, Any]:
    return {
        "layer": verdict.layer,
        "head": verdict.head,
        "name": head_name(verdict.layer, verdict.head),
    }


def _relation(evidence: Evidence, at: tuple[int, int, int]) -> dict[str, Any]:
    relation = evidence.relations[at[2]]
    numbers = (
        *("top1", "baseline_top1", "gain", "gain_low", "gain_high", "q"),
        *("category_top1", "category_gain", "category_gain_low"),
    )
    return {
        "family": relation.family,
        "relation": relation_name(relation),
        "looks_to": relation.looks_to,
        "n": int(evidence.n[at[2]]),
        "baseline": list(evidence.baselines)[int(evidence.baseline[at])],
        "held_out": float(evidence.gain_b[at]),
        "beats": BEATS[int(evidence.beats[at])],
        **{name: float(getattr(evidence, name)[at]) for name in numbers},
    }


def _behaviour(behaviour: BehaviourEvidence, claim: Claim, at: tuple[int, int]) -> dict[str, Any]:
    """The numbers of a role that rests on no relation; none of ``unnamed``."""
    if claim.role == POSITIONAL:
        positional = behaviour.positional
        return {
            "n": int(positional.rows[at]),
            "top1": float(positional.explained[at]),
            "baseline": "length",
            "baseline_top1": float(positional.by_length[at]),
            "gain": float(positional.gain[at]),
        }
    copying = {DUPLICATE: behaviour.duplicate, INDUCTION: behaviour.induction}
    return _copying(copying[claim.role], at) if claim.role in copying else {}


def _copying(copying: Copying, at: tuple[int, int]) -> dict[str, Any]:
    return {
        "n": copying.rows,
        "top1": float(copying.top1[at]),
        "baseline": "fixed_distance",
        "baseline_top1": copying.baseline,
        "gain": float(copying.gain[at]),
        "gain_low": float(copying.gain_low[at]),
    }
