"""Attention as distance and parts of speech alone would spread it.

A row that knows of each earlier word its category only (``store.categories``) gives it a share
``w(y) / sum over the row of w``: a softmax over category tastes, as attention itself is one.
Category means will not do instead. Rows with few words, or without a rival of a favoured category,
give each word more, and that differs by dependency label: heads made of category tastes alone then
show label tastes that agree over any split (measured: agreement .6 with means, 0 with this).
The tastes of a head are fitted so that every category gets what it got, by the iteration for
Plackett-Luce models (Hunter 2004): ``w(y) <- got(y) / sum over rows of count(y) / sum(count * w)``.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from headprobe.axes import LONGEST
from headprobe.evidence.arrays import Floats, Ints
from headprobe.evidence.plain_words import PlainWords
from headprobe.evidence.sums import floats
from headprobe.store.categories import (
    CATEGORIES,
    DEPREL_PAIRS,
    DISTANCE_BINS,
    QUADRANTS,
    UPOS,
    category,
    deprel_pair,
    distance_bins,
    quadrant,
)
from headprobe.store.instances import Instances
from headprobe.store.tallies import Tallies

ROUNDS = 12
"""Iterations of the fit; planted category heads are fitted to 1e-3 of their attention after 8."""

PAIRS = 1 << 18
"""Word pairs at a time."""

FAINTEST = np.float32(1e-20)
"""Tastes that are not zero are at least this, where the strongest is 1."""

ROWS, HEADS = 4096, 128
"""Rows and heads at a time, where an array has an axis of each."""

FEW = 4
"""Heads at a time, where an array has an axis of pairs and one of plain tastes."""

_COLUMNS = DISTANCE_BINS * len(UPOS)
_BINS = distance_bins()

Singles = NDArray[np.float32]


class _Rows(NamedTuple):
    """Usable words ``word`` [R], their parts of speech ``upos`` [R], how many usable words stand
    ``earlier`` [R] in the passage, and how many of them are in each column, a distance bin and a
    UPOS: ``counts`` [R, K]."""

    word: Ints
    upos: Ints
    earlier: Ints
    counts: sparse.csr_array


@dataclass(frozen=True)
class CategoryTastes:
    """The ``tastes`` [Y, N] fitted to heads whose stripped attention at each category is ``sums``
    [Y, N], with the rows that they were fitted on."""

    instances: Instances
    sums: Floats
    tastes: Singles
    rows: _Rows


def fit_tastes(instances: Instances, tallies: Tallies) -> CategoryTastes:
    """The tastes of all heads of a run: the larger part of the work here, done once."""
    sums = floats(tallies, "category").reshape(CATEGORIES, -1)
    rows = _rows(instances)
    return CategoryTastes(instances, sums, _fit(sums.astype(np.float32), rows), rows)


def by_category_alone(fitted: CategoryTastes) -> Floats:
    """[O, M, N]: the attention of each deprel pair in each quadrant that the tastes imply."""
    rows, flat, heads = fitted.rows, fitted.tastes, fitted.tastes.shape[1]
    expected = np.zeros((QUADRANTS * DEPREL_PAIRS, heads))
    for pairs in _pairs(rows.word, rows.earlier):
        share = _per_taste(rows, pairs.rows, flat)
        cell, kind = _kinds(fitted.instances, pairs)
        both, order = np.unique(cell * CATEGORIES + kind, return_inverse=True)
        members = sparse.csr_array(
            (np.ones(len(order), np.float32), (order, pairs.row - pairs.rows.start)),
            shape=(len(both), len(share)),
        )
        starts = np.flatnonzero(np.diff(both // CATEGORIES, prepend=-1))
        cells = both[starts] // CATEGORIES
        for first in range(0, heads, HEADS):
            some = slice(first, first + HEADS)
            attention = (members @ share[:, some]) * flat[both % CATEGORIES, some]
            expected[cells, some] += np.add.reduceat(attention, starts, axis=0)
    return expected.reshape(QUADRANTS, DEPREL_PAIRS, heads)


def plain_shifts(fitted: CategoryTastes, chosen: Ints) -> Floats:
    """[J, O, M, N']: where each of J plain tastes (``evidence.plain_words``) would move the
    attention of ``by_category_alone`` of the heads ``chosen`` [N'], per unit of taste.

    The derivative of a softmax: attention times what the word has above its row's mean.
    """
    rows, flat, heads = fitted.rows, fitted.tastes[:, chosen], len(chosen)
    plain = PlainWords(fitted.instances)
    shifts = np.zeros((QUADRANTS * DEPREL_PAIRS, PlainWords.COUNT, heads))
    for pairs in _pairs(rows.word, rows.earlier):
        share = _per_taste(rows, pairs.rows, flat)
        cell, kind = _kinds(fitted.instances, pairs)
        row = pairs.row - pairs.rows.start
        of_row, of_cell = (
            sparse.csr_array(
                (np.ones(len(row), np.float32), (place, np.arange(len(row)))),
                shape=(size, len(row)),
            )
            for place, size in ((row, len(share)), (cell, len(shifts)))
        )
        values = plain.of(pairs.query, pairs.key)
        for first in range(0, heads, FEW):
            some = slice(first, first + FEW)
            attention = flat[kind, some] * share[row, some]
            moved = (attention[:, None] * values[..., None]).reshape(len(row), -1)
            means = (of_row @ moved).reshape(len(share), -1, attention.shape[1])
            moved -= (attention[:, None] * means[row]).reshape(len(row), -1)
            shifts[..., some] += (of_cell @ moved).reshape(-1, *means.shape[1:])
    by_taste = np.moveaxis(shifts, 1, 0)
    return by_taste.reshape(PlainWords.COUNT, QUADRANTS, DEPREL_PAIRS, heads)


class _Pairs(NamedTuple):
    """Pairs of some ``rows``: the row [P], and the two word numbers [P]."""

    rows: slice
    row: Ints
    query: Ints
    key: Ints


def _rows(instances: Instances) -> _Rows:
    word = np.flatnonzero(instances.usable)
    passage = instances.passage[word]
    earlier = np.arange(len(word)) - np.searchsorted(passage, passage)
    upos = instances.upos_number.astype(np.int64)
    return _Rows(word, upos[word], earlier, _compose(upos, word, earlier))


def _pairs(word: Ints, earlier: Ints) -> Iterator[_Pairs]:
    """All pairs of a usable word and a usable earlier word of its passage, rows in order."""
    chunk = (np.cumsum(earlier) - earlier) // PAIRS
    edges = [*np.flatnonzero(np.diff(chunk, prepend=-1)).tolist(), len(chunk)]
    for low, high in pairwise(edges):
        counts = earlier[low:high]
        row = np.repeat(np.arange(low, high), counts)
        place = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
        key = word[row - earlier[row] + place]
        if len(row):
            yield _Pairs(slice(low, high), row, word[row], key)


def _compose(upos: Ints, word: Ints, earlier: Ints) -> sparse.csr_array:
    """``_Rows.counts``."""
    blocks: list[Any] = [sparse.csr_array((0, _COLUMNS), dtype=np.float32)]
    edge = 0
    for pairs in _pairs(word, earlier):
        column = _BINS[np.minimum(pairs.query - pairs.key, LONGEST)] * len(UPOS) + upos[pairs.key]
        ones = np.ones(len(column), np.float32)
        shape = (pairs.rows.stop - edge, _COLUMNS)
        blocks.append(sparse.csr_array((ones, (pairs.row - edge, column)), shape=shape))
        edge = pairs.rows.stop
    blocks.append(sparse.csr_array((len(word) - edge, _COLUMNS), dtype=np.float32))
    return sparse.csr_array(sparse.vstack(blocks, format="csr"))


def _fit(sums: Singles, rows: _Rows) -> Singles:
    """[Y, N]: the tastes of each head; of one query UPOS the largest is 1."""
    parts = len(UPOS)
    by_query = sums.reshape(DISTANCE_BINS, parts, parts, -1)
    tastes = np.zeros_like(by_query)
    for query in np.unique(rows.upos).tolist():
        chosen = rows.counts[np.flatnonzero(rows.upos == query)]
        got = by_query[:, query].reshape(_COLUMNS, -1)
        fitted = _scaled(_ratio(got, np.asarray(chosen.sum(axis=0), dtype=np.float32)[:, None]))
        for _ in range(ROUNDS):
            offered = np.zeros_like(fitted)
            for first in range(0, chosen.shape[0], ROWS):
                block = chosen[first : first + ROWS].toarray()
                offered += block.T @ _ratio(np.float32(1), block @ fitted)
            fitted = _scaled(_ratio(got, offered))
        tastes[:, query] = fitted.reshape(DISTANCE_BINS, parts, -1)
    return tastes.reshape(CATEGORIES, -1)


def _scaled(tastes: Singles) -> Singles:
    """[K, N]: the largest of each head 1, and none so small that its reciprocal overflows."""
    scaled = _ratio(tastes, tastes.max(axis=0, keepdims=True))
    return np.where(tastes > 0, np.maximum(scaled, FAINTEST), 0)


def _per_taste(rows: _Rows, some: slice, tastes: Singles) -> Singles:
    """[R', N]: one over the sum of the ``tastes`` [Y, N] in each of ``some`` rows."""
    counts, upos = rows.counts[some].toarray(), rows.upos[some]
    by_query = tastes.reshape(DISTANCE_BINS, len(UPOS), len(UPOS), -1)
    share = np.zeros((len(counts), by_query.shape[-1]), np.float32)
    for query in np.unique(upos).tolist():
        chosen = upos == query
        of_columns = by_query[:, query].reshape(_COLUMNS, -1)
        share[chosen] = _ratio(np.float32(1), counts[chosen] @ of_columns)
    return share


def _kinds(instances: Instances, pairs: _Pairs) -> tuple[Ints, Ints]:
    """[P]: the cell (quadrant, deprel pair) and the category of each pair."""
    upos, deprel = (array.astype(np.int64) for array in (instances.upos_number, instances.deprel))
    documents, forms = (
        array.astype(np.int64) for array in (instances.document_fold, instances.form_fold)
    )
    quarter = quadrant(documents[instances.passage[pairs.query]], forms[pairs.key])
    cell = quarter * DEPREL_PAIRS + deprel_pair(deprel[pairs.query], deprel[pairs.key])
    distance = _BINS[np.minimum(pairs.query - pairs.key, LONGEST)]
    return cell, category(distance, upos[pairs.query], upos[pairs.key])


def _ratio(values: Singles | np.float32, by: Singles) -> Singles:
    """``values / by``, 0 where ``by`` is."""
    shape = np.broadcast_shapes(np.shape(values), by.shape)
    by = np.broadcast_to(by, shape)
    return np.asarray(np.divide(values, by, out=np.zeros(shape, np.float32), where=by > 0))
