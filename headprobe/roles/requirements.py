"""The requirements that a head must meet on a relation to earn a role (docs/method.md, Roles)."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from headprobe.analysis.evidence import BEATS, Evidence
from headprobe.arrays import Bools
from headprobe.format import fraction, ratio, relation_name, small
from headprobe.roles.rules import RoleRule, Rules
from headprobe.vocabulary import Relation

RelationIndex = tuple[int, int, int]
"""Layer, head, relation."""


@dataclass(frozen=True)
class Requirement:
    """One requirement, evaluated for every head and relation."""

    met: Bools
    """[L, H, R]: whether the requirement is met; False where its number is NaN."""
    shortfall: Callable[[RelationIndex], str]
    """Says for one head and relation what is missing."""


def general_requirements(evidence: Evidence, rules: Rules) -> tuple[Requirement, ...]:
    """Return the requirements of every role, in the order in which reasons name them."""
    barred, one_by_one = (
        np.array([rule == name for rule in evidence.form_rule], dtype=np.bool_)
        for name in ("barred", "leave one out")
    )
    enough_forms = evidence.forms >= rules.min_forms
    share_gain = evidence.share - evidence.distance_share
    shape = evidence.gain.shape
    return (
        Requirement(
            np.broadcast_to(evidence.n >= rules.min_n, shape),
            lambda _: f"n below {rules.min_n}",
        ),
        Requirement(
            np.broadcast_to(~_lacks_twins(evidence), shape),
            lambda _: "its passages have no twins with unrelated words",
        ),
        Requirement(
            evidence.gain_low > rules.margin,
            lambda _: f"lower end not above {fraction(rules.margin)}",
        ),
        Requirement(
            (evidence.gain_a > 0) & (evidence.gain_b > 0),
            lambda at: (
                f"gains of the two halves of the documents ({fraction(evidence.gain_a[at])} and "
                f"{fraction(evidence.gain_b[at])}) not both above 0"
            ),
        ),
        Requirement(evidence.q <= rules.max_q, lambda _: f"q above {small(rules.max_q)}"),
        Requirement(
            evidence.mass >= rules.min_mass,
            lambda at: f"mass {small(evidence.mass[at])} below {small(rules.min_mass)}",
        ),
        Requirement(
            evidence.lift_low >= rules.min_lift,
            lambda at: (
                f"lift {ratio(evidence.lift[at])}, at least {ratio(evidence.lift_low[at])}, "
                f"not surely {ratio(rules.min_lift)}"
            ),
        ),
        Requirement(
            share_gain >= rules.min_share_gain,
            lambda at: (
                f"share {fraction(evidence.share[at])} against "
                f"{fraction(evidence.distance_share[at])} by distance, "
                f"not {small(rules.min_share_gain)} more"
            ),
        ),
        Requirement(
            np.broadcast_to(~barred, shape),
            lambda at: (
                f"only {small(evidence.form_folds[at[2]])} effective form folds of the "
                f"{small(rules.min_form_folds)} needed"
            ),
        ),
        Requirement(
            np.broadcast_to(~one_by_one | enough_forms, shape),
            lambda at: f"only {evidence.forms[at[2]]} target forms of the {rules.min_forms} needed",
        ),
        Requirement(
            ~one_by_one | (evidence.gain_without_form > rules.margin),
            lambda at: (
                f"gain {fraction(evidence.gain_without_form[at])} with one form left out, "
                f"not above {fraction(rules.margin)}"
            ),
        ),
        Requirement(
            ~one_by_one | (evidence.lift_without_form >= rules.min_lift),
            lambda at: (
                f"lift {ratio(evidence.lift_without_form[at])} with one form left out, "
                f"below {ratio(rules.min_lift)}"
            ),
        ),
    )


def _lacks_twins(evidence: Evidence) -> Bools:
    """[R]: whether a relation is semantic and no passage has a twin."""
    semantic = np.array([relation.family == "semantic" for relation in evidence.relations], bool)
    swap = evidence.baselines.get("swap")
    return semantic if swap is None else semantic & np.isnan(swap).all((0, 1))


def role_applies(relation: Relation, rule: RoleRule) -> bool:
    """Return whether a relation can earn a role."""
    named = rule.relation in ("", relation_name(relation))
    return relation.family == rule.family and named and (relation.strict or not rule.strict)


def role_requirements(evidence: Evidence, rule: RoleRule) -> tuple[Requirement, ...]:
    """Return the requirements of one role beyond the general ones."""
    beaten = evidence.beats >= BEATS.index(rule.beats)
    requirements = [Requirement(beaten, lambda _: f"does not beat {rule.beats}")]
    if rule.norm_above_habit:
        requirements.append(_norm_requirement(evidence))
    return tuple(requirements)


def _norm_requirement(evidence: Evidence) -> Requirement:
    """The targets must get more norm-weighted attention than the head's habit by distance predicts.

    Weights by norm say what reaches the output: attention to words with small value vectors does
    little.
    """
    share, expected = evidence.share_norm, evidence.habit_share
    return Requirement(
        share > expected,
        lambda at: (
            f"share_norm {fraction(share[at])} not above habit_share {fraction(expected[at])}"
        ),
    )
