"""Roles by relations: heads at the edge of each threshold, and conflicts between roles."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from headprobe.roles.roles import judge
from headprobe.roles.rules import RoleRule, Rules, load_rules
from headprobe.roles.verdict import Verdict
from tests.helpers.verdicts import (
    CUE,
    MARKS,
    NSUBJ,
    OBJ,
    PRONOUN,
    RELATIONS,
    STRICT,
    conduct_of,
    evidence_for,
    pairs_of,
)
from tests.helpers.verdicts import shape_of as shape

SEAT = (1, 0)


@pytest.fixture(scope="module")
def rules() -> Rules:
    return load_rules()


def verdict_of(rules: Rules, relations: list, **changes: object) -> Verdict:
    evidence = evidence_for({SEAT: relations}, **changes)
    verdicts, _ = judge(evidence, shape(), conduct_of(), pairs_of(4, {}), 2, rules)
    others = [each for each in verdicts if (each.layer, each.head) != SEAT]
    assert all(each.role == "none" and not each.claims for each in others)
    return next(each for each in verdicts if (each.layer, each.head) == SEAT)


@pytest.mark.parametrize(
    ("relation", "role"), [(OBJ, "syntax"), (STRICT, "coreference"), (MARKS, "punctuation")]
)
def test_a_head_that_meets_all_requirements_earns_the_role(
    rules: Rules, relation: object, role: str
) -> None:
    found = verdict_of(rules, [relation])
    assert found.role == role and found.roles == (role,)
    assert found.best_relation == RELATIONS.index(relation)
    assert found.strength == pytest.approx(0.4 / 0.6)


def test_the_reason_gives_the_evidence_on_one_line(rules: Rules) -> None:
    assert verdict_of(rules, [OBJ]).reason == (
        "object → its verb (obj): top1 .80 against .40 habit, gain +.40 [+.34 +.46], n 400, "
        "q <.001, beats category"
    )
    assert verdict_of(rules, [OBJ], beats=1).reason.endswith("q <.001, beats distance")
    assert verdict_of(rules, [STRICT]).reason.startswith(
        "pronoun → its antecedent (pronoun-strict): top1 .80"
    )
    assert verdict_of(rules, [MARKS]).reason.startswith("any mark: top1 .80")
    assert verdict_of(rules, [MARKS]).reason.endswith("share_norm .60 against habit_share .30")


FEW = {
    "form_rule": ("leave one out",) * len(RELATIONS),
    "few_forms": (("the", "a", "my"),) * len(RELATIONS),
    "gain_without_form": 0.11,
    "lift_without_form": 1.25,
}
"""Few forms, none of which does it alone."""


def test_a_claim_about_few_forms_lists_them(rules: Rules) -> None:
    assert verdict_of(rules, [OBJ], **FEW).reason.endswith("of “the” “a” “my” only")
    many = tuple(f"form{number}" for number in range(11))
    reason = verdict_of(rules, [OBJ], **{**FEW, "few_forms": (many,) * len(RELATIONS)}).reason
    assert reason.endswith("“form7” and 3 other forms only")


@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        ({"n": 49}, "no relation has 50 instances"),
        ({"gain_low": 0.10}, "lower end not above .10"),
        ({"gain_a": 0.0}, "halves of the documents (.00 and .39)"),
        ({"gain_b": -0.01}, "halves of the documents (.41 and -.01)"),
        ({"gain_b": np.nan}, "halves of the documents (.41 and nan)"),
        ({"q": 0.051}, "q above .05"),
        ({"q": np.nan}, "q above .05"),
        ({"mass": 0.049}, "mass .049 below .05"),
        (
            {**FEW, "forms": 2},
            "only 2 target forms of the 3 needed",
        ),
        (
            {**FEW, "gain_without_form": 0.1},
            "gain .10 with one form left out, not above .10",
        ),
        ({**FEW, "gain_without_form": np.nan}, "gain nan with one form left out"),
        ({**FEW, "lift_without_form": 1.2}, "lift 1.20 with one form left out, below 1.25"),
        (
            {"form_rule": ("barred",) * len(RELATIONS), "form_folds": 9.4},
            "only 9.40 effective form folds",
        ),
        ({"lift_low": 1.24}, "lift 4.00, at least 1.24, not surely 1.25"),
        ({"lift": np.nan, "lift_low": np.nan}, "lift –, at least –, not surely 1.25"),
        ({"distance_share": 0.46}, "share .50 against .46 by distance, not .05 more"),
    ],
)
def test_a_number_beyond_its_threshold_prevents_the_role(
    rules: Rules, changes: dict, missing: str
) -> None:
    found = verdict_of(rules, [OBJ], **changes)
    assert found.role == "none" and found.strength is None and missing in found.reason


@pytest.mark.parametrize(
    "changes",
    [
        {"n": 50},
        {"gain_low": 0.101},
        {"q": 0.05},
        {"mass": 0.05},
        {"lift_low": 1.25, "distance_share": 0.449},
        {**FEW, "forms": 3},
        {"form_rule": ("definition",) * len(RELATIONS), "forms": 1},
    ],
)
def test_a_number_within_its_threshold_earns_the_role(rules: Rules, changes: dict) -> None:
    assert verdict_of(rules, [OBJ], **changes).role == "syntax"


def test_coreference_needs_a_strict_relation(rules: Rules) -> None:
    found = verdict_of(rules, [PRONOUN])
    assert found.role == "none" and "no rule gives a role" in found.reason
    both = verdict_of(rules, [PRONOUN, STRICT])
    assert both.claims[0].relation == RELATIONS.index(STRICT)


def test_coreference_must_beat_the_category_control(rules: Rules) -> None:
    found = verdict_of(rules, [STRICT], beats=1)
    assert found.role == "none" and found.reason.endswith("does not beat category")
    assert verdict_of(rules, [OBJ], beats=1).role == "syntax"
    by_distance = replace(rules.roles["coreference"], beats="distance")
    lax = replace(rules, roles={**rules.roles, "coreference": by_distance})
    assert verdict_of(lax, [STRICT], beats=1).reason.endswith("beats distance")


def test_punctuation_needs_share_norm_above_habit_share(rules: Rules) -> None:
    found = verdict_of(rules, [MARKS], share_norm=0.30, habit_share=0.30)
    assert found.role == "none" and "share_norm .30 not above habit_share .30" in found.reason
    assert verdict_of(rules, [OBJ], share_norm=0.0).role == "syntax"


def test_a_role_rests_on_its_strongest_relation(rules: Rules) -> None:
    top1 = np.full(len(RELATIONS), 0.7)
    top1[RELATIONS.index(NSUBJ)] = 0.9
    found = verdict_of(rules, [OBJ, NSUBJ], top1=top1)
    assert len(found.claims) == 1 and found.reason.startswith(
        "verb → its subject (nsubj): top1 .90"
    )


@pytest.mark.parametrize(("weaker", "role"), [(0.79, "mixed"), (0.70, "syntax")])
def test_roles_of_nearly_equal_strength_are_mixed(rules: Rules, weaker: float, role: str) -> None:
    """Strengths are gain / 0.6: 0.5 / 0.6 against 0.39 / 0.6 is not within 20 %, 0.48 is."""
    top1 = np.full(len(RELATIONS), 0.9)
    top1[RELATIONS.index(STRICT)] = weaker + 0.03
    found = verdict_of(rules, [OBJ, STRICT], top1=top1)
    assert found.role == role and found.roles == ("syntax", "coreference")
    assert ("coreference by pronoun → its antecedent (pronoun-strict)" in found.reason) == (
        role == "mixed"
    )


def test_a_family_without_a_rule_earns_no_role(rules: Rules) -> None:
    assert verdict_of(rules, [CUE]).role == "none"
    named = replace(rules, roles={**rules.roles, "denier": RoleRule("negation")})
    assert verdict_of(named, [CUE]).role == "denier"


def test_a_rule_can_name_a_single_relation(rules: Rules) -> None:
    for relation, role in (("cue", "denier"), ("not in this run", "none")):
        denier = RoleRule("negation", relation)
        named = replace(rules, roles={**rules.roles, "denier": denier})
        assert verdict_of(named, [CUE]).role == role


def test_two_roles_by_the_same_relation_are_not_mixed(rules: Rules) -> None:
    """The role of a single relation precedes that of its family."""
    mine = {**rules.roles, "verb-seeker": RoleRule("syntax", "obj")}
    found = verdict_of(replace(rules, roles=mine), [OBJ])
    assert found.role == "verb-seeker" and found.roles == ("verb-seeker", "syntax")
    assert found.reason.startswith("object → its verb (obj): ")
    assert verdict_of(replace(rules, roles=mine), [NSUBJ]).roles == ("syntax",)


def test_a_head_without_a_role_shows_its_best_evidence(rules: Rules) -> None:
    low = np.full(len(RELATIONS), 0.02)
    low[RELATIONS.index(NSUBJ)] = 0.08
    found = verdict_of(rules, list(RELATIONS), gain_low=low)
    assert found.role == "none" and found.best_relation == RELATIONS.index(NSUBJ)
    assert found.reason.startswith("verb → its subject (nsubj)") and found.reason.endswith(
        "above .10"
    )


def test_idle_and_repeating_heads_are_redundant_and_keep_their_roles(rules: Rules) -> None:
    evidence = evidence_for({(0, 0): [OBJ], (0, 1): [OBJ], (1, 0): [STRICT]})
    high = np.full((2, 2, 2), 1.0)
    high[:, 1, 0] = 0.2
    residual = np.full((2, 2, 2), 0.01)
    tallies = pairs_of(4, {(0, 1): (0.97, 0.95)})
    norm = [[1.0, 1.5], [0.1, 1.0]]
    verdicts, pairs = judge(evidence, shape(high, residual, norm), conduct_of(), tallies, 2, rules)
    repeater, kept, idle, _ = verdicts
    assert repeater.role == "redundant" and repeater.roles == ("redundant", "syntax")
    assert repeater.repeater_of == "L0H1" and repeater.cluster == kept.cluster == 1
    assert repeater.reason == "repeats L0H1: affinity .97, output cosine .95 on 200 rows"
    assert kept.role == "syntax" and kept.repeater_of is None
    assert idle.idle and idle.role == "redundant" and idle.roles == ("redundant", "coreference")
    assert idle.reason.startswith("idle: output norm at most .20")
    assert [(pair.name_a, pair.name_b, pair.relation) for pair in pairs] == [
        ("L0H0", "L0H1", "repeats")
    ]


def test_the_strongest_repeater_keeps_its_role(rules: Rules) -> None:
    evidence = evidence_for({(1, 1): [OBJ]})
    tallies = pairs_of(4, {(0, 3): (0.97, 0.95)})
    verdicts, _ = judge(evidence, shape(norm=[[9.0, 1], [1, 1]]), conduct_of(), tallies, 2, rules)
    assert verdicts[3].role == "syntax" and verdicts[0].repeater_of == "L1H1"


def test_probes_without_relations_earn_no_role(rules: Rules) -> None:
    evidence = evidence_for({})
    empty = {
        name: value[..., :0]
        for name, value in vars(evidence).items()
        if isinstance(value, np.ndarray)
    }
    bare = replace(
        evidence, relations=(), baselines={}, best_start=(), few_forms=(), form_rule=(), **empty
    )
    verdicts, _ = judge(bare, shape(), conduct_of(), pairs_of(4, {}), 2, rules)
    assert {each.role for each in verdicts} == {"none"}
    assert verdicts[0].reason == "the probes have no relations"


def test_stricter_rules_remove_a_role(rules: Rules, tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("margin: 0.35\n")
    assert verdict_of(load_rules(mine), [OBJ]).role == "none"
