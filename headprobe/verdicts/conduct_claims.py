"""The roles that are no matter of a relation of the probes (METHOD section 5)."""

import numpy as np

from headprobe.evidence.arrays import Bools, Floats
from headprobe.evidence.conduct import Conduct
from headprobe.verdicts.reasons import why_copying, why_positional, why_unnamed
from headprobe.verdicts.rules import DUPLICATE, INDUCTION, POSITIONAL, UNNAMED, Rules
from headprobe.verdicts.verdict import Claim

Seat = tuple[int, int]
"""Layer, head."""


def find_conduct_claims(conduct: Conduct, rules: Rules) -> dict[Seat, list[Claim]]:
    """The heads that follow distance alone, and those that copy.

    Strength is ``gain / (1 - baseline)``, as of relations: for positional heads what length of
    words leaves unexplained is the rest, for copying heads what the best fixed distance does.
    """
    claims: dict[Seat, list[Claim]] = {}
    found, rule = conduct.positional, rules.positional
    met = (found.explained > rule.explained) & (found.gain > rules.margin)
    met &= found.rows >= rule.min_rows
    for at in _seats(met):
        reason = why_positional(found, at)
        claims.setdefault(at, []).append(_claim(POSITIONAL, found.strength, reason, at))
    for role, copies, target in (
        (DUPLICATE, conduct.duplicate, "the earlier copy"),
        (INDUCTION, conduct.induction, "the token after the earlier copy"),
    ):
        copying = rules.copying
        for at in _seats((copies.gain_low > copying.margin) & (copies.mass >= copying.min_mass)):
            reason = why_copying(copies, target, at)
            claims.setdefault(at, []).append(_claim(role, copies.strength, reason, at))
    return claims


def find_unnamed(conduct: Conduct, rules: Rules) -> dict[Seat, Claim]:
    """Heads that repeat something beyond distance and part of speech, whatever else they are; their
    strength is the share of attention that it moves."""
    found, rule = conduct.agreement, rules.unnamed
    met = (found.agreement_low >= rule.agreement) & (found.moved >= rule.moved)
    return {at: _claim(UNNAMED, found.moved, why_unnamed(found, at), at) for at in _seats(met)}


def _seats(met: Bools) -> list[Seat]:
    return [(int(layer), int(head)) for layer, head in np.argwhere(met)]


def _claim(role: str, strength: Floats, reason: str, at: Seat) -> Claim:
    return Claim(role, None, float(strength[at]), reason)
