"""What a relation must show before a head may be named for it (docs/method.md)."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from headprobe.analysis.evidence import BEATS, Bools, Evidence
from headprobe.format import fraction, relation_name, small
from headprobe.roles.rules import RoleRule, Rules
from headprobe.vocabulary import Relation

RelationIndex = tuple[int, int, int]
"""Layer, head, relation."""


@dataclass(frozen=True)
class Requirement:
    """``met`` [L, H, R], NaN never meeting it, and for one head and relation what is missing."""

    met: Bools
    shortfall: Callable[[RelationIndex], str]


def requirements(evidence: Evidence, rules: Rules) -> tuple[Requirement, ...]:
    """All that section 4 asks of a relation, whatever the role."""
    few_forms = evidence.form_folds < rules.min_form_folds
    enough_forms = evidence.forms >= rules.min_forms
    shape = evidence.gain.shape
    return (
        Requirement(
            np.broadcast_to(evidence.n >= rules.min_n, shape),
            lambda _: f"n below {rules.min_n}",
        ),
        Requirement(
            evidence.gain_low > rules.margin,
            lambda _: f"lower end not above {fraction(rules.margin)}",
        ),
        Requirement(
            (evidence.gain_a > 0) & (evidence.gain_b > 0),
            lambda at: (
                f"halves {fraction(evidence.gain_a[at])} and {fraction(evidence.gain_b[at])}"
            ),
        ),
        Requirement(evidence.q <= rules.max_q, lambda _: f"q above {small(rules.max_q)}"),
        Requirement(
            evidence.mass >= rules.min_mass,
            lambda at: f"mass {small(evidence.mass[at])} below {small(rules.min_mass)}",
        ),
        Requirement(
            np.broadcast_to(~few_forms | enough_forms, shape),
            lambda at: f"only {evidence.forms[at[2]]} target forms",
        ),
        Requirement(
            ~few_forms | (evidence.gain_without_form > rules.margin),
            lambda at: (
                f"gain {fraction(evidence.gain_without_form[at])} with one form fold left out"
            ),
        ),
    )


def role_applies(relation: Relation, rule: RoleRule) -> bool:
    """Whether a relation can earn a role."""
    named = rule.relation in ("", relation_name(relation))
    return relation.family == rule.family and named and (relation.strict or not rule.strict)


def role_requirements(evidence: Evidence, rule: RoleRule) -> tuple[Requirement, ...]:
    """What a role asks of its relations on top of section 4."""
    beaten = evidence.beats >= BEATS.index(rule.beats)
    needed = [Requirement(beaten, lambda _: f"does not beat {rule.beats}")]
    if rule.norm_above_habit:
        needed.append(norm_requirement(evidence))
    return tuple(needed)


def norm_requirement(evidence: Evidence) -> Requirement:
    """What reaches the output, not the attention alone, favours the targets more than by habit."""
    written, expected = evidence.share_norm, evidence.habit_share
    return Requirement(
        written > expected,
        lambda at: (
            f"share_norm {fraction(written[at])} against habit_share {fraction(expected[at])}"
        ),
    )
