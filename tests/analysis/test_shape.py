"""Means over rows, and output norms of heads."""

import numpy as np
import pytest

from headprobe.analysis.behaviour import head_statistics
from headprobe.runs.sums import Tallies
from headprobe.vocabulary import CATEGORIES, MAX_DISTANCE, UPOS
from tests.helpers.evidence import random_instances, tallies_of

DOMAINS = ["prose", "prose", "prose", "talk", "talk", "letter"]


def speaking(rng: np.random.Generator, loudness: np.ndarray, mean: float = 5.0) -> tuple:
    """Instances of six documents, tallies of heads [H] with outputs of such norms around a mean,
    and the outputs [C] of [rows, H, 2] themselves."""
    instances = random_instances(rng, [5] * 6, (), domains=DOMAINS)
    plain = tallies_of(instances, {}, 1, len(loudness))
    outputs = [
        mean + loudness[:, None] * rng.normal(size=(rng.integers(40, 90), len(loudness), 2))
        for _ in instances.cells
    ]
    sums = {
        "output_rows": np.array([len(each) for each in outputs]),
        "output_sum": np.array([each.sum(0) for each in outputs])[:, None],
        "output_square": np.array([np.square(each).sum((0, 2)) for each in outputs])[:, None],
        "residual_square": np.array([[100.0 * len(each)] for each in outputs]),
    }
    return instances, Tallies({**plain.arrays, **sums}), outputs


def spread(rows: np.ndarray) -> np.ndarray:
    return np.sqrt(np.square(rows - rows.mean(0)).sum(-1).mean(0))


def test_attention_to_nouns_verbs_and_adjectives_is_counted_from_pairs() -> None:
    rng = np.random.default_rng(5)
    instances = random_instances(rng, [5] * 6, (), domains=DOMAINS)
    category = rng.random((CATEGORIES, 1, 3))
    rows = np.array([[9, 4, 0]])
    plain = tallies_of(instances, {}, 1, 3).arrays
    tallies = Tallies({**plain, "category": category, "rows_stripped": rows})
    found = head_statistics(instances, tallies, 0.95)
    earlier = np.arange(CATEGORIES) % len(UPOS)
    for share, tags in (
        (found.nouns, ("NOUN", "PROPN")),
        (found.verbs, ("VERB",)),
        (found.adjectives, ("ADJ",)),
    ):
        of_class = np.isin(earlier, [UPOS.index(tag) for tag in tags])
        expected = category[of_class].sum(0)[0, :2] / rows[0, :2]
        np.testing.assert_allclose(share[0, :2], expected)
        assert np.isnan(share[0, 2])


def test_norms_equal_those_of_mean_removed_outputs() -> None:
    loudness = np.array([1.0, 0.1, 2.0, 1.1, 0.9])
    instances, tallies, outputs = speaking(np.random.default_rng(0), loudness)
    found = head_statistics(instances, tallies, 0.95)
    norms = spread(np.concatenate(outputs))
    np.testing.assert_allclose(found.output_norm[0], norms / np.median(norms))
    np.testing.assert_allclose(found.residual_share[0], norms / 10)
    assert found.domains == ("letter", "prose", "talk")
    for index, domain in enumerate(found.domains):
        cells = [cell for cell, (name, _) in enumerate(instances.cells) if name == domain]
        norms = spread(np.concatenate([outputs[cell] for cell in cells]))
        np.testing.assert_allclose(found.residual_by_domain[index, 0], norms / 10)
        assert (found.output_high[index, 0] > norms / np.median(norms)).sum() >= 4
    quiet = found.output_high[:, 0, 1]
    assert (quiet < 0.2).all() and (quiet > 0.1).all()


def test_upper_bounds_cover_the_true_norm() -> None:
    rng = np.random.default_rng(1)
    loudness = np.array([1.0, 0.25, 1.0, 1.0, 1.0, 1.0, 1.0])
    below = []
    for _ in range(120):
        instances, tallies, _ = speaking(rng, loudness)
        below.append(head_statistics(instances, tallies, 0.95).output_high[:, 0, 1] < 0.25)
    assert np.mean(below) < 0.05


