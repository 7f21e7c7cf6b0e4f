"""What a relation must show before a head may be named for it (METHOD section 4)."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from headprobe.evidence.arrays import Bools
from headprobe.evidence.evidence import Evidence
from headprobe.store.relation import Relation
from headprobe.verdicts.rules import RoleRule, Rules

Seat = tuple[int, int, int]
"""Layer, head, relation."""


@dataclass(frozen=True)
class Requirement:
    """``met`` [L, H, R], NaN never meeting it, and for one head and relation what is missing."""

    met: Bools
    shortfall: Callable[[Seat], str]


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
            lambda _: f"lower end not above {rules.margin:.2f}",
        ),
        Requirement(
            (evidence.gain_a > 0) & (evidence.gain_b > 0),
            lambda at: f"halves {evidence.gain_a[at]:.2f} and {evidence.gain_b[at]:.2f}",
        ),
        Requirement(evidence.q <= rules.max_q, lambda _: f"q above {rules.max_q:g}"),
        Requirement(
            evidence.mass >= rules.min_mass,
            lambda at: f"mass {evidence.mass[at]:.3f} below {rules.min_mass:g}",
        ),
        Requirement(
            np.broadcast_to(~few_forms | enough_forms, shape),
            lambda at: f"only {evidence.forms[at[2]]} target forms",
        ),
        Requirement(
            ~few_forms | (evidence.gain_without_form > rules.margin),
            lambda at: f"gain {evidence.gain_without_form[at]:.2f} with one form fold left out",
        ),
    )


def belongs(relation: Relation, rule: RoleRule) -> bool:
    """Whether a relation can earn a role."""
    return relation.family == rule.family and (relation.strict or not rule.strict)


def writes_it_too(evidence: Evidence) -> Requirement:
    """What reaches the output, not the attention alone, favours the targets more than by habit."""
    written, expected = evidence.share_norm, evidence.habit_share
    return Requirement(
        written > expected,
        lambda at: f"share_norm {written[at]:.2f} against habit_share {expected[at]:.2f}",
    )
