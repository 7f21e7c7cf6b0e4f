"""Computations in pieces give the same results as on the whole text."""

import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headprobe.analysis import candidates as rows
from headprobe.analysis import distance_control as habit
from headprobe.analysis import pos_control as category_null
from headprobe.analysis import shuffled_links
from headprobe.analysis.baselines import BASELINES, BASELINES_OF_FAMILY, baseline_input
from headprobe.analysis.gains import BaselineHits, compute_baselines
from headprobe.analysis.pos_control import expected_attention, fit_preferences, surface_shifts
from headprobe.analysis.shuffled_links import shuffle_links
from headprobe.runs import instances as module
from headprobe.runs.instances import Instances, split_by_count
from headprobe.runs.sums import Tallies
from headprobe.vocabulary import CATEGORIES, DISTANCE_BINS, MAX_DISTANCE, UPOS, distance_bins
from tests.helpers.evidence import MARKS, RELATIONS, STOPS, random_instances, tallies_of

made = st.tuples(st.integers(0, 10_000), st.lists(st.integers(0, 40), min_size=1, max_size=8))


@contextmanager
def cut_to(size: int) -> Iterator[None]:
    """Every array of pairs or rows at most about so long."""
    with pytest.MonkeyPatch.context() as patch:
        for where in (module, shuffled_links):
            patch.setattr(where, "PAIRS", size)
        for where in (category_null, habit):
            patch.setattr(where, "HEADS", max(1, size // 300))
        patch.setattr(rows, "MAX_ENTRIES", max(1, size))
        yield


def drawn(seed: int, lengths: list[int]) -> tuple[Instances, Tallies]:
    rng = np.random.default_rng(seed)
    instances = random_instances(rng, lengths)
    profiles = {name: rng.random((1, 3, MAX_DISTANCE)) for name in ("profile", "profile_norm")}
    category = rng.random((CATEGORIES, 1, 3))
    return instances, tallies_of(instances, {}, 1, 3, category=category, **profiles)


@settings(max_examples=30, deadline=None)
@given(made, st.sampled_from([1, 30, 700]))
def test_pieces_add_up_to_the_whole(text: tuple[int, list[int]], size: int) -> None:
    instances, tallies = drawn(*text)
    preferences = fit_preferences(instances, tallies)
    chosen = np.array([2, 0])

    def found() -> tuple[BaselineHits, list[np.ndarray]]:
        shifts = surface_shifts(preferences, chosen), expected_attention(preferences)
        return compute_baselines(instances, tallies, preferences), [*shifts]

    whole, of_whole = found()
    with cut_to(size):
        cut, of_cut = found()
        shuffled = shuffle_links(instances, 7)
    for one, other in zip(whole.rules, cut.rules, strict=True):
        for name, baseline in one.baselines.items():
            np.testing.assert_array_equal(baseline.hits, other.baselines[name].hits, name)
            assert baseline.choice == other.baselines[name].choice
    for name, hits in whole.by_head.items():
        np.testing.assert_array_equal(hits, cut.by_head[name], name)
    np.testing.assert_array_equal(whole.category, cut.category)
    for name in ("expected", "share_norm", "share_by_document", "share_by_form"):
        one, other = (getattr(each.distance, name) for each in (whole, cut))
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)
    for one, other in zip(of_whole, of_cut, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
    assert np.array_equal(shuffled.link_targets, shuffle_links(instances, 7).link_targets)


@settings(max_examples=50, deadline=None)
@given(made, st.integers(1, 60))
def test_targets_of_each_instance_equal_a_loop(text: tuple[int, list[int]], size: int) -> None:
    instances, _ = drawn(*text)
    words = np.arange(len(instances.form))
    bits = {relation: bit for bit, relation in enumerate((MARKS, STOPS))}
    for number, relation in enumerate(RELATIONS):
        links = instances.of(number)
        targets = [
            links.targets[a:b].tolist() for a, b in zip(links.first, links.stop, strict=True)
        ]
        if relation.every:
            of_class = instances.usable & (instances.word_classes >> bits[relation] & 1 > 0)
            for query, theirs in zip(links.query, targets, strict=True):
                here = (instances.passage == instances.passage[query]) & (words < query)
                assert theirs == words[of_class & here].tolist()
        assert all(theirs for theirs in targets)
        assert links.nearest.tolist() == [theirs[-1] for theirs in targets]
        with cut_to(size):
            laid_out = list(links.pairs())
        expected = [(i, word) for i, theirs in enumerate(targets) for word in theirs]
        assert [pair for of, word in laid_out for pair in zip(of, word, strict=True)] == expected
        longest = max(map(len, targets), default=0)
        assert all(len(of) < size + longest for of, _ in laid_out)
        for shift in (-1, 0, 1, 5):
            asked_for = links.query - shift
            contained = [word in of for word, of in zip(asked_for, targets, strict=True)]
            assert links.contain(asked_for).tolist() == contained


@given(st.lists(st.integers(0, 9)), st.integers(1, 30))
def test_pieces_cover_an_axis(counts: list[int], most: int) -> None:
    found = list(split_by_count(np.array(counts, dtype=np.int64), most))
    assert [place for some in found for place in range(some.start, some.stop)] == [
        *range(len(counts))
    ]
    assert all(sum(counts[some]) < most + max(counts) for some in found if any(counts[some]))


def test_earlier_words_are_counted_by_distance_and_part_of_speech() -> None:
    instances = random_instances(np.random.default_rng(2), [3, 700, 0, 40])
    rows = category_null._rows(instances)
    entries = category_null._count_entries(rows)
    for row in np.random.default_rng(3).choice(len(rows.word), 60, replace=False).tolist():
        query = int(rows.word[row])
        expected = np.zeros(DISTANCE_BINS * len(UPOS), dtype=int)
        for word in range(int(instances.passage_first[instances.passage[query]]), query):
            if instances.usable[word]:
                bin_ = distance_bins()[min(query - word, MAX_DISTANCE)]
                expected[bin_ * len(UPOS) + instances.upos_number[word]] += 1
        of_row = slice(entries.edges[row], entries.edges[row + 1])
        assert dict(enumerate(expected)) == {
            **dict.fromkeys(range(len(expected)), 0),
            **dict(zip(entries.columns[of_row].tolist(), entries.counts[of_row], strict=True)),
        }


def test_pairs_of_words_and_earlier_marks_are_never_stored_together() -> None:
    """There are many more such pairs than words."""
    instances = random_instances(np.random.default_rng(4), [1500] * 4, (MARKS,))
    links = instances.of(0)
    pairs = int((links.stop - links.first).sum())
    kept = sum(len(getattr(links, name)) for name in ("query", "first", "stop", "targets"))
    assert kept <= 4 * len(instances.form) < pairs / 20
    rules = [*BASELINES.values(), *BASELINES_OF_FAMILY["coreference"].values()]
    with cut_to(1 << 13):
        tracemalloc.start()
        found = [rule(baseline_input(instances, links)) for rule in rules]
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert len(found) == 7 and peak < 4 * pairs
