"""Changes of heads between two runs of one model."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from headprobe.analysis.changes import (
    Gain,
    MeasuredHits,
    independent_change,
    paired_change,
)
from headprobe.analysis.groups import group_instances
from headprobe.analysis.intervals import interval
from headprobe.runs.instances import Instances
from headprobe.runs.sums import pack_heads
from tests.helpers.evidence import random_instances

RNG = np.random.default_rng(3)


def test_difference_of_independent_gains_is_that_of_welch() -> None:
    """Against scipy's test of two samples."""
    one, other = RNG.normal(0.3, 0.2, 12), RNG.normal(0.45, 0.5, 30)
    expected = stats.ttest_ind(other, one, equal_var=False)
    gains = []
    for sample in (one, other):
        error, degrees = stats.sem(sample), len(sample) - 1
        reach = stats.t.ppf(0.975, degrees) * error
        gains.append(
            Gain(np.array([sample.mean()]), np.array([sample.mean() + reach]), np.array([degrees]))
        )
    found = independent_change(*gains, 0.95)
    ends = expected.confidence_interval(0.95)
    assert found.mean[0] == pytest.approx(other.mean() - one.mean())
    assert found.p[0] == pytest.approx(expected.pvalue)
    assert (found.low[0], found.high[0]) == pytest.approx((ends.low, ends.high))


def some_instances() -> Instances:
    return random_instances(np.random.default_rng(8), [40, 30, 50, 40, 35, 45])


def measured(instances: Instances, hits: np.ndarray) -> MeasuredHits:
    return MeasuredHits(instances, pack_heads(hits), hits.shape[1])


def test_paired_change_is_the_interval_of_the_differences() -> None:
    instances = some_instances()
    count, heads = int(instances.first_instance[-1]), 11
    one, other = RNG.random((2, count, heads)) < 0.4
    index = max(range(len(instances.relations)), key=lambda i: len(instances.of(i)))
    links, numbers = instances.of(index), instances.numbers(index)
    chosen = np.array([7, 2])
    found, n = paired_change(
        measured(instances, one), measured(instances, other), (index, index), chosen, 0.95, 10
    )
    assert n == len(links) > 20
    difference = other[numbers].astype(int) - one[numbers]
    assert found.mean == pytest.approx(difference.mean(0)[chosen])
    grouped = group_instances(instances, links, 10)
    expected = interval(grouped.sums(difference[:, chosen]), grouped.cells, 0.95)
    np.testing.assert_allclose(found.low, expected.low)
    np.testing.assert_allclose(found.high, expected.high)


def test_instances_are_paired_by_name() -> None:
    """Passages in another order, and some of them missing."""
    instances = some_instances()
    relations = range(len(instances.relations))
    index = max(relations, key=lambda i: len(instances.of(i)))
    renamed = replace(instances, passage_documents=instances.passage_documents.copy())
    gone = str(instances.passage_documents[0])
    renamed.passage_documents[instances.passage_documents == gone] = "another"
    hits = RNG.random((int(instances.first_instance[-1]), 3)) < 0.5
    kept = instances.passage_documents[instances.passage[instances.of(index).query]] != gone
    found, n = paired_change(
        measured(instances, hits), measured(renamed, hits), (index, index), np.arange(3), 0.95, 10
    )
    assert 0 < n == kept.sum() < len(kept)
    assert not found.mean.any()
    assert (found.p == 1).all()
