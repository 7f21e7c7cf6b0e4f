"""Twins are taken out of a run's sums, and their hits are paired with the instances."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from headprobe.analysis.evidence import Evidence
from headprobe.analysis.gains import compute_evidence
from headprobe.analysis.pos_control import fit_preferences
from headprobe.analysis.twins import separate_twins
from headprobe.batching.encoder import Encoder
from headprobe.probes.document import Passage
from headprobe.roles.requirements import general_requirements
from headprobe.roles.rules import load_rules
from headprobe.runs.instances import Instances
from headprobe.runs.sums import Tallies, unpack_heads
from tests.helpers.checkpoints import toy_tokenizer
from tests.helpers.passes import passages_of, run
from tests.helpers.tiny import tiny_model

SEMANTIC = Path(__file__).parents[2] / "configs" / "probes" / "semantic.conllu"


@pytest.fixture(scope="module")
def passages() -> list[Passage]:
    return passages_of(SEMANTIC, Encoder(toy_tokenizer(), "toy"), 512, most=60)


def measured(passages: list[Passage]) -> tuple[Instances, Tallies]:
    return run(tiny_model("llama-gqa"), passages, Encoder(toy_tokenizer(), "toy"))


def without(passages: list[Passage], chosen: slice) -> list[Passage]:
    missing = {passage.id for passage in passages[chosen]}
    return [replace(p, twin=None) if p.id in missing else p for p in passages]


def test_what_is_left_is_a_run_without_twins(passages: list[Passage]) -> None:
    text = separate_twins(*measured(passages))
    alone, expected = measured(without(passages, slice(None)))
    assert text.instances.relations == alone.relations
    for name in ("passage_ids", "form", "lemma", "link_query", "link_first", "link_targets"):
        assert getattr(text.instances, name).tolist() == getattr(alone, name).tolist()
    text.instances.check()
    for name in ("hits", "embedding_hits", "n_all"):
        found = text.instances.n_all if name == "n_all" else text.tallies[name]
        assert np.array_equal(found, alone.n_all if name == "n_all" else expected[name])
    assert text.tallies["mass"].shape == expected["mass"].shape


def test_swap_is_the_hit_at_the_same_place_of_the_twin(passages: list[Passage]) -> None:
    instances, tallies = measured(passages)
    text = separate_twins(instances, tallies)
    heads = int(np.prod(tallies["mass"].shape[1:]))
    for number, relation in enumerate(text.instances.relations):
        if relation.family != "semantic":
            assert number not in text.swap
            continue
        own = text.instances.of(number)
        other = instances.relations.index(replace(relation, twin=True))
        twins = instances.of(other)
        found = unpack_heads(text.swap[number], heads)
        hits = unpack_heads(tallies["hits"][instances.numbers(other)], heads)
        assert len(own) == len(twins) == len(found)
        for row, query in enumerate(own.query.tolist()):
            passage = instances.passage[query]
            place = query - instances.passage_first[passage]
            (twin,) = [
                index
                for index, word in enumerate(twins.query.tolist())
                if instances.passage_original[instances.passage[word]] == passage
                and word - instances.passage_first[instances.passage[word]] == place
            ]
            assert found[row].tolist() == hits[twin].tolist()


def test_an_instance_without_a_twin_counts_as_its_own_hit(passages: list[Passage]) -> None:
    text = separate_twins(*measured(without(passages, slice(0, 30))))
    for number, swap in text.swap.items():
        own = text.tallies["hits"][text.instances.numbers(number)]
        passage = text.instances.passage[text.instances.of(number).query]
        assert np.array_equal(swap[passage < 30], own[passage < 30])
        assert not np.array_equal(swap[passage >= 30], own[passage >= 30])


def evidence_of(passages: list[Passage]) -> Evidence:
    text = separate_twins(*measured(passages))
    preferences = fit_preferences(text.instances, text.tallies)
    return compute_evidence(text.instances, text.tallies, preferences, load_rules(), text.swap)


def test_semantic_relations_have_both_baselines_and_others_none(passages: list[Passage]) -> None:
    evidence = evidence_of(passages)
    swap, embedding = evidence.baselines["swap"], evidence.baselines["embedding"]
    for number, relation in enumerate(evidence.relations):
        semantic = relation.family == "semantic"
        assert np.isnan(swap[..., number]).any() == (not semantic)
        assert np.isnan(embedding[number]) == (not semantic)
    assert not any(relation.twin for relation in evidence.relations)


def test_semantic_relations_without_twins_earn_nothing(passages: list[Passage]) -> None:
    for some, lacks in ((passages, False), (without(passages, slice(None)), True)):
        evidence = evidence_of(some)
        requirements = general_requirements(evidence, load_rules())
        (rule,) = [
            each
            for each in requirements
            if "twins" in each.shortfall((0, 0, len(evidence.relations) - 1))
        ]
        for number, relation in enumerate(evidence.relations):
            expected = not (lacks and relation.family == "semantic")
            assert rule.met[..., number].all() == expected
