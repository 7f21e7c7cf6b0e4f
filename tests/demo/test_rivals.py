"""No simple rule finds the antecedents of the bundled sets, and their properties are balanced."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from headprobe.analysis.baselines import baseline_input, last_subject, nearest_mention
from headprobe.demo.grammar.reading import Document
from headprobe.demo.grammar.report import load
from headprobe.demo.grammar.rivals import (
    PLACES,
    RuleRates,
    balance,
    load_instances,
    rivals,
    rule_rates,
)
from headprobe.runs.instances import Instances

PROBES = Path(__file__).parents[2] / "configs" / "probes"
SETS = [PROBES / f"{name}.conllu" for name in ("dialogue", "natural", "news", "story")]
RULES = {
    "offset",
    "start",
    "first mention",
    *(f"{kind} {place}" for kind in ("mention", "subject") for place in PLACES),
}
BOUNDS = {
    "pronoun": {"she": (0.18, 0.32), "he": (0.18, 0.32), "it": (0.18, 0.32), "they": (0.18, 0.32)},
    "gender": {"she": (0.45, 0.55), "he": (0.45, 0.55)},
    "number": {"plural": (0.2, 0.4)},
    "animacy": {"inanimate": (0.25, 0.5)},
    "order": dict.fromkeys("12345", (0.14, 0.28)),
    "role": {"subject": (0.4, 0.6), "object": (0.3, 0.5)},
    "own role": {"subject": (0.4, 0.6), "object": (0.3, 0.5)},
    "sentence": {"same": (0.15, 0.5), "last": (0.3, 0.6), "before": (0.15, 0.4)},
    "distance": {"09-16": (0.15, 0.35), "17-32": (0.15, 0.35), "33-": (0.1, 0.3)},
}
"""Property -> value -> the least and the largest share of third-person pronouns."""


@pytest.fixture(scope="module")
def instances() -> Instances:
    return load_instances(SETS)


@pytest.fixture(scope="module")
def rates(instances: Instances) -> dict[str, RuleRates]:
    return {row.relation: row for row in rule_rates(instances)}


@pytest.fixture(scope="module")
def documents() -> list[Document]:
    return load(SETS)


@pytest.mark.parametrize("relation", ["pronoun-strict", "anaphor-strict"])
def test_no_rule_is_right_in_more_than_three_tenths(
    relation: str, rates: dict[str, RuleRates]
) -> None:
    row = rates[relation]
    assert set(row.rates) == RULES
    assert max(row.rates.values()) <= 0.30, row


def test_there_are_enough_pronouns_documents_and_forms(rates: dict[str, RuleRates]) -> None:
    row = rates["pronoun-strict"]
    assert row.n >= 3000 and row.document_folds > 50 and row.form_folds > 40, row
    together = rates["anaphor-strict"]
    assert together.document_folds > 50 and together.n == sum(
        rates[f"{name}-strict"].n for name in ("pronoun", "nominal", "proper")
    )


def test_the_rules_are_those_of_the_tool(instances: Instances, rates: dict[str, RuleRates]) -> None:
    number = [relation.name for relation in instances.relations].index("pronoun-strict")
    inputs = baseline_input(instances, instances.of(number))
    nearest, subject = nearest_mention(inputs), last_subject(inputs)
    assert nearest is not None and subject is not None
    row = rates["pronoun-strict"].rates
    assert row["mention 1"] == pytest.approx(float(np.mean(nearest.hits)))
    assert row["subject 1"] == pytest.approx(float(np.mean(subject.hits)))


def test_four_entities_compete_wherever_there_are_pronouns(documents: list[Document]) -> None:
    few = {d.name: rivals(d) for d in documents if 0 < rivals(d) < 4}
    assert few == {}


def test_antecedents_are_balanced(documents: list[Document]) -> None:
    found = balance(documents)
    assert set(found) == set(BOUNDS)
    for name, values in BOUNDS.items():
        for value, (least, most) in values.items():
            assert least <= found[name][value] <= most, (name, found[name])


def test_the_checker_counts_what_it_says(tmp_path: Path) -> None:
    """Ann met Bob; she called Zoe, and so on: one pronoun, one proper noun and one noun."""
    rows = [
        ("Ann", "PROPN", 2, "nsubj", "(e1-person-1-)"),
        ("met", "VERB", 0, "root", ""),
        ("Bob", "PROPN", 2, "obj", "(e2-person-1-)"),
        (";", "PUNCT", 2, "punct", ""),
        ("she", "PRON", 6, "nsubj", "(e1-person-1-)"),
        ("called", "VERB", 2, "parataxis", ""),
        ("Zoe", "PROPN", 6, "obj", "(e3-person-1-)"),
        ("Anna", "PROPN", 7, "appos", "(e1-person-1-)"),
        ("Maria", "NOUN", 7, "appos", "(e2-person-1-)"),
    ]
    lines = ["# newdoc id = d", "# global.Entity = eid-etype-head-other"]
    for at, (form, upos, head, deprel, entity) in enumerate(rows, 1):
        misc = f"Entity={entity}" if entity else "_"
        lines.append("\t".join([str(at), form, form, upos, "_", "_", str(head), deprel, "_", misc]))
    path = tmp_path / "d.conllu"
    path.write_text("\n".join(lines) + "\n\n", "utf-8")
    found = {row.relation: row for row in rule_rates(load_instances([path]))}
    assert {name: row.n for name, row in found.items()} == {
        "pronoun-strict": 1, "nominal-strict": 1, "proper-strict": 1, "anaphor-strict": 3,
    }  # fmt: skip
    pronoun, together = found["pronoun-strict"].rates, found["anaphor-strict"].rates
    assert (pronoun["mention 1"], pronoun["mention 2"], pronoun["mention 3"]) == (0, 1, 0)
    assert (pronoun["first mention"], pronoun["subject 1"], pronoun["subject 2"]) == (1, 1, 0)
    assert together["first mention"] == pytest.approx(2 / 3)
    assert together["mention 2"] == pytest.approx(2 / 3)
    assert found["anaphor-strict"].form_folds == pytest.approx(3)


def test_the_readme_names_the_hash_of_the_frozen_sets() -> None:
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in SETS)).hexdigest()
    assert digest in (SETS[0].parent / "README.md").read_text("utf-8")
