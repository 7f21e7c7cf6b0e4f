"""Shuffled links: the same queries with meaningless targets."""

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from headprobe.analysis.shuffled_links import shuffle_links
from headprobe.runs.instances import Instances
from tests.helpers.evidence import (
    OBJ,
    PRONOUN,
    RELATIONS,
    candidates_by_hand,
    instances_by_hand,
    random_instances,
)


def found(seed: int, lengths: list[int]) -> Instances:
    return random_instances(np.random.default_rng(seed), lengths)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 1000), st.integers(0, 1000), st.lists(st.integers(0, 40), min_size=1, max_size=6)
)
def test_every_link_keeps_its_query_and_its_number_of_candidates_as_targets(
    made: int, seed: int, lengths: list[int]
) -> None:
    true = found(made, lengths)
    shuffled = shuffle_links(true, seed)
    for name in ("link_relation", "link_query", "link_first", "form", "usable", "sentence"):
        assert np.array_equal(getattr(true, name), getattr(shuffled, name)), name
    for number, relation in enumerate(RELATIONS):
        if relation.every:
            continue
        for (query, targets), (same, drawn) in zip(
            instances_by_hand(true, number), instances_by_hand(shuffled, number), strict=True
        ):
            candidates = candidates_by_hand(true, relation, query)
            near = [word for word in candidates if true.sentence[word] == true.sentence[query]]
            assert same == query
            assert len(drawn) == len(targets)
            assert drawn <= set(near if len(near) > len(targets) else candidates)
    assert all((np.diff(shuffled.of(0).targets[a:b]) > 0).all() for a, b in spans(shuffled))


def spans(instances: Instances) -> list[tuple[int, int]]:
    links = instances.of(0)
    return list(zip(links.first.tolist(), links.stop.tolist(), strict=True))


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 1000), st.integers(0, 1000), st.lists(st.integers(0, 40), min_size=1, max_size=6)
)
def test_every_sentence_keeps_its_marks_and_only_usable_words_take_them(
    made: int, seed: int, lengths: list[int]
) -> None:
    true = found(made, lengths)
    shuffled = shuffle_links(true, seed)
    unusable = ~true.usable
    assert np.array_equal(true.word_classes[unusable], shuffled.word_classes[unusable])
    for start in np.unique(true.sentence_first):
        inside = true.sentence_first == start
        before, after = (each.word_classes[inside].tolist() for each in (true, shuffled))
        assert sorted(before) == sorted(after)


def test_targets_are_drawn_uniformly_and_independently_of_the_truth() -> None:
    """Per instance the expected overlap of k of m candidates with k others is k / m of them."""
    true = found(5, [60] * 60)
    for number, relation in enumerate((OBJ, PRONOUN)):
        asked = instances_by_hand(true, number)
        hits, expected, variance = 0.0, 0.0, 0.0
        for query, targets in asked:
            candidates = candidates_by_hand(true, relation, query)
            near = [word for word in candidates if true.sentence[word] == true.sentence[query]]
            pool = near if len(near) > len(targets) else candidates
            share = len(targets) / len(pool)
            inside = len(targets & set(pool))
            expected += inside * share
            variance += inside * share * (1 - share)
        for seed in range(4):
            pairs = zip(asked, instances_by_hand(shuffle_links(true, seed), number), strict=True)
            hits += sum(len(targets & drawn) for (_, targets), (_, drawn) in pairs)
        assert abs(hits - 4 * expected) < 4 * (4 * variance) ** 0.5
        assert variance > 50


def test_shuffled_links_depend_on_the_seed_only() -> None:
    true = found(1, [30, 30])
    one, two, other = (shuffle_links(true, seed) for seed in (3, 3, 4))
    assert np.array_equal(one.link_targets, two.link_targets)
    assert np.array_equal(one.word_classes, two.word_classes)
    assert not np.array_equal(one.link_targets, other.link_targets)


def test_shuffled_links_of_a_seed_equal_those_of_earlier_versions() -> None:
    """Runs keep the seed only; what was measured must be found again years later."""
    words = np.arange(40)
    fixed = replace(
        found(0, [40]),
        usable=np.ones(40, dtype=bool),
        form=words % 5,
        word_classes=(words % 6 == 5).astype(np.int64),
        link_relation=np.zeros(10, dtype=np.int64),
        link_query=words[30:],
        link_first=np.arange(11),
        link_targets=words[30:] - 1,
        sentence=words // 20,
    )
    shuffled = shuffle_links(fixed, 7)
    assert shuffled.link_targets.tolist() == [26, 30, 31, 24, 26, 27, 35, 25, 26, 22]
    assert np.flatnonzero(shuffled.word_classes).tolist() == [5, 6, 15, 20, 23, 37]
