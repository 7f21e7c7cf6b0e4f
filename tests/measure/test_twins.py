"""Twins of passages enter the hits of their own relations, and nothing else."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from headprobe.batching.corpus import align
from headprobe.batching.encoder import Encoder
from headprobe.config import Partition
from headprobe.measure.embedding import embedding_hits
from headprobe.measure.loop import PassPlan
from headprobe.probes.document import Passage
from tests.helpers.checkpoints import toy_tokenizer
from tests.helpers.passes import passages_of, run
from tests.helpers.tiny import tiny_model

SEMANTIC = Path(__file__).parents[2] / "configs" / "probes" / "semantic.conllu"
OF_RELATIONS = {"mass", "kept", "share", "share_norm", "hits", "embedding_hits"}
OF_RELATIONS |= {"hits_by_document", "hits_by_form", "hits_by_domain"}
OF_RELATIONS |= {"share_by_document", "share_by_form"}


@pytest.fixture(scope="module")
def passages() -> list[Passage]:
    return passages_of(SEMANTIC, Encoder(toy_tokenizer(), "toy"), 512, most=12)


@pytest.mark.parametrize("name", ["llama-gqa", "qwen3"])
def test_twins_change_no_other_sum(name: str, passages: list[Passage]) -> None:
    encoder, model = Encoder(toy_tokenizer(), "toy"), tiny_model(name)
    instances, tallies = run(model, passages, encoder)
    alone, expected = run(model, [replace(p, twin=None) for p in passages], encoder)
    twins = [relation for relation in instances.relations if relation.twin]
    assert len(twins) == 2 and instances.relations == (*alone.relations, *twins)
    assert instances.text_passages == len(passages) == len(instances.passage_ids) // 2
    assert np.array_equal(instances.sampled_words, alone.sampled_words)
    assert np.array_equal(instances.example_words, alone.example_words)
    for key in expected.arrays:
        found, array = tallies[key], expected[key]
        if key in OF_RELATIONS:
            found = found[: len(array)]
        elif key.startswith("column_token"):  # tokens that stand in twins only are never seen
            found, array = np.sort(found[found > 0]), np.sort(array[array > 0])
        np.testing.assert_allclose(found, array, rtol=1e-6, atol=1e-5, err_msg=key)


def test_hits_in_twins_are_those_of_the_twins_text(passages: list[Passage]) -> None:
    encoder, model = Encoder(toy_tokenizer(), "toy"), tiny_model("llama-gqa")
    instances, tallies = run(model, passages, encoder)
    texts = [
        replace(twin, links=tuple(_as_text(link) for link in twin.links))
        for twin in (passage.twin for passage in passages)
        if twin is not None
    ]
    alone, expected = run(model, texts, encoder)
    for number, relation in enumerate(alone.relations):
        twin = instances.relations.index(replace(relation, twin=True))
        assert len(alone.of(number)) == len(instances.of(twin)) > 0
        for key in ("mass", "share_norm"):
            np.testing.assert_allclose(tallies[key][twin], expected[key][number], atol=1e-5)


def _as_text(link):
    return link._replace(relation=replace(link.relation, twin=False))


def test_parts_of_a_run_share_its_twins(passages: list[Passage]) -> None:
    corpus = align(passages, Encoder(toy_tokenizer(), "toy"), lambda _: None, seed=0)
    whole = PassPlan.whole_run(corpus, 0)
    assert len(whole.twins) == len(passages) and whole.twins.min() == len(passages)
    assert whole.passages == 2 * len(passages)
    parts = [whole.partition(corpus, [Partition(i, 3)]) for i in range(3)]
    assert sorted(np.concatenate([part.twins for part in parts])) == sorted(whole.twins)
    assert all(part.twins.size for part in parts)


def test_the_embedding_rule_by_hand(passages: list[Passage]) -> None:
    encoder, model = Encoder(toy_tokenizer(), "toy"), tiny_model("llama-gqa")
    corpus = align(passages, encoder, lambda _: None, seed=0)
    instances, table = corpus.instances, model.get_input_embeddings().weight.detach().numpy()
    expected = []
    for number, relation in enumerate(instances.relations):
        links = instances.of(number)
        for index, query in enumerate(links.query.tolist()):
            targets = links.targets[links.first[index] : links.stop[index]].tolist()
            if relation.family != "semantic" or relation.twin:
                expected.append(0)
                continue
            first = instances.passage_first[instances.passage[query]]
            scores = {
                word: _cosine(_mean(corpus, table, word), _mean(corpus, table, query))
                for word in range(first, query)
                if instances.usable[word]
                and instances.upos[word] == instances.upos[query]
                and instances.lemma[word] != instances.lemma[query]
            }
            expected.append(int(max(scores, key=scores.__getitem__) in targets))
    found = embedding_hits(model.get_input_embeddings(), corpus, model.device)
    assert found.tolist() == expected and 0 < sum(expected) < 24


def _mean(corpus, table: np.ndarray, word: int) -> np.ndarray:
    passage = corpus.instances.passage[word]
    tokens = slice(*corpus.token_first[passage : passage + 2])
    of_word = corpus.word_of_token[tokens] == word - corpus.instances.passage_first[passage]
    return table[corpus.token_ids[tokens][of_word]].mean(0)


def _cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))
