"""Random sets of heads, against which the effect of a set is judged (docs/causal.md).

A null set has as many heads in each layer as the set tested, and none of its heads. A *matched*
null set replaces each head by one of the same layer with a similar output norm and without the role
tested. Sets are distinct. Where few exist, all are used.
"""

import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np

from headprobe.causal.ablation import Head

ENUMERATED = 20_000
"""Up to so many assignments of matched heads are enumerated; of more, sets are drawn."""

DRAWS_PER_SET = 50
"""How often a set is drawn, on average, before the search for distinct sets ends."""


@dataclass(frozen=True)
class NullSets:
    """Random sets of one kind."""

    sets: tuple[tuple[Head, ...], ...]
    exact: bool
    """Whether these are all the sets that exist."""


def layer_sets(
    tested: Sequence[Head], n_heads: int, count: int, rng: np.random.Generator
) -> NullSets:
    """Return up to ``count`` sets with as many heads in each layer as ``tested``."""
    per_layer = Counter(layer for layer, _ in tested)
    free = {
        layer: [(layer, head) for head in range(n_heads) if (layer, head) not in set(tested)]
        for layer in per_layer
    }
    exist = math.prod(math.comb(len(free[at]), k) for at, k in per_layer.items())
    if exist <= count:
        parts = [combinations(free[layer], k) for layer, k in sorted(per_layer.items())]
        return NullSets(tuple(_joined(each) for each in product(*parts)), exact=True)

    def draw() -> tuple[Head, ...]:
        chosen: list[Head] = []
        for layer, k in sorted(per_layer.items()):
            places = rng.choice(len(free[layer]), k, replace=False)
            chosen += [free[layer][int(place)] for place in places]
        return tuple(sorted(chosen))

    return NullSets(_distinct(draw, count), exact=False)


def matched_sets(
    tested: Sequence[Head],
    n_heads: int,
    output_norm: Mapping[Head, float],
    with_role: Collection[Head],
    count: int,
    rng: np.random.Generator,
    distance: float,
) -> NullSets:
    """Return up to ``count`` sets in which each head of ``tested`` is replaced by a matched one.

    The logarithms of output norms of matched heads differ by at most ``distance``.
    """
    taken = set(tested) | set(with_role)
    options = [
        [
            (layer, other)
            for other in range(n_heads)
            if (layer, other) not in taken
            and _similar(output_norm[layer, other], output_norm[layer, head], distance)
        ]
        for layer, head in tested
    ]
    assignments = math.prod(len(each) for each in options)
    if assignments <= ENUMERATED:
        exist = {tuple(sorted(each)) for each in product(*options) if len(set(each)) == len(tested)}
        if len(exist) <= count:
            return NullSets(tuple(sorted(exist)), exact=True)
        order = rng.permutation(len(exist))[:count]
        listed = sorted(exist)
        return NullSets(tuple(listed[int(place)] for place in order), exact=False)

    def draw() -> tuple[Head, ...] | None:
        chosen = {each[int(rng.integers(len(each)))] for each in options}
        return tuple(sorted(chosen)) if len(chosen) == len(tested) else None

    return NullSets(_distinct(draw, count), exact=False)


def _similar(one: float, other: float, distance: float) -> bool:
    return one > 0 and other > 0 and abs(math.log(one / other)) <= distance


def _joined(parts: Sequence[tuple[Head, ...]]) -> tuple[Head, ...]:
    return tuple(sorted(head for part in parts for head in part))


def _distinct(
    draw: Callable[[], tuple[Head, ...] | None], count: int
) -> tuple[tuple[Head, ...], ...]:
    """Draw until there are ``count`` distinct sets, at most ``DRAWS_PER_SET`` times as often."""
    draws = (draw() for _ in range(count * DRAWS_PER_SET))
    sets: dict[tuple[Head, ...], None] = {}
    for each in draws:
        if each is not None:
            sets[each] = None
        if len(sets) == count:
            break
    return tuple(sets)
