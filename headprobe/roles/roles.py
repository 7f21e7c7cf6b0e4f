"""From evidence to names: which roles each head has earned, and why (docs/method.md, Roles).

The roles that are no matter of a relation of the probes (docs/method.md, Roles).
"""

from collections.abc import Mapping, Sequence

import numpy as np

from headprobe.analysis.behaviour import BehaviourEvidence
from headprobe.analysis.evidence import Bools, Evidence, Floats, HeadStatistics
from headprobe.roles.reasons import (
    why_copying,
    why_earned,
    why_idle,
    why_none,
    why_positional,
    why_repeater,
    why_unnamed,
)
from headprobe.roles.redundancy import find_clusters, find_idle, find_pairs, find_similarity
from headprobe.roles.requirements import Requirement, requirements, role_applies, role_requirements
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

HeadIndex = tuple[int, int]
"""Layer, head."""


def find_behaviour_claims(
    behaviour: BehaviourEvidence, rules: Rules
) -> dict[HeadIndex, list[Claim]]:
    """The heads that follow distance alone, and those that copy.

    Strength is ``gain / (1 - baseline)``, as of relations: for positional heads what length of
    words leaves unexplained is the rest, for copying heads what the best fixed distance does.
    """
    claims: dict[HeadIndex, list[Claim]] = {}
    positional, rule = behaviour.positional, rules.positional
    met = (positional.explained > rule.explained) & (positional.gain > rules.margin)
    met &= positional.rows >= rule.min_rows
    for at in _head_indices(met):
        reason = why_positional(positional, at)
        claims.setdefault(at, []).append(_claim(POSITIONAL, positional.strength, reason, at))
    for role, copies, target in (
        (DUPLICATE, behaviour.duplicate, "the earlier copy"),
        (INDUCTION, behaviour.induction, "the token after the earlier copy"),
    ):
        copying = rules.copying
        for at in _head_indices(
            (copies.gain_low > copying.margin) & (copies.mass >= copying.min_mass)
        ):
            reason = why_copying(copies, target, at)
            claims.setdefault(at, []).append(_claim(role, copies.strength, reason, at))
    return claims


def find_unnamed(behaviour: BehaviourEvidence, rules: Rules) -> dict[HeadIndex, Claim]:
    """Heads that repeat something beyond distance and part of speech, whatever else they are; their
    strength is the share of attention that it moves."""
    found, rule = behaviour.agreement, rules.unnamed
    met = (found.agreement_low >= rule.agreement) & (found.moved >= rule.moved)
    return {
        at: _claim(UNNAMED, found.moved, why_unnamed(found, at), at) for at in _head_indices(met)
    }


def _head_indices(met: Bools) -> list[HeadIndex]:
    return [(int(layer), int(head)) for layer, head in np.argwhere(met)]


def _claim(role: str, strength: Floats, reason: str, at: HeadIndex) -> Claim:
    return Claim(role, None, float(strength[at]), reason)


def judge(
    evidence: Evidence,
    statistics: HeadStatistics,
    behaviour: BehaviourEvidence,
    tallies: Tallies,
    kv_heads: int,
    rules: Rules,
) -> tuple[list[Verdict], list[Pair]]:
    """A verdict for each head, by layer and head, and the pairs that are alike.

    ``kv_heads`` is the number of key/value heads of a layer.
    """
    layers, heads = statistics.output_norm.shape
    general = requirements(evidence, rules)
    by_behaviour = find_behaviour_claims(behaviour, rules)
    claims = _ordered(find_claims(evidence, rules, general), by_behaviour, heads)
    unnamed = find_unnamed(behaviour, rules)
    idle = find_idle(statistics, rules.idle)
    similarity = find_similarity(tallies, idle, heads // kv_heads, rules.repeater)
    clusters = find_clusters(similarity)
    leaders = {
        member: (number, max(cluster, key=lambda head: _rank(head, claims, statistics)))
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
            role, reason = REDUNDANT, why_idle(statistics, layer, head)
        elif repeats:
            role, reason = REDUNDANT, why_repeater(similarity, number, leader, heads)
        elif earned:
            role, reason = _strongest(earned, rules.mixed)
        elif (layer, head) in unnamed:
            earned = (unnamed[layer, head],)
            role, reason = earned[0].role, earned[0].reason
        else:
            relation = best[number]
            at = None if relation is None else (layer, head, relation)
            role, reason = NONE, why_none(evidence, rules, general, at)
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
    return verdicts, find_pairs(similarity, heads, rules.repeater)


def find_claims(
    evidence: Evidence, rules: Rules, general: Sequence[Requirement]
) -> list[list[Claim]]:
    """For each head [N] the roles it has earned by relations, each by the strongest one that meets
    all that is ``general``; roles of one relation before those of a whole family."""
    layers, heads, _ = evidence.gain.shape
    claims: list[list[Claim]] = [[] for _ in range(layers * heads)]
    for role, rule in sorted(rules.roles.items(), key=lambda each: not each[1].relation):
        earning = np.array(
            [role_applies(relation, rule) for relation in evidence.relations], dtype=bool
        )
        needs = [requirement.met for requirement in (*general, *role_requirements(evidence, rule))]
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


def _rank(
    number: int, claims: list[tuple[Claim, ...]], statistics: HeadStatistics
) -> tuple[float, float, int]:
    """The stronger of repeaters: by its best role, then the louder one, then the earlier."""
    strength = claims[number][0].strength if claims[number] else -1.0
    return strength, float(np.nan_to_num(statistics.output_norm).flat[number]), -number


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
