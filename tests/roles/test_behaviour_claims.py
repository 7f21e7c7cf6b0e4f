"""Roles that need no relation: their thresholds, and their order among other roles."""

from dataclasses import replace

import numpy as np
import pytest

from headprobe.roles.roles import judge
from headprobe.roles.rules import Rules, load_rules
from headprobe.roles.verdict import Verdict
from tests.helpers.verdicts import (
    NOUNS,
    OBJ,
    RELATIONS,
    STRICT,
    conduct_of,
    evidence_for,
    pairs_of,
)
from tests.helpers.verdicts import shape_of as shape

SEAT = (1, 0)
POSITIONAL = {"explained": 0.95}
DUPLICATE = {"duplicate_gain_low": 0.5}
UNNAMED = {"agreement_low": 0.5, "moved": 0.08}


@pytest.fixture(scope="module")
def rules() -> Rules:
    return load_rules()


def verdict_of(
    rules: Rules, conduct: dict, relations: tuple = (), loud: float = 1.1, **changes: object
) -> Verdict:
    high = np.full((2, 2, 2), 1.1)
    high[:, 1, 0] = loud
    found = evidence_for({SEAT: list(relations)}, **changes)
    statistics = shape(high, 0.2 if loud > 1 else 0.01)
    verdicts, _ = judge(found, statistics, conduct_of(**conduct), pairs_of(4, {}), 2, rules)
    others = [each for each in verdicts if (each.layer, each.head) != SEAT]
    assert all(each.role == "none" and not each.claims for each in others)
    return next(each for each in verdicts if (each.layer, each.head) == SEAT)


@pytest.mark.parametrize(
    ("conduct", "role", "strength"),
    [
        (POSITIONAL, "positional", 0.9 / 0.95),
        (DUPLICATE, "duplicate-token", 0.54 / 0.94),
        ({"induction_gain_low": 0.5}, "induction", 0.54 / 0.94),
        (UNNAMED, "unnamed", 0.08),
    ],
)
def test_a_head_above_the_thresholds_earns_the_role(
    rules: Rules, conduct: dict, role: str, strength: float
) -> None:
    found = verdict_of(rules, conduct)
    assert found.role == role and found.roles == (role,)
    assert found.claims[0].relation is None
    assert found.strength == pytest.approx(strength)
    assert "\n" not in found.reason


def test_the_reason_gives_the_numbers(rules: Rules) -> None:
    assert verdict_of(rules, POSITIONAL).reason == (
        "its mean attention at each distance chooses the word it looks at most in .95 of 2,048 "
        "rows (.05 by numbers of tokens alone)"
    )
    assert verdict_of(rules, DUPLICATE).reason == (
        "repeated random tokens: the earlier copy gets most in .60 of 564 rows against .06 at a "
        "fixed distance, gain +.54, at least +.50, mass .70"
    )
    assert verdict_of(rules, UNNAMED).reason == (
        "beyond distance and part of speech it attends more from object (obj) to root (+.12), "
        "from subject (nsubj) to root (+.05); agreement .60, at least .50, across documents and "
        "forms, moves .08 of its attention"
    )


@pytest.mark.parametrize(
    "conduct",
    [
        {"explained": 0.90},
        {"explained": 0.95, "by_length": 0.86},
        {"explained": 0.95, "rows": 199},
        {"explained": np.nan},
        {"duplicate_gain_low": 0.20},
        {"duplicate_gain_low": np.nan},
        {"induction_gain_low": 0.5, "induction_mass": 0.09},
        {"agreement_low": 0.29, "moved": 0.08},
        {"agreement_low": 0.5, "moved": 0.029},
        {"agreement_low": np.nan, "moved": 0.08},
    ],
)
def test_a_number_at_its_threshold_prevents_the_role(rules: Rules, conduct: dict) -> None:
    assert verdict_of(rules, conduct).role == "none"


def test_positional_comes_last_among_roles(rules: Rules) -> None:
    """However strong, it does not make a head mixed."""
    found = verdict_of(rules, POSITIONAL, (OBJ,))
    assert found.role == "syntax" and found.roles == ("syntax", "positional")
    assert found.strength == pytest.approx(0.4 / 0.6)
    both = verdict_of(rules, POSITIONAL | DUPLICATE)
    assert both.roles == ("duplicate-token", "positional") and both.role == "duplicate-token"


def test_copying_can_make_a_head_mixed(rules: Rules) -> None:
    found = verdict_of(rules, {"duplicate_gain_low": 0.6}, (OBJ,))
    assert found.role == "mixed" and found.roles == ("duplicate-token", "syntax")
    assert (
        "syntax by object → its verb (obj)" in found.reason and "duplicate-token by" in found.reason
    )
    assert found.best_relation == RELATIONS.index(OBJ)
    far = verdict_of(rules, {"duplicate_gain_low": 0.85}, (OBJ,))
    assert far.role == "duplicate-token" and far.roles == ("duplicate-token", "syntax")


def test_unnamed_is_for_heads_without_another_name(rules: Rules) -> None:
    assert verdict_of(rules, UNNAMED, (OBJ,)).roles == ("syntax",)
    assert verdict_of(rules, UNNAMED | POSITIONAL).roles == ("positional",)
    asleep = verdict_of(rules, UNNAMED, loud=0.1)
    assert asleep.role == "redundant" and not asleep.claims
    missed = verdict_of(rules, UNNAMED, (STRICT,), beats=1)
    assert missed.role == "unnamed" and missed.best_relation == RELATIONS.index(STRICT)


def test_a_word_class_is_the_role_only_of_heads_without_another(rules: Rules) -> None:
    alone = verdict_of(rules, {}, (NOUNS,), beats=1)
    assert alone.role == "word-class" and alone.roles == ("word-class",)
    assert alone.reason.startswith("any noun: top1 .80")
    assert alone.reason.endswith("beats distance, share_norm .60 against habit_share .30")
    assert alone.best_relation == RELATIONS.index(NOUNS)
    assert verdict_of(rules, {}, (NOUNS,), share_norm=0.2).role == "none"
    # as strong as the other roles, and yet neither before them nor a reason for `mixed`
    assert verdict_of(rules, {}, (NOUNS, OBJ)).roles == ("syntax", "word-class")
    assert verdict_of(rules, {}, (NOUNS, OBJ)).role == "syntax"
    for conduct, role in ((POSITIONAL, "positional"), (UNNAMED, "unnamed")):
        found = verdict_of(rules, conduct, (NOUNS,))
        assert found.role == role and found.roles == (role, "word-class")
    asleep = verdict_of(rules, UNNAMED, (NOUNS,), loud=0.1)
    assert asleep.role == "redundant" and asleep.roles == ("redundant", "word-class")


def test_a_repeater_is_redundant_rather_than_unnamed(rules: Rules) -> None:
    tallies = pairs_of(4, {(0, 2): (0.97, 0.95)})
    quiet = shape(norm=[[2.0, 1.0], [1.0, 1.0]])
    verdicts, _ = judge(evidence_for({}), quiet, conduct_of(**UNNAMED), tallies, 2, rules)
    assert verdicts[2].role == "redundant" and verdicts[2].repeater_of == "L0H0"
    assert not verdicts[2].claims


def test_stricter_rules_remove_each_role(rules: Rules) -> None:
    strict = replace(
        rules,
        positional=replace(rules.positional, explained=0.96),
        copying=replace(rules.copying, margin=0.6),
        unnamed=replace(rules.unnamed, moved=0.1),
    )
    for conduct in (POSITIONAL, DUPLICATE, UNNAMED):
        assert verdict_of(strict, conduct).role == "none"
