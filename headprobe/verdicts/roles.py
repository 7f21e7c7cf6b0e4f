"""From evidence to names: which roles each head has earned, and why (METHOD section 5)."""

from collections.abc import Sequence

import numpy as np

from headprobe.axes import head_name
from headprobe.evidence.evidence import Evidence, Shape
from headprobe.store.tallies import Tallies
from headprobe.verdicts.reasons import describe, why_idle, why_none, why_repeater
from headprobe.verdicts.redundancy import find_clusters, find_idle, find_likeness, find_pairs
from headprobe.verdicts.requirements import Requirement, belongs, requirements, writes_it_too
from headprobe.verdicts.rules import Rules
from headprobe.verdicts.verdict import Claim, Pair, Verdict


def judge(
    evidence: Evidence, shape: Shape, tallies: Tallies, kv_heads: int, rules: Rules
) -> tuple[list[Verdict], list[Pair]]:
    """A verdict for each head, by layer and head, and the pairs that are alike.

    ``kv_heads`` is the number of key/value heads of a layer.
    """
    layers, heads = shape.output_norm.shape
    asked = requirements(evidence, rules)
    claims = find_claims(evidence, rules, asked)
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
            role, reason = "redundant", why_idle(shape, layer, head)
        elif repeats:
            role, reason = "redundant", why_repeater(likeness, number, leader, heads)
        elif earned:
            role, reason = _strongest(earned, rules.mixed)
        else:
            relation = best[number]
            at = None if relation is None else (layer, head, relation)
            role, reason = "none", why_none(evidence, rules, asked, at)
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
                best_relation=earned[0].relation if earned else best[number],
            )
        )
    return verdicts, find_pairs(likeness, heads, rules.repeater)


def find_claims(
    evidence: Evidence, rules: Rules, asked: Sequence[Requirement]
) -> list[tuple[Claim, ...]]:
    """For each head [N] the roles it has earned, strongest first, each by the strongest relation
    that meets all that is ``asked``."""
    layers, heads, _ = evidence.gain.shape
    passed = np.logical_and.reduce([requirement.met for requirement in asked])
    written = writes_it_too(evidence)
    claims: list[list[Claim]] = [[] for _ in range(layers * heads)]
    for role, rule in rules.roles.items():
        earning = np.array([belongs(relation, rule) for relation in evidence.relations], dtype=bool)
        met = passed & earning
        if rule.norm_above_habit:
            met &= written.met
        strength = np.where(met, evidence.strength, -np.inf)
        for layer, head in np.argwhere(met.any(-1)).tolist():
            relation = int(strength[layer, head].argmax())
            at = (layer, head, relation)
            reason = describe(evidence, at)
            if rule.norm_above_habit:
                reason += f", {written.shortfall(at)}"
            claim = Claim(role, relation, float(evidence.strength[at]), reason)
            claims[layer * heads + head].append(claim)
    return [tuple(sorted(each, key=lambda claim: -claim.strength)) for each in claims]


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
    near = [claim for claim in claims if claim.strength >= (1 - mixed) * claims[0].strength]
    if len(near) == 1:
        return claims[0].role, claims[0].reason
    return "mixed", "; ".join(f"{claim.role} by {claim.reason}" for claim in near)
