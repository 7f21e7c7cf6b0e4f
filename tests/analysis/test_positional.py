"""Positional evidence of heads that attend by distance, by length, or by content."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headprobe.analysis import behaviour as module
from headprobe.analysis.behaviour import Positional, positional_evidence
from headprobe.runs.instances import Instances
from headprobe.runs.sums import Tallies
from headprobe.vocabulary import MAX_DISTANCE
from tests.helpers.evidence import PRONOUN, candidates_by_hand, random_instances

MIN_KEPT = 0.05


def sampled(seed: int, lengths: list[int]) -> Instances:
    instances = random_instances(np.random.default_rng(seed), lengths, ())
    rows = np.flatnonzero(instances.usable & (instances.place > 0))
    return replace(instances, sampled_words=rows.astype(np.int64))


def winners(instances: Instances, values: np.ndarray) -> Tallies:
    """Every sampled row looks at the earlier usable word of the largest value, ``values`` [A, W]
    by head, the words counted through the run; a tie is nobody's."""
    found = np.zeros((len(instances.sampled_words), 1, len(values)), dtype=np.int32)
    for row, query in enumerate(instances.sampled_words.tolist()):
        words = candidates_by_hand(instances, PRONOUN, query)
        for head, by_row in enumerate(values):
            best = [word for word in words if by_row[row, word] == by_row[row, words].max()]
            if len(best) == 1:
                found[row, 0, head] = 1 + instances.place[best[0]]
    return Tallies({"sampled_winner": found, "sampled_kept": (found > 0).astype(np.float32)})


def judged(instances: Instances, values: np.ndarray, profile: np.ndarray) -> Positional:
    sums = dict(winners(instances, values).arrays)
    sums["profile"] = profile[None]
    sums["profile_pairs"] = np.ones(MAX_DISTANCE)
    return positional_evidence(instances, Tallies(sums), MIN_KEPT)


def by_distance(instances: Instances, profile: np.ndarray) -> np.ndarray:
    """[A, W]: the profile's value of each word, whatever it is."""
    away = np.clip(
        instances.sampled_words[:, None] - np.arange(len(instances.form)), 1, MAX_DISTANCE
    )
    return np.asarray(profile[away - 1])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 3))
def test_head_of_its_distance_profile_alone_is_fully_explained(seed: int, rows: int) -> None:
    instances = sampled(seed, [2, 19, 1, 33])
    profile = np.random.default_rng(seed).permutation(MAX_DISTANCE).astype(float)[None]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "ROWS", rows)
        positional = judged(instances, by_distance(instances, profile[0])[None], profile)
    assert positional.rows[0, 0] > 0
    assert positional.explained[0, 0] == 1
    assert positional.strength[0, 0] == pytest.approx(1) or positional.by_length[0, 0] == 1


def test_rows_in_which_a_head_is_inactive_do_not_count() -> None:
    """Most rows of an agreement head rest, and what trickles to words there falls with distance."""
    instances = sampled(5, [60] * 4)
    profile = np.exp(-np.arange(MAX_DISTANCE) / 9.0)
    taste = np.random.default_rng(5).random(len(instances.form))
    shape = (len(instances.sampled_words), len(taste))
    at_work = np.arange(shape[0]) % 10 == 0
    values = np.where(at_work[:, None], taste, by_distance(instances, profile))
    sums = dict(winners(instances, values[None]).arrays)
    sums["profile"] = profile[None, None]
    sums["profile_pairs"] = np.ones(MAX_DISTANCE)
    assert positional_evidence(instances, Tallies(sums), MIN_KEPT).explained > 0.9
    sums["sampled_kept"] = np.where(at_work, 1.0, 1e-9).astype(np.float32)[:, None, None]
    found = positional_evidence(instances, Tallies(sums), MIN_KEPT)
    assert found.rows <= at_work.sum() and found.explained < 0.5


def test_profile_weighted_by_number_of_tokens_is_also_a_habit() -> None:
    """The better rule is taken over all rows, not row by row."""
    instances = sampled(1, [60, 60])
    profile = np.exp(-np.arange(MAX_DISTANCE) / 9.0)[None] * (
        1 + 1e-6 * np.arange(MAX_DISTANCE) % 7
    )
    plain = by_distance(instances, profile[0])
    values = np.stack([plain * instances.tokens, plain])
    positional = judged(instances, values, np.repeat(profile, 2, axis=0))
    assert positional.explained.tolist() == [[1, 1]]


def test_content_and_length_alone_are_not_a_habit() -> None:
    rng = np.random.default_rng(2)
    instances = sampled(2, [60] * 8)
    shape = (len(instances.sampled_words), len(instances.form))
    taste = np.broadcast_to(rng.random(len(instances.form)), shape)
    length = np.broadcast_to(instances.tokens + 0.5 * rng.random(shape), shape)
    even = np.ones(shape)
    flat = np.ones((3, MAX_DISTANCE)) + 1e-6 * np.arange(MAX_DISTANCE, 0, -1)
    positional = judged(instances, np.stack([taste, length, even]), flat)
    assert positional.explained[0, 0] < 0.3 and positional.gain[0, 0] < 0.1
    assert positional.gain[0, 1] < 0.1
    # nobody wins where all words are alike, but in rows with one word to look at
    alone = [
        len(candidates_by_hand(instances, PRONOUN, query)) == 1
        for query in instances.sampled_words.tolist()
    ]
    assert positional.rows[0, 2] == sum(alone)
    assert positional.by_length[0, 2] == positional.explained[0, 2] == 1
    assert not positional.gain[0, 2] > 0


def test_even_attention_selects_the_longest_words_and_splits_ties() -> None:
    instances = sampled(3, [25])
    values = np.random.default_rng(0).random((1, len(instances.sampled_words), 25))
    positional = judged(instances, values, np.ones((1, MAX_DISTANCE)))
    tallied, score = winners(instances, values)["sampled_winner"][:, 0, 0], []
    for winner, query in zip(tallied, instances.sampled_words.tolist(), strict=True):
        words = candidates_by_hand(instances, PRONOUN, query)
        most = [word for word in words if instances.tokens[word] == instances.tokens[words].max()]
        if winner:
            score.append((winner - 1 in most) / len(most))
    assert positional.by_length[0, 0] == pytest.approx(np.mean(score))


def test_value_is_missing_without_rows() -> None:
    instances = replace(sampled(4, [9]), sampled_words=np.zeros(0, dtype=np.int64))
    positional = judged(instances, np.zeros((2, 0, 9)), np.ones((2, MAX_DISTANCE)))
    assert positional.rows.tolist() == [[0, 0]] and np.isnan(positional.explained).all()
