"""The candidates of semantic relations, against a loop over words."""

import numpy as np

from headprobe.analysis.candidates import Candidates
from headprobe.runs.instances import Instances
from headprobe.vocabulary import Relation
from tests.helpers.evidence import candidates_by_hand, random_instances

SYNONYM = Relation("semantic", "synonym", "word", same_upos=True)
OTHER_FORM = Relation("coreference", "pronoun-strict", "antecedent", strict=True)


def draw() -> Instances:
    return random_instances(np.random.default_rng(3), [40, 25, 60], [SYNONYM, OTHER_FORM])


def test_only_words_of_the_same_part_of_speech_and_another_lemma_compete() -> None:
    instances = draw()
    queries = np.flatnonzero(instances.usable)
    for relation in (SYNONYM, OTHER_FORM):
        rows = Candidates(instances, queries, relation.scope, relation.candidates)
        expected = [candidates_by_hand(instances, relation, query) for query in queries.tolist()]
        assert rows.count().tolist() == [len(words) for words in expected]
        among = instances.tokens == 1
        assert rows.count(among).tolist() == [
            sum(bool(among[word]) for word in words) for words in expected
        ]
        index, words = rows.pairs()
        assert [words[index == row].tolist() for row in range(len(queries))] == expected
        most, tied = rows.longest()
        for row, candidates in enumerate(expected):
            if candidates:
                tokens = instances.tokens[candidates].tolist()
                assert (most[row], tied[row]) == (max(tokens), tokens.count(max(tokens)))


def test_the_nearest_candidate_is_of_the_same_part_of_speech() -> None:
    instances = draw()
    queries = np.flatnonzero(instances.usable)
    rows = Candidates(instances, queries, "passage", "same-upos")
    nearest = rows.nearest(np.ones(len(instances.form), dtype=bool)).tolist()
    for query, found in zip(queries.tolist(), nearest, strict=True):
        assert found == max(candidates_by_hand(instances, SYNONYM, query), default=-1)


def test_relations_survive_a_file(tmp_path) -> None:
    instances = draw()
    instances.save(tmp_path / "instances.npz")
    loaded = Instances.load(tmp_path / "instances.npz")
    assert loaded.relations == instances.relations
    assert loaded.relations[0].candidates == "same-upos"
    assert np.array_equal(loaded.lemma, instances.lemma)
