"""What a head would score by distance and parts of speech alone (METHOD section 3, ``category``).

A category of word pairs (``store.categories``) is a distance, a part of speech of the query and one
of the earlier word. Two rules choose the candidate of the category with the largest value; of
equally large ones, and among the words of one category, the nearer word:

- ``mean``: the head's mean stripped attention at the category;
- ``taste``: what it gives the category against its rivals in the same rows
  (``evidence.category_null``). Means are large where rows are short or rivals are few, and rank a
  head's tastes wrongly: of heads made of nothing but category tastes, a third "beat" their means on
  coreference, and one in fifty their tastes.

A harder control than the baselines, reported beside them and never merged with them.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from headprobe.evidence.arrays import Floats, Ints
from headprobe.evidence.candidates import Candidates, target_table
from headprobe.evidence.category_null import CategoryTastes
from headprobe.evidence.groups import GroupedInstances, length_of_groups
from headprobe.evidence.rows import shared_rows
from headprobe.evidence.sums import divide
from headprobe.store.categories import CATEGORIES, DISTANCE_BINS, UPOS, category, distance_bins
from headprobe.store.instances import Instances

_KINDS = DISTANCE_BINS * len(UPOS)
"""Categories that one query word can meet: the most rivals that differ."""


def category_hits(
    instances: Instances, relations: Sequence[GroupedInstances], fitted: CategoryTastes
) -> Floats:
    """[2, R, S, N]: hits of the two rules, mean and taste, for each head, exactly, without a second
    pass of the model.

    For each query word it is enough to look at the nearest candidate of each category.
    """
    pairs = pair_counts(instances)
    met = np.flatnonzero(pairs)
    means = divide(fitted.sums[met], pairs[met, None].astype(np.float64))
    values = (means, fitted.tastes[met])
    both = [_ranks(of_rule) for of_rule in values]
    rank_of = np.full(CATEGORIES, len(met), dtype=np.int64)
    rank_of[met] = np.arange(len(met))
    heads = fitted.sums.shape[1]
    hits = np.zeros((len(both), len(relations), length_of_groups(instances), heads))
    for rows, asking in shared_rows(instances, relations, heads):
        rivals = _nearest_of_each(rows)
        numbers = np.where(rivals.there, rank_of[rivals.category], len(met))
        chosen = [_favourites(numbers, ranks) for ranks in both]
        for number, relation, some, row in asking:
            targets = target_table(relation.asked, some, int(rows.extent.max(initial=1)))
            is_target = np.take_along_axis(targets, rivals.distance[row] - 1, axis=1)
            for of_rule, favourites in zip(hits, chosen, strict=True):
                found = np.take_along_axis(is_target, favourites[row], axis=1)
                of_rule[number] += relation.sums_of_some(some, found)
    return hits


def pair_counts(instances: Instances) -> Ints:
    """[Y]: pairs of a usable word and a usable earlier word of its passage, by category."""
    counts = np.zeros(CATEGORIES, dtype=np.int64)
    longest = int(np.diff(instances.passage_first).max(initial=0))
    bins, upos = distance_bins(longest), instances.upos_number.astype(np.int64)
    for distance in range(1, longest):
        pair = instances.usable[distance:] & instances.usable[:-distance]
        pair &= instances.passage[distance:] == instances.passage[:-distance]
        kinds = category(bins[distance], upos[distance:][pair], upos[:-distance][pair])
        counts += np.bincount(kinds, minlength=CATEGORIES)
    return counts


class _Rivals(NamedTuple):
    """The nearest candidate of each category that a query word meets, nearest first, [Q, C]:
    whether there is one so many, its distance (1 where there is none) and its category."""

    there: NDArray[np.bool_]
    distance: Ints
    category: Ints


def _nearest_of_each(rows: Candidates) -> _Rivals:
    widest = int(rows.extent.max(initial=1))
    bins = distance_bins(widest)

    def upos(of_words: Ints) -> Ints:
        return rows.instances.upos_number[of_words].astype(np.int64)

    words = rows.query[:, None] - np.arange(1, widest + 1)
    row, column = np.nonzero(rows.contain(np.maximum(words, 0)) & (words >= 0))
    kind = bins[column + 1] * len(UPOS) + upos(words[row, column])
    nearest = np.full(len(words) * _KINDS, widest + 1, dtype=np.int32)
    # of several words of one kind the last that is written stays: the nearest
    nearest[(row * _KINDS + kind)[::-1]] = (column + 1)[::-1]
    ordered = np.sort(nearest.reshape(-1, _KINDS), axis=1)
    most = int((ordered <= widest).sum(1).max(initial=1))
    there = ordered[:, :most] <= widest
    distance = np.where(there, ordered[:, :most], 1).astype(np.int64)
    query = rows.query[:, None]
    return _Rivals(there, distance, category(bins[distance], upos(query), upos(query - distance)))


def _ranks(values: NDArray[np.floating]) -> NDArray[np.int32]:
    """[Y' + 1, N]: values [Y', N] as whole numbers in the same order head by head, equal where
    these are, ``_KINDS`` apart; the last row is below all."""
    by_head = np.ascontiguousarray(values.T)
    order = by_head.argsort(axis=1)
    ascending = np.take_along_axis(by_head, order, axis=1)
    rises = np.diff(ascending, axis=1, prepend=ascending[:, :1]) > 0
    ranks = np.empty(by_head.shape, dtype=np.int32)
    np.put_along_axis(ranks, order, np.cumsum(rises, axis=1, dtype=np.int32), axis=1)
    padded = np.pad(ranks, ((0, 0), (0, 1)), constant_values=-1)
    return np.ascontiguousarray(padded.T) * np.int32(_KINDS)


def _favourites(rivals: Ints, ranks: NDArray[np.int32]) -> NDArray[np.intp]:
    """[Q, N]: which of the rivals [Q, C], rows of ``ranks``, each head prefers: the first of the
    highest rank. Rank and place are one number, so that the largest says both."""
    best = np.full((len(rivals), ranks.shape[1]), -1, dtype=np.int32)
    value = np.empty_like(best)
    for place in range(rivals.shape[1]):
        np.take(ranks, rivals[:, place], axis=0, out=value, mode="clip")
        value += np.int32(_KINDS - 1 - place)
        np.maximum(best, value, out=best)
    return _KINDS - 1 - best.astype(np.intp) % _KINDS