def test_head_active_in_one_domain_only_has_wide_bounds_in_all() -> None:
    rng = np.random.default_rng(2)
    instances, tallies, _ = speaking(rng, np.array([1.0, 0.1, 1.0, 1.0]))
    letter = [index for index, (name, _) in enumerate(instances.cells) if name == "letter"]
    tallies["output_square"][letter, 0, 1] *= 4
    found = head_statistics(instances, tallies, 0.95)
    assert (found.output_high[:, 0, 1] > 0.3).all()


def test_one_document_gives_no_bounds_unless_the_output_is_zero() -> None:
    rng = np.random.default_rng(3)
    instances = random_instances(rng, [9, 9], (), documents=["same", "same"])
    tallies = tallies_of(instances, {}, 1, 3)
    square = np.array([[[1000.0, 0.0, 10.0]]])
    found = head_statistics(instances, Tallies({**tallies.arrays, "output_square": square}), 0.95)
    assert found.output_high[0, 0, 1] == 0
    assert np.isnan(found.output_high[0, 0, [0, 2]]).all()


def test_one_row_does_not_make_a_head_idle() -> None:
    """Its output less its mean is zero, whatever it is."""
    instances = random_instances(np.random.default_rng(7), [1], ())
    tallies = tallies_of(instances, {}, 1, 3)
    sums = np.zeros((1, 1, 3, 2))
    sums[0, 0, :, 0] = 2.0, 0.0, 3.0
    alone = {
        "output_rows": np.array([1]),
        "output_sum": sums,
        "output_square": np.square(sums).sum(-1),
        "residual_square": np.array([[1.0]]),
    }
    found = head_statistics(instances, Tallies({**tallies.arrays, **alone}), 0.95)
    assert found.output_high[0, 0, 1] == 0
    assert np.isnan(found.output_high[0, 0, [0, 2]]).all()


def test_domain_without_rows_is_ignored() -> None:
    instances, tallies, _ = speaking(np.random.default_rng(6), np.array([1.0, 0.1, 1.0]))
    letter = [index for index, (name, _) in enumerate(instances.cells) if name == "letter"]
    for name in ("output_rows", "output_sum", "output_square", "residual_square"):
        tallies[name][letter] = 0
    found = head_statistics(instances, tallies, 0.95)
    assert found.domains == ("prose", "talk") and not np.isnan(found.output_high).any()


def test_layer_in_which_most_heads_have_zero_output() -> None:
    instances, tallies, _ = speaking(np.random.default_rng(4), np.array([0.0, 0.0, 1.0]), mean=0)
    found = head_statistics(instances, tallies, 0.95)
    assert found.output_norm[0].tolist() == [0, 0, np.inf]
    assert (found.output_high[:, 0, :2] == 0).all()
    assert not (found.output_high[:, 0, 2] < 1e9).any()


def test_means_use_the_rows_they_belong_to() -> None:
    instances = random_instances(np.random.default_rng(5), [9], ())
    profile = np.arange(2.0 * MAX_DISTANCE).reshape(1, 2, MAX_DISTANCE)
    tallies = tallies_of(instances, {}, 1, 2, profile=profile)
    pairs = np.arange(MAX_DISTANCE) % 3
    found = head_statistics(instances, Tallies({**tallies.arrays, "profile_pairs": pairs}), 0.95)
    assert found.sink == pytest.approx(0.4) and found.distance == pytest.approx(0.5)
    assert found.profile[0, 1, :4].tolist() == [0, MAX_DISTANCE + 1, (MAX_DISTANCE + 2) / 2, 0]


def test_outputs_are_summed_by_domain_and_coarse_fold() -> None:
    documents = [f"d{number}" for number in range(300)]
    instances = random_instances(
        np.random.default_rng(9), [1] * 300, (), documents=documents, domains=["a", "b"] * 150
    )
    assert set(instances.document_fold.tolist()) > set(range(40))
    assert instances.cells == tuple((name, fold) for name in "ab" for fold in range(16))
    for passage, cell in enumerate(instances.cell):
        assert instances.cells[cell] == ("ab"[passage % 2], instances.document_fold[passage] % 16)
