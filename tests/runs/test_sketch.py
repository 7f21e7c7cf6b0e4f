"""Which rows are sketched: those with the smallest hashes, whatever the passages."""

from dataclasses import replace

import numpy as np

from headprobe.batching.corpus import align
from headprobe.batching.encoder import Encoder
from headprobe.runs.instances import Instances
from headprobe.runs.sketch import shared_rows, sketched_words
from headprobe.vocabulary import SKETCH_ROWS, SKETCH_WORDS
from tests.helpers.checkpoints import toy_tokenizer
from tests.helpers.evidence import random_instances
from tests.helpers.passes import passages_of
from tests.helpers.probes import PROBES


def names(instances: Instances, words: np.ndarray) -> set[tuple[str, int, int]]:
    """Document, sentence and place of words."""
    passage = instances.passage[words]
    return set(
        zip(
            instances.passage_documents[passage].tolist(),
            (instances.passage_sentence[passage] + instances.sentence[words]).tolist(),
            (words - instances.sentence_first[words]).tolist(),
            strict=True,
        )
    )


def test_a_large_text_is_thinned_and_most_rows_survive_a_change_of_words() -> None:
    rng = np.random.default_rng(0)
    instances = random_instances(rng, [60] * 30)
    words = sketched_words(instances)
    assert len(words) == SKETCH_ROWS and (np.diff(words) > 0).all()
    assert instances.usable[words].all() and (instances.place[words] > 0).all()
    other = replace(instances, usable=instances.usable & (rng.random(len(instances.usable)) < 0.95))
    kept = names(instances, words) & names(other, sketched_words(other))
    assert len(kept) > 0.9 * SKETCH_ROWS
    shared = shared_rows(instances, other)
    assert len(shared) > 0.85 * SKETCH_ROWS
    for row, other_row, before in zip(shared.rows_a, shared.rows_b, shared.words, strict=True):
        assert words[row] == sketched_words(other)[other_row]
        for distance in range(1, SKETCH_WORDS + 1):
            word = words[row] - distance
            inside = distance <= instances.place[words[row]]
            assert before[distance - 1] == (inside and other.usable[word])


def test_rows_are_the_same_in_passages_of_any_length() -> None:
    """Except for the first words of passages, which have no earlier word."""
    encoder = Encoder(toy_tokenizer(), "toy")
    cut = {
        budget: align(
            passages_of(PROBES, encoder, budget), encoder, lambda _: None, seed=seed
        ).instances
        for budget, seed in ((40, 0), (120, 5))
    }
    short, long = cut[40], cut[120]
    assert len(short.passage_ids) > len(long.passage_ids)
    assert names(short, sketched_words(short)) <= names(long, sketched_words(long))
    shared = shared_rows(short, long)
    assert 30 < len(shared) <= len(sketched_words(short))
    first, second = (instances.form[sketched_words(instances)] for instances in (short, long))
    assert (short.forms[first[shared.rows_a]] == long.forms[second[shared.rows_b]]).all()


def test_words_that_two_texts_spell_otherwise_are_not_shared() -> None:
    instances = random_instances(np.random.default_rng(0), [60] * 3)
    forms = instances.forms.copy()
    forms[forms == "cat"] = "dog"
    changed = shared_rows(instances, replace(instances, forms=forms))
    whole = shared_rows(instances, instances)
    assert 0 < changed.words.sum() < whole.words.sum()
    assert len(changed) < len(whole)


def test_a_document_that_occurs_twice_names_nothing() -> None:
    instances = random_instances(np.random.default_rng(0), [40] * 3, documents=["a", "a", "b"])
    shared = shared_rows(instances, instances)
    words = sketched_words(instances)[shared.rows_a]
    assert len(words) and set(instances.passage_documents[instances.passage[words]]) == {"b"}
