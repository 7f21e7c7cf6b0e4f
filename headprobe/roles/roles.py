"""From evidence to names: which roles each head has earned, and why (METHOD section 5).

The roles that are no matter of a relation of the probes (METHOD section 5).
"""

from collections.abc import Mapping, Sequence

import numpy as np

from headprobe.analysis.behaviour import Conduct
from headprobe.analysis.evidence import Bools, Evidence, Floats, Shape
from headprobe.roles.reasons import (
    why_copying,
    why_earned,
    why_idle,
    why_none,
    why_positional,
    why_repeater,
    why_unnamed,
)
from headprobe.roles.redundancy import find_clusters, find_idle, find_likeness, find_pairs
from headprobe.roles.requirements import Requirement, belongs, beyond, requirements
from headprobe.roles.rules import Rules
from headprobe.roles.verdict import Claim, Pair, Verdict
from headprobe.runs.sums import Tallies
from headprobe.vocabulary import (
    DUPLICATE,
    INDUCTION,
    MIXED,
    NONE,
    POSITIONAL,
    REDUNDANT,
    UNNAMED,
    head_name,
)

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


def judge(
    evidence: Evidence,
    shape: Shape,
    conduct: Conduct,
    tallies: Tallies,
    kv_heads: int,
    rules: Rules,
) -> tuple[list[Verdict], list[Pair]]:
    """A verdict for each head, by layer and head, and the pairs that are alike.

    ``kv_heads`` is the number of key/value heads of a layer.
    """
    layers, heads = shape.output_norm.shape
    asked = requirements(evidence, rules)
    by_conduct = find_conduct_claims(conduct, rules)
    claims = _ordered(find_claims(evidence, rules, asked), by_conduct, heads)
    unnamed = find_unnamed(conduct, rules)
    idle = find_idle(shape, rules.idle)
    likeness = find_likeness(tallies, idle, heads // kv_heads, rules.repeater)
    clusters = find_clusters(likeness)
    leaders = {
        member: (number, max(cluster, key=lambda head: _rank(head, claims, shape)))
        for number, cluster in enumerate(clusters, start=1)
        for member in cluster
    }
    best = _best_relations(evidence, rules)
    verdicts = []
    for number in range(layers * heads):
        layer, head = divmod(number, heads)
        earned = claims[number]
        cluster, leader = leaders.get(number, (None, number))
        repeats = leader != number
        if idle[layer, head]:
            role, reason = REDUNDANT, why_idle(shape, layer, head)
        elif repeats:
            role, reason = REDUNDANT, why_repeater(likeness, number, leader, heads)
        elif earned:
            role, reason = _strongest(earned, rules.mixed)
        elif (layer, head) in unnamed:
            earned = (unnamed[layer, head],)
            role, reason = earned[0].role, earned[0].reason
        else:
            relation = best[number]
            at = None if relation is None else (layer, head, relation)
            role, reason = NONE, why_none(evidence, rules, asked, at)
        named = [claim.relation for claim in earned if claim.relation is not None]
        verdicts.append(
            Verdict(
                layer=layer,
                head=head,
                role=role,
                claims=earned,
                strength=earned[0].strength if earned else None,
                reason=reason,
                idle=bool(idle[layer, head]),
                repeater_of=head_name(*divmod(leader, heads)) if repeats else None,
                cluster=cluster,
                best_relation=named[0] if named else best[number],
            )
        )
    return verdicts, find_pairs(likeness, heads, rules.repeater)


def find_claims(
    evidence: Evidence, rules: Rules, asked: Sequence[Requirement]
) -> list[list[Claim]]:
    """For each head [N] the roles it has earned by relations, each by the strongest one that meets
    all that is ``asked``; roles of one relation before those of a whole family."""
    layers, heads, _ = evidence.gain.shape
    claims: list[list[Claim]] = [[] for _ in range(layers * heads)]
    for role, rule in sorted(rules.roles.items(), key=lambda each: not each[1].relation):
        earning = np.array([belongs(relation, rule) for relation in evidence.relations], dtype=bool)
        needs = [requirement.met for requirement in (*asked, *beyond(evidence, rule))]
        met = np.logical_and.reduce(needs) & earning
        strength = np.where(met, evidence.strength, -np.inf)
        for layer, head in np.argwhere(met.any(-1)).tolist():
            relation = int(strength[layer, head].argmax())
            at = (layer, head, relation)
            reason = why_earned(evidence, at, rule.norm_above_habit)
            claim = Claim(role, relation, float(evidence.strength[at]), reason)
            claims[layer * heads + head].append(claim)
    return claims


def _ordered(
    claims: list[list[Claim]], conduct: Mapping[tuple[int, int], list[Claim]], heads: int
) -> list[tuple[Claim, ...]]:
    """All claims of each head [N], strongest first; that it is positional comes last, for it says
    how the head looks in most rows, and must not hide what it looks for in some."""
    return [
        tuple(
            sorted(
                [*found, *conduct.get(divmod(number, heads), [])],
                key=lambda claim: (claim.role == POSITIONAL, -claim.strength),
            )
        )
        for number, found in enumerate(claims)
    ]


def _best_relations(evidence: Evidence, rules: Rules) -> list[int | None]:
    """For each head [N] the relation with the highest gain_low, if any has enough instances."""
    usable = (evidence.n >= rules.min_n) & ~np.isnan(evidence.gain_low)
    lows = np.where(usable, evidence.gain_low, -np.inf)
    return [
        int(row.argmax()) if row.max(initial=-np.inf) > -np.inf else None
        for of_layer in lows
        for row in of_layer
    ]


def _rank(number: int, claims: list[tuple[Claim, ...]], shape: Shape) -> tuple[float, float, int]:
    """The stronger of repeaters: by its best role, then the louder one, then the earlier."""
    strength = claims[number][0].strength if claims[number] else -1.0
    return strength, float(np.nan_to_num(shape.output_norm).flat[number]), -number


def _strongest(claims: tuple[Claim, ...], mixed: float) -> tuple[str, str]:
    """The role and its reason; claims near the strongest one, but for positional and for other
    names of the same finding, make it mixed."""
    first, line = claims[0], (1 - mixed) * claims[0].strength
    near = [
        claim
        for claim in claims[1:]
        if claim.strength >= line
        and claim.role != POSITIONAL
        and (claim.relation is None or claim.relation != first.relation)
    ]
    if not near:
        return first.role, first.reason
    near = [first, *near]
    return MIXED, "; ".join(f"{claim.role} by {claim.reason}" for claim in near)
