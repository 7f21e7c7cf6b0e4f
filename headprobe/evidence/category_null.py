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
from typing import NamedTuple

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
from headprobe.store.instances import PAIRS, Instances, pieces
from headprobe.store.tallies import Tallies

ROUNDS = 12
"""Iterations of the fit; planted category heads are fitted to 1e-3 of their attention after 8."""

FAINTEST = np.float32(1e-20)
"""Tastes that are not zero are at least this, where the strongest is 1."""

ROWS, HEADS = 4096, 128
"""Rows and heads at a time, where an array has an axis of each."""

CACHED = 256
"""Rows at a time that are counted without leaving the processor's cache: four times as quick."""

_COLUMNS = DISTANCE_BINS * len(UPOS)
_SMALL = np.min_scalar_type(max(CATEGORIES, QUADRANTS * DEPREL_PAIRS))
"""Numbers of 16 bits are sorted in a tenth of the time."""

_BINS = distance_bins()
_NEAREST = np.searchsorted(_BINS[1:], np.arange(DISTANCE_BINS + 1)) + 1
"""The nearest distance of each bin; of what is beyond the last, any."""

Singles = NDArray[np.float32]


class _Rows(NamedTuple):
    """Usable words ``word`` [R], the ``first`` [R] word of their passage, their parts of speech
    ``upos`` [R], how many usable words stand ``earlier`` [R] in the passage, and how many of each
    UPOS stand ``before`` [W + 1, U] each word of the run."""

    word: Ints
    first: NDArray[np.integer]
    upos: NDArray[np.integer]
    earlier: Ints
    before: NDArray[np.int32]

    def counts(self, some: slice | Ints) -> Singles:
        """[R', K]: how many earlier words of ``some`` rows are in each column, a distance bin and a
        UPOS. Of all rows this would be gigabytes."""
        word, first = self.word[some], self.first[some]
        counts = np.empty((len(word), DISTANCE_BINS, len(UPOS)), dtype=np.float32)
        for low in range(0, len(word), CACHED):
            part = slice(low, low + CACHED)
            edges = np.maximum(word[part, None] - _NEAREST + 1, first[part, None])
            edges[:, -1] = first[part]
            before = self.before[edges]
            counts[part] = before[:, :-1] - before[:, 1:]
        return counts.reshape(len(word), _COLUMNS)


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
        order = np.lexsort((kind.astype(_SMALL), cell.astype(_SMALL)))
        cell, kind = cell[order], kind[order]
        edges = np.flatnonzero(np.diff(cell * CATEGORIES + kind, prepend=-1, append=-1))
        cell, kind = cell[edges[:-1]], kind[edges[:-1]]
        row = (pairs.row - pairs.rows.start)[order]
        members = sparse.csr_array(
            (np.ones(len(row), np.float32), row, edges), shape=(len(kind), len(share))
        )
        members.sum_duplicates()
        starts = np.flatnonzero(np.diff(cell, prepend=-1))
        cells = cell[starts]
        for first in range(0, heads, HEADS):
            some = slice(first, first + HEADS)
            attention = (members @ share[:, some]) * flat[kind, some]
            expected[cells, some] += np.add.reduceat(attention, starts, axis=0)
    return expected.reshape(QUADRANTS, DEPREL_PAIRS, heads)


def plain_shifts(fitted: CategoryTastes, chosen: Ints) -> Floats:
    """[J, O, M, N']: where each of J plain tastes (``evidence.plain_words``) would move the
    attention of ``by_category_alone`` of the heads ``chosen`` [N'], per unit of taste.

    The derivative of a softmax: attention times what the word has above its row's mean.
    """
    rows, tastes, cells = fitted.rows, fitted.tastes[:, chosen], QUADRANTS * DEPREL_PAIRS
    plain, by_head = PlainWords(fitted.instances), np.ascontiguousarray(tastes.T)
    shifts = np.zeros((len(chosen), cells, PlainWords.COUNT))
    for pairs in _pairs(rows.word, rows.earlier):
        share = _per_taste(rows, pairs.rows, tastes).T
        cell, kind = _kinds(fitted.instances, pairs)
        row, every = pairs.row - pairs.rows.start, np.arange(len(pairs.row))
        order = np.argsort(cell.astype(_SMALL), kind="stable")
        of_row = np.searchsorted(row, np.arange(share.shape[1] + 1))
        of_cell = np.searchsorted(cell[order], np.arange(cells + 1))
        row_in_order = row[order]
        values = np.array(plain.of(pairs.query, pairs.key), dtype=np.float64, order="C")
        for head, taste in enumerate(by_head):
            attention = (taste[kind] * share[head][row]).astype(np.float64)
            means = _sums(attention, every, of_row, values)
            attention = attention[order]
            shifts[head] += _sums(attention, order, of_cell, values)
            shifts[head] -= _sums(attention, row_in_order, of_cell, means)
    by_taste = np.moveaxis(shifts, (2, 0), (0, 2))
    return by_taste.reshape(PlainWords.COUNT, QUADRANTS, DEPREL_PAIRS, len(chosen))


