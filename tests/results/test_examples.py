"""Sentences for roles that are no matter of a relation of the probes."""

import json
from dataclasses import replace

import numpy as np
import pytest

from headprobe.analysis.behaviour import BehaviourEvidence
from headprobe.results.examples import Example, examples
from headprobe.roles.verdict import Claim, Verdict
from headprobe.runs import folder as run_folder
from headprobe.runs.folder import Run
from headprobe.runs.instances import Instances
from headprobe.runs.sums import Tallies
from headprobe.vocabulary import DEPRELS, deprel_pair
from tests.helpers.judged import conduct
from tests.helpers.synthetic import instances, tallies

SENTENCE = """
the det, cat nsubj, saw root, the det, dog obj, and cc,
the det, dog nsubj, saw conj, the det, cat obj, again advmod
"""
WORDS, LABELS = zip(*(pair.split() for pair in SENTENCE.split(",")), strict=True)


@pytest.fixture
def asked() -> Instances:
    """One sentence of repeated words, all of them example rows."""
    plain, size = instances(()), len(WORDS)
    forms = sorted(set(WORDS))
    return replace(
        plain,
        passage_first=np.array([0, size]),
        sentence=np.zeros(size, dtype=np.int64),
        upos=np.zeros(size, dtype=np.int64),
        form=np.array([forms.index(word) for word in WORDS]),
        forms=np.array(forms),
        tokens=np.ones(size, dtype=np.int64),
        usable=np.ones(size, dtype=np.bool_),
        space=np.ones(size, dtype=np.bool_),
        word_classes=np.zeros(size, dtype=np.int64),
        link_relation=np.zeros(0, dtype=np.int64),
        link_query=np.zeros(0, dtype=np.int64),
        link_first=np.zeros(1, dtype=np.int64),
        link_targets=np.zeros(0, dtype=np.int64),
        deprel=np.array([DEPRELS.index(label) for label in LABELS], dtype=np.int16),
        mention_end=np.full(size, -1, dtype=np.int32),
        example_words=np.arange(size),
    )


def shown(
    asked: Instances, role: str, looks: dict[int, int], found: BehaviourEvidence
) -> list[Example]:
    """Of a head that looks from the words given to the words given, from others to the first."""
    sums: dict[str, np.ndarray] = dict(tallies(1, 1, asked).arrays)
    word, weight = (np.zeros_like(sums[f"example_{name}"]) for name in ("word", "weight"))
    for query in range(1, len(WORDS)):
        word[query, 0, 0, 0] = looks.get(query, 0) + 1
        weight[query, 0, 0, 0] = 0.9
    claim = Claim(role, None, 0.5, "because")
    verdict = Verdict(0, 0, role, (claim,), 0.5, "because", False, None, None, None)
    return list(
        examples(
            asked,
            Tallies(sums | {"example_word": word, "example_weight": weight}),
            found,
            [verdict],
        )
    )


def pairs(rows: list[Example], hit: bool) -> set[tuple[str, str]]:
    return {
        (row["words"][row["query"]], row["words"][row["attended"][0][0]])
        for row in rows
        if row["hit"] is hit
    }


def test_examples_of_duplicate_token_heads_link_earlier_copies(asked: Instances) -> None:
    rows = shown(asked, "duplicate-token", {7: 4, 8: 2, 10: 1}, conduct(1, 1))
    assert {(row["family"], row["looks_to"]) for row in rows} == {
        ("duplicate-token", "its earlier copy")
    }
    assert pairs(rows, hit=True) == {("dog", "dog"), ("saw", "saw"), ("cat", "cat"), ("the", "the")}


def test_examples_of_induction_heads_link_the_word_after_a_copy(asked: Instances) -> None:
    rows = shown(asked, "induction", {7: 5, 10: 2}, conduct(1, 1))
    assert pairs(rows, hit=True) == {("dog", "and"), ("cat", "saw")}
    assert all(pair[0] in {"the", "saw"} for pair in pairs(rows, hit=False))


def test_examples_of_unnamed_heads_link_pairs_of_labels(asked: Instances) -> None:
    turns = np.full((1, 1, 3), -1)
    turns[0, 0, :2] = [
        deprel_pair(*(DEPRELS.index(label) for label in pair))
        for pair in (("obj", "nsubj"), ("conj", "root"))
    ]
    plain = conduct(1, 1)
    found = replace(plain, agreement=replace(plain.agreement, top_pairs=turns))
    rows = shown(asked, "unnamed", {4: 1, 10: 7, 8: 2}, found)
    assert {(row["relation"], row["looks_to"]) for row in rows} == {
        ("obj", "nsubj"),
        ("conj", "root"),
    }
    assert pairs(rows, hit=True) == {("dog", "cat"), ("cat", "dog"), ("saw", "saw")}
    assert not shown(asked, "unnamed", {}, plain)


def test_examples_of_positional_heads_link_the_usual_distance(asked: Instances) -> None:
    """The synthetic profile falls with distance: one word back."""
    rows = shown(asked, "positional", {query: query - 1 for query in range(1, 8)}, conduct(1, 1))
    hits = [row for row in rows if row["hit"]]
    assert hits and all(row["targets"] == [row["query"] - 1] for row in hits)
    assert [row["looks_to"] for row in rows if not row["hit"]]


def test_examples_agree_with_the_instances(run: Run) -> None:
    lines = (run.path / run_folder.EXAMPLES).read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    assert any(row["hit"] for row in rows)
    assert any(not row["hit"] for row in rows)
    for row in rows:
        attended = [place for place, _ in row["attended"]]
        weights = [weight for _, weight in row["attended"]]
        assert weights == sorted(weights, reverse=True)
        assert row["query"] not in attended
        assert all(target < row["query"] for target in row["targets"])
        assert row["hit"] == (attended[0] in row["targets"])
    by_head: dict[tuple[str, str, bool], int] = {}
    for row in rows:
        key = (row["name"], row["relation"], row["hit"])
        by_head[key] = by_head.get(key, 0) + 1
    assert max(count for (_, _, hit), count in by_head.items() if hit) <= 5
    assert max(count for (_, _, hit), count in by_head.items() if not hit) <= 2
