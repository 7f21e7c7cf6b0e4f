"""Verdicts: the roles that each head has earned, from the evidence and the rules.

1. Roles earned by relations: ``find_claims``.
2. Roles that need no relation: ``find_behaviour_claims`` (positional, duplicate-token, induction),
   and ``find_unnamed`` for heads without any other role but secondary ones.
3. Idle heads and repeaters become ``redundant`` and keep their claims; heads with several claims of
   nearly equal strength become ``mixed`` (``judge``).

docs/method.md, Roles, gives the rules.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from headprobe.analysis.behaviour import BehaviourEvidence
from headprobe.analysis.evidence import Evidence, HeadStatistics
from headprobe.arrays import Bools, Floats
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
from headprobe.roles.requirements import (
    Requirement,
    general_requirements,
    role_applies,
    role_requirements,
)
from headprobe.roles.rules import Rules
from headprobe.roles.verdict import AFTER_FIRST, FIRST, LAST, Claim, Pair, Verdict
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
    """Return the claims of positional heads and of heads that copy, by (layer, head).

    Their strength is ``gain / (1 - baseline)``, as for relations. The baseline is what the length
    of words explains for positional heads, and the best fixed distance for copying heads.
    """
    claims: dict[HeadIndex, list[Claim]] = {}
    positional, rule = behaviour.positional, rules.positional
    met = (positional.explained > rule.explained) & (positional.gain > rules.margin)
    met &= positional.rows >= rule.min_rows
    for at in _head_indices(met):
        reason = why_positional(positional, at)
        claim = replace(_claim(POSITIONAL, positional.strength, reason, at), place=AFTER_FIRST)
        claims.setdefault(at, []).append(claim)
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
    """Return the claims of heads with regular attention beyond distance and part of speech.

    The result does not depend on the other roles of these heads. The strength of a claim is the
    share of attention that dependency labels move.
    """
    agreement, rule = behaviour.agreement, rules.unnamed
    met = (agreement.agreement_low >= rule.agreement) & (agreement.moved >= rule.moved)
    return {
        at: _claim(UNNAMED, agreement.moved, why_unnamed(agreement, at), at)
        for at in _head_indices(met)
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
    """Return the verdicts, ordered by layer and head, and the pairs that repeat or oppose.

    ``kv_heads`` is the number of key/value heads of a layer.
    """
    layers, heads = statistics.output_norm.shape
    general = general_requirements(evidence, rules)
    behaviour_claims = find_behaviour_claims(behaviour, rules)
    claims = _join_claims(find_claims(evidence, rules, general), behaviour_claims, heads)
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
        is_repeater = leader != number
        without_other = all(claim.place == LAST for claim in earned)
        if idle[layer, head]:
            role, reason = REDUNDANT, why_idle(statistics, layer, head)
        elif is_repeater:
            role, reason = REDUNDANT, why_repeater(similarity, number, leader, heads)
        elif without_other and (layer, head) in unnamed:
            earned = (unnamed[layer, head], *earned)
            role, reason = earned[0].role, earned[0].reason
        elif earned:
            role, reason = _choose_role(earned, rules.mixed)
        else:
            relation = best[number]
            at = None if relation is None else (layer, head, relation)
            role, reason = NONE, why_none(evidence, rules, general, at)
        claimed = [claim.relation for claim in earned if claim.relation is not None]
        verdicts.append(
            Verdict(
                layer=layer,
                head=head,
                role=role,
                claims=earned,
                strength=earned[0].strength if earned else None,
                reason=reason,
                idle=bool(idle[layer, head]),
                repeater_of=head_name(*divmod(leader, heads)) if is_repeater else None,
                cluster=cluster,
                best_relation=claimed[0] if claimed else best[number],
            )
        )
    return verdicts, find_pairs(similarity, heads, rules.repeater)


def find_claims(
    evidence: Evidence, rules: Rules, general: Sequence[Requirement]
) -> list[list[Claim]]:
    """Return the roles that each head [N] has earned by relations.

    Each role rests on the strongest relation that meets the ``general`` requirements and those of
    the role. Roles of a single relation come before roles of a whole family.
    """
    layers, heads, _ = evidence.gain.shape
    claims: list[list[Claim]] = [[] for _ in range(layers * heads)]
    for role, rule in sorted(rules.roles.items(), key=lambda each: not each[1].relation):
        applies = np.array(
            [role_applies(relation, rule) for relation in evidence.relations], dtype=bool
        )
        requirements = (*general, *role_requirements(evidence, rule))
        met = np.logical_and.reduce([requirement.met for requirement in requirements]) & applies
        strength = np.where(met, evidence.strength, -np.inf)
        for layer, head in np.argwhere(met.any(-1)).tolist():
            relation = int(strength[layer, head].argmax())
            at = (layer, head, relation)
            reason = why_earned(evidence, at, rule.norm_above_habit)
            place = LAST if rule.secondary else FIRST
            claim = Claim(role, relation, float(evidence.strength[at]), reason, place)
            claims[layer * heads + head].append(claim)
    return claims


def _join_claims(
    relation_claims: list[list[Claim]],
    behaviour_claims: Mapping[HeadIndex, list[Claim]],
    heads: int,
) -> list[tuple[Claim, ...]]:
    """All claims of each head [N], by place, the strongest first."""
    return [
        tuple(
            sorted(
                [*claims, *behaviour_claims.get(divmod(number, heads), [])],
                key=lambda claim: (claim.place, -claim.strength),
            )
        )
        for number, claims in enumerate(relation_claims)
    ]


def _best_relations(evidence: Evidence, rules: Rules) -> list[int | None]:
    """For each head [N], the relation with the highest ``gain_low``; None where all have too few
    instances."""
    usable = (evidence.n >= rules.min_n) & ~np.isnan(evidence.gain_low)
    lows = np.where(usable, evidence.gain_low, -np.inf)
    return [
        int(row.argmax()) if row.max(initial=-np.inf) > -np.inf else None
        for layer in lows
        for row in layer
    ]


def _rank(
    number: int, claims: list[tuple[Claim, ...]], statistics: HeadStatistics
) -> tuple[float, float, int]:
    """Sort key of repeaters: the strength of the best role, then the output norm, then the order.

    The largest one keeps its role.
    """
    strength = claims[number][0].strength if claims[number] else -1.0
    return strength, float(np.nan_to_num(statistics.output_norm).flat[number]), -number


def _choose_role(claims: tuple[Claim, ...], mixed: float) -> tuple[str, str]:
    """The role of a head with ``claims``, and its reason.

    The role is ``mixed`` if the strength of a further claim is within the share ``mixed`` of the
    first. Claims that stand later do not count, nor does another role by the same relation.
    """
    first, least = claims[0], (1 - mixed) * claims[0].strength
    near = [
        claim
        for claim in claims[1:]
        if claim.strength >= least
        and claim.place == FIRST
        and (claim.relation is None or claim.relation != first.relation)
    ]
    if not near:
        return first.role, first.reason
    near = [first, *near]
    return MIXED, "; ".join(f"{claim.role} by {claim.reason}" for claim in near)
