"""Null sets are distinct, disjoint from the set tested, and have its layers."""

from collections import Counter

import numpy as np

from headprobe.causal.null_sets import layer_sets, matched_sets

TESTED = ((1, 0), (1, 2), (3, 5))


def layers(heads) -> Counter:
    return Counter(layer for layer, _ in heads)


def test_sets_by_layer() -> None:
    null = layer_sets(TESTED, 8, 99, np.random.default_rng(0))
    assert len(set(null.sets)) == len(null.sets) == 99
    assert not null.exact
    for heads in null.sets:
        assert layers(heads) == layers(TESTED)
        assert not set(heads) & set(TESTED)


def test_all_sets_where_few_exist() -> None:
    null = layer_sets(((0, 1), (2, 3)), 9, 99, np.random.default_rng(0))
    assert null.exact
    assert len(set(null.sets)) == len(null.sets) == 64


def test_matched_sets_avoid_the_role_and_other_norms() -> None:
    norms = {(layer, head): 1.0 + head / 40 for layer in range(4) for head in range(8)}
    norms[1, 1] = 9.0
    null = matched_sets(TESTED, 8, norms, [(1, 3)], 99, np.random.default_rng(0), 0.25)
    used = {head for heads in null.sets for head in heads}
    assert null.sets
    assert not used & {(1, 1), (1, 3), *TESTED}
    assert all(layers(heads) == layers(TESTED) for heads in null.sets)
