"""The harder control against a loop over heads, instances and candidates."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from headprobe.analysis import candidates as module
from headprobe.analysis.pos_control import category_hits, fit_preferences, pair_counts
from headprobe.runs.instances import Instances
from headprobe.runs.sums import unpack_heads
from headprobe.vocabulary import CATEGORIES, MAX_DISTANCE, UPOS, category, distance_bins
from tests.helpers.evidence import (
    OBJ,
    PRONOUN,
    DrawnInstances,
    candidates_by_hand,
    instances_by_hand,
    links_of,
    random_instances,
    tallies_of,
    to_loop_over,
)

HEADS = 4


def kind_of_pair(instances: Instances, query: int, word: int) -> int:
    tags = [str(instances.upos_names[instances.upos[place]]) for place in (query, word)]
    numbers = [UPOS.index(tag) if tag in UPOS else 0 for tag in tags]
    bin_ = distance_bins()[min(query - word, MAX_DISTANCE)]
    return int(category(bin_, *numbers))


def counted_by_hand(instances: Instances) -> np.ndarray:
    counts = np.zeros(CATEGORIES, dtype=np.int64)
    for query, word in itertools.product(range(len(instances.form)), repeat=2):
        together = word < query and instances.passage[word] == instances.passage[query]
        if together and instances.usable[word] and instances.usable[query]:
            counts[kind_of_pair(instances, query, word)] += 1
    return counts


@pytest.mark.parametrize("kind", ["smooth", "tied", "silent"])
@to_loop_over
def test_pos_control_equals_a_loop_over_candidates(
    kind: str, drawn: DrawnInstances, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng, instances = drawn()
    pairs = pair_counts(instances)
    sums = rng.integers(0, {"smooth": 10**6, "tied": 3, "silent": 1}[kind], (CATEGORIES, HEADS))
    sums = sums * pairs[:, None] * 1.0
    tallies = tallies_of(instances, {}, 2, 2, category=sums.reshape(CATEGORIES, 2, 2))
    monkeypatch.setattr(module, "MAX_ENTRIES", 20_000)
    relations = links_of(instances)
    preferences = fit_preferences(instances, tallies)
    found = category_hits(instances, relations, preferences)
    profiles = sums / np.maximum(pairs, 1)[:, None], preferences.preferences
    for (rule, profile), index in itertools.product(enumerate(profiles), range(len(relations))):
        hits = []
        for query, targets in instances_by_hand(instances, index):
            words = candidates_by_hand(instances, instances.relations[index], query)[::-1]
            values = profile[[kind_of_pair(instances, query, word) for word in words]]
            hits.append([words[place] in targets for place in values.argmax(0)])
        packed = found[rule][instances.numbers(index)]
        np.testing.assert_array_equal(unpack_heads(packed, HEADS), np.array(hits))


def test_head_of_category_preferences_alone_is_explained() -> None:
    """Heads that attend by a softmax over tastes for categories; each link's target is the word
    that they look at most. Means alone miss a good part, for they depend on rows and rivals."""
    rng = np.random.default_rng(6)
    instances = random_instances(rng, rng.integers(3, 40, 150).tolist(), (PRONOUN,))
    tastes = 2 * rng.normal(size=(len(UPOS), len(UPOS)))
    sums, links = np.zeros((CATEGORIES, 1)), []
    for query in np.flatnonzero(instances.usable).tolist():
        words = np.array(candidates_by_hand(instances, PRONOUN, query), dtype=np.int64)
        if len(words):
            kinds = [kind_of_pair(instances, query, word) for word in words]
            tags = instances.upos_number.astype(int)
            weights = np.exp(tastes[tags[query], tags[words]] - (query - words) / 4)
            np.add.at(sums[:, 0], kinds, weights / weights.sum())
            links.append((query, words[weights.argmax()]))
    query, target = np.array(links).T
    asked = replace(
        instances,
        link_relation=np.zeros_like(query),
        link_query=query,
        link_first=np.arange(len(query) + 1),
        link_targets=target,
    )
    tallies = tallies_of(asked, {}, 1, 1, category=sums[:, None])
    found = category_hits(asked, links_of(asked), fit_preferences(asked, tallies))
    mean, taste = unpack_heads(found.reshape(-1, 1), 1).reshape(2, -1).sum(1)
    assert mean < 0.95 * len(query) and taste > 0.98 * len(query)


def test_pairs_combine_all_usable_words_with_all_usable_earlier_words() -> None:
    instances = random_instances(np.random.default_rng(3), [1, 30, 0, 75], usable=0.8)
    np.testing.assert_array_equal(pair_counts(instances), counted_by_hand(instances))


def test_pos_control_accepts_text_without_relations_or_words() -> None:
    instances = random_instances(np.random.default_rng(4), [9, 9], ())
    preferences = fit_preferences(instances, tallies_of(instances, {}, 1, 2))
    assert category_hits(instances, [], preferences).shape[1] == 0
    empty = random_instances(np.random.default_rng(5), [1], (OBJ,))
    preferences = fit_preferences(empty, tallies_of(empty, {}, 1, 2))
    hits = category_hits(empty, links_of(empty), preferences)
    assert not hits.any()