def _sums(weights: Floats, places: Ints, edges: Ints, values: Floats) -> Floats:
    """[E, J]: of ``values`` [V, J] at the ``places`` [P] with their ``weights`` [P], the sums
    between each two ``edges`` [E + 1]."""
    members = sparse.csr_array((weights, places, edges), shape=(len(edges) - 1, len(values)))
    return np.asarray(members @ values)


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
    upos = instances.upos_number
    before = np.zeros((len(upos) + 1, len(UPOS)), dtype=np.int32)
    before[word + 1, upos[word]] = 1
    np.cumsum(before, axis=0, out=before)
    return _Rows(word, instances.passage_first[passage], upos[word], earlier, before)


def _pairs(word: Ints, earlier: Ints) -> Iterator[_Pairs]:
    """All pairs of a usable word and a usable earlier word of its passage, rows in order."""
    for some in pieces(earlier, PAIRS):
        counts = earlier[some]
        row = np.repeat(np.arange(some.start, some.stop), counts)
        place = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
        key = word[row - earlier[row] + place]
        if len(row):
            yield _Pairs(some, row, word[row], key)


def _fit(sums: Singles, rows: _Rows) -> Singles:
    """[Y, N]: the tastes of each head; of one query UPOS the largest is 1."""
    parts = len(UPOS)
    by_query = sums.reshape(DISTANCE_BINS, parts, parts, -1)
    tastes = np.zeros_like(by_query)
    for query in np.unique(rows.upos).tolist():
        chosen = np.flatnonzero(rows.upos == query)
        blocks = [chosen[first : first + ROWS] for first in range(0, len(chosen), ROWS)]
        got = by_query[:, query].reshape(_COLUMNS, -1)
        met = np.sum([rows.counts(block).sum(0, np.float64) for block in blocks], axis=0)
        fitted = _scaled(_ratio(got, met.astype(np.float32)[:, None]))
        for _ in range(ROUNDS):
            offered = np.zeros_like(fitted)
            for block in blocks:
                counts = rows.counts(block)
                offered += counts.T @ _ratio(np.float32(1), counts @ fitted)
            fitted = _scaled(_ratio(got, offered))
        tastes[:, query] = fitted.reshape(DISTANCE_BINS, parts, -1)
    return tastes.reshape(CATEGORIES, -1)


def _scaled(tastes: Singles) -> Singles:
    """[K, N]: the largest of each head 1, and none so small that its reciprocal overflows."""
    scaled = _ratio(tastes, tastes.max(axis=0, keepdims=True))
    return np.where(tastes > 0, np.maximum(scaled, FAINTEST), 0)


def _per_taste(rows: _Rows, some: slice, tastes: Singles) -> Singles:
    """[R', N]: one over the sum of the ``tastes`` [Y, N] in each of ``some`` rows."""
    counts, upos = rows.counts(some), rows.upos[some]
    by_query = tastes.reshape(DISTANCE_BINS, len(UPOS), len(UPOS), -1)
    share = np.zeros((len(counts), by_query.shape[-1]), np.float32)
    for query in np.unique(upos).tolist():
        chosen = upos == query
        of_columns = by_query[:, query].reshape(_COLUMNS, -1)
        share[chosen] = _ratio(np.float32(1), counts[chosen] @ of_columns)
    return share


def _kinds(instances: Instances, pairs: _Pairs) -> tuple[Ints, Ints]:
    """[P]: the cell (quadrant, deprel pair) and the category of each pair."""

    def ends(of_words: NDArray[np.integer]) -> tuple[Ints, Ints]:
        return of_words[pairs.query].astype(np.int64), of_words[pairs.key].astype(np.int64)

    document = instances.document_fold[instances.passage[pairs.query]].astype(np.int64)
    quarter = quadrant(document, instances.form_fold[pairs.key].astype(np.int64))
    cell = quarter * DEPREL_PAIRS + deprel_pair(*ends(instances.deprel))
    distance = _BINS[np.minimum(pairs.query - pairs.key, LONGEST)]
    return cell, category(distance, *ends(instances.upos_number))


def _ratio(values: Singles | np.float32, by: Singles) -> Singles:
    """``values / by``, 0 where ``by`` is."""
    shape = np.broadcast_shapes(np.shape(values), by.shape)
    by = np.broadcast_to(by, shape)
    return np.asarray(np.divide(values, by, out=np.zeros(shape, np.float32), where=by > 0))
