"""Relations with very many instances are measured on some of them, chosen by a seeded hash."""

import numpy as np
import pytest

from headprobe.analysis.shuffled_links import shuffle_links
from headprobe.batching import corpus as corpus_module
from headprobe.batching.corpus import align
from headprobe.batching.encoder import Encoder
from headprobe.runs import instances as instances_module
from headprobe.runs.instances import Instances, smallest_keys
from tests.helpers.checkpoints import toy_tokenizer
from tests.helpers.passes import passages_of, run
from tests.helpers.probes import PROBES
from tests.helpers.tiny import tiny_model

MOST = 12


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (corpus_module, instances_module):
        monkeypatch.setattr(module, "MAX_INSTANCES", MOST)


def aligned(budget: int = 45, seed: int = 0, backwards: bool = False) -> Instances:
    encoder = Encoder(toy_tokenizer(), "toy")
    passages = passages_of(PROBES, encoder, budget)[:: -1 if backwards else 1]
    return align(passages, encoder, lambda _: None, seed=seed).instances


def chosen_of(instances: Instances) -> dict[str, set[tuple[object, ...]]]:
    """Document, sentence and word of the instances, by relation."""
    sentence = instances.passage_sentence[instances.passage] + instances.sentence
    place = np.arange(len(instances.form)) - instances.sentence_first
    return {
        f"{relation.name} {relation.looks_to}": {
            (
                str(instances.passage_documents[instances.passage[query]]),
                int(sentence[query]),
                int(place[query]),
                str(instances.forms[instances.form[nearest]]),
            )
            for links in [instances.of(number)]
            for query, nearest in zip(links.query.tolist(), links.nearest.tolist(), strict=True)
        }
        for number, relation in enumerate(instances.relations)
    }


def test_large_relations_are_thinned_and_small_ones_are_whole(few: None) -> None:
    thinned = aligned()
    counts = np.diff(thinned.first_instance)
    assert thinned.n_all.max() > 2 * MOST
    np.testing.assert_array_equal(counts, np.minimum(thinned.n_all, MOST))


def test_nothing_is_thinned_below_the_limit() -> None:
    instances = aligned()
    np.testing.assert_array_equal(np.diff(instances.first_instance), instances.n_all)


def test_the_order_of_passages_does_not_matter_and_the_seed_does(few: None) -> None:
    assert chosen_of(aligned()) == chosen_of(aligned(backwards=True))
    assert chosen_of(aligned()) != chosen_of(aligned(seed=1))


def test_the_same_instances_are_chosen_however_passages_are_cut(few: None) -> None:
    """As far as both cuts have them: edges lie within sentences."""
    short, long = chosen_of(aligned(budget=45)), chosen_of(aligned(budget=100))
    assert short["det dependent"] == long["det dependent"]


def test_every_instance_is_chosen_with_the_same_chance() -> None:
    keys = np.random.default_rng(0).permutation(100).astype(np.uint64)
    np.testing.assert_array_equal(
        keys[smallest_keys(keys, 7)], sorted(keys[smallest_keys(keys, 7)], key=list(keys).index)
    )
    assert set(keys[smallest_keys(keys, 7)].tolist()) == set(range(7))


def test_hits_and_sums_are_those_of_the_chosen_instances(few: None) -> None:
    encoder = Encoder(toy_tokenizer(), "toy")
    passages = passages_of(PROBES, encoder, 45)
    thinned, some = run(tiny_model("llama-gqa"), passages, encoder)
    with pytest.MonkeyPatch.context() as patch:
        for module in (corpus_module, instances_module):
            patch.setattr(module, "MAX_INSTANCES", 10**6)
        whole, every = run(tiny_model("llama-gqa"), passages, encoder)
    for number in range(len(thinned.relations)):
        links, all_links = thinned.of(number), whole.of(number)
        places = {
            (query, nearest): place
            for place, (query, nearest) in enumerate(
                zip(all_links.query.tolist(), all_links.nearest.tolist(), strict=True)
            )
        }
        chosen = [
            places[pair] for pair in zip(links.query.tolist(), links.nearest.tolist(), strict=True)
        ]
        np.testing.assert_array_equal(
            some["hits"][thinned.numbers(number)], every["hits"][whole.numbers(number)[chosen]]
        )
        for name in ("share_by_document", "share_by_form"):
            assert (some[name][number] <= every[name][number] + 1e-6).all()
        total = some["share_by_document"][number].sum(0)
        np.testing.assert_allclose(total, some["share_by_form"][number].sum(0), atol=1e-6)


def test_shuffled_links_are_thinned_alike(few: None) -> None:
    shuffled = shuffle_links(aligned(), 3)
    counts = np.diff(shuffled.first_instance)
    assert (counts <= MOST).all() and (counts[list(shuffled.every)] == MOST).any()
