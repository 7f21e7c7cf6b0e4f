"""What a head would score by distance and parts of speech alone (METHOD section 3, ``category``).

A category of word pairs (``vocabulary``) is a distance, a part of speech of the query and one
of the earlier word. Two rules choose the candidate of the category with the largest value; of
equally large ones, and among the words of one category, the nearer word:

- ``mean``: the head's mean stripped attention at the category;
- ``preference``: what it gives the category against its rivals in the same rows
  (``analysis.pos_control``). Means are large where rows are short or rivals are few, and rank a
  head's tastes wrongly: of heads made of nothing but category tastes, a third "beat" their means on
  coreference, and one in fifty their tastes.

A harder control than the baselines, reported beside them and never merged with them.

Attention as distance and parts of speech alone would spread it.

A row that knows of each earlier word its category only (``vocabulary``) gives it a share
``w(y) / sum over the row of w``: a softmax over category tastes, as attention itself is one.
Category means will not do instead. Rows with few words, or without a rival of a favoured category,
give each word more, and that differs by dependency label: heads made of category tastes alone then
show label tastes that agree over any split (measured: agreement .6 with means, 0 with this).
The tastes of a head are fitted so that every category gets what it got, by the iteration for
Plackett-Luce models (Hunter 2004): ``w(y) <- got(y) / sum over rows of count(y) / sum(count * w)``.

What can be said of a word without its label: where it stands, and how it is written.

Labels go with all of these (subjects open sentences, function words are short and frequent), so a
taste for one of them looks like a taste for labels that agrees over any split.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from headprobe.analysis.candidates import (
    Candidates,
    GroupedInstances,
    count_groups,
    shared_rows,
    target_table,
)
from headprobe.analysis.evidence import Floats, Ints, divide, floats
from headprobe.runs.instances import PAIRS, Instances, split_by_count
from headprobe.runs.sums import Tallies
from headprobe.vocabulary import (
    CATEGORIES,
    DEPREL_PAIRS,
    DISTANCE_BINS,
    LONGEST,
    QUADRANTS,
    UPOS,
    category,
    deprel_pair,
    distance_bins,
    quadrant,
)

PLACES = (0, 1, 2, 4, 8, 16)
"""Where the places in a sentence that count as alike begin; from the last one on are the rest."""


class SurfaceFeatures:
    """``COUNT`` numbers for each pair of a query word and an earlier one: whether they share a
    sentence, or stand in neighbouring ones; the earlier word's place in its sentence, once for each
    case; its tokens and its frequency in the run (logarithms); whether it is capitalised."""

    COUNT = 2 + 2 * (len(PLACES) - 1) + 3

    def __init__(self, instances: Instances) -> None:
        self._sentence = instances.sentence.astype(np.int64)
        self._place = np.arange(len(instances.form)) - instances.sentence_first
        form = instances.folded_form
        capital = np.array([str(each)[:1].isupper() for each in instances.forms], dtype=np.bool_)
        self._written = np.array(
            [
                np.log(np.maximum(instances.tokens, 1)),
                np.log(np.bincount(form)[form]) if len(form) else form,
                capital[instances.form] if len(form) else form,
            ],
            dtype=np.float32,
        )

    def of(self, query: Ints, earlier: Ints) -> NDArray[np.float32]:
        """[P, COUNT] of pairs of word numbers [P] of one passage."""
        away = self._sentence[query] - self._sentence[earlier]
        place = self._place[earlier]
        same = away == 0
        there = [(place >= low) & (place < high) for low, high in pairwise(PLACES)]
        places = [
            same,
            away == 1,
            *(each & same for each in there),
            *(each & ~same for each in there),
        ]
        return np.array([*places, *self._written[:, earlier]], dtype=np.float32).T


ITERATIONS = 12
"""Iterations of the fit; planted category heads are fitted to 1e-3 of their attention after 8."""

MIN_PREFERENCE = np.float32(1e-20)
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
class PosPreferences:
    """The ``preferences`` [Y, N] fitted to heads whose stripped attention at each category is
    ``sums`` [Y, N], with the rows that they were fitted on."""

    instances: Instances
    sums: Floats
    preferences: Singles
    rows: _Rows


def fit_preferences(instances: Instances, tallies: Tallies) -> PosPreferences:
    """The tastes of all heads of a run: the larger part of the work here, done once."""
    sums = floats(tallies, "category").reshape(CATEGORIES, -1)
    rows = _rows(instances)
    return PosPreferences(instances, sums, _fit(sums.astype(np.float32), rows), rows)


def expected_attention(preferences: PosPreferences) -> Floats:
    """[O, M, N]: the attention of each deprel pair in each quadrant that the tastes imply."""
    rows, flat, heads = preferences.rows, preferences.preferences, preferences.preferences.shape[1]
    expected = np.zeros((QUADRANTS * DEPREL_PAIRS, heads))
    for pairs in _pairs(rows.word, rows.earlier):
        share = _preference_share(rows, pairs.rows, flat)
        cell, kind = _kinds(preferences.instances, pairs)
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


def surface_shifts(preferences: PosPreferences, chosen: Ints) -> Floats:
    """[J, O, M, N']: where each of J plain tastes (``analysis.pos_control``) would move the
    attention of ``expected_attention`` of the heads ``chosen`` [N'], per unit of taste.

    The derivative of a softmax: attention times what the word has above its row's mean.
    """
    rows, tastes, cells = (
        preferences.rows,
        preferences.preferences[:, chosen],
        QUADRANTS * DEPREL_PAIRS,
    )
    features, by_head = SurfaceFeatures(preferences.instances), np.ascontiguousarray(tastes.T)
    shifts = np.zeros((len(chosen), cells, SurfaceFeatures.COUNT))
    for pairs in _pairs(rows.word, rows.earlier):
        share = _preference_share(rows, pairs.rows, tastes).T
        cell, kind = _kinds(preferences.instances, pairs)
        row, every = pairs.row - pairs.rows.start, np.arange(len(pairs.row))
        order = np.argsort(cell.astype(_SMALL), kind="stable")
        of_row = np.searchsorted(row, np.arange(share.shape[1] + 1))
        of_cell = np.searchsorted(cell[order], np.arange(cells + 1))
        row_in_order = row[order]
        values = np.array(features.of(pairs.query, pairs.key), dtype=np.float64, order="C")
        for head, preference in enumerate(by_head):
            attention = (preference[kind] * share[head][row]).astype(np.float64)
            means = _sums(attention, every, of_row, values)
            attention = attention[order]
            shifts[head] += _sums(attention, order, of_cell, values)
            shifts[head] -= _sums(attention, row_in_order, of_cell, means)
    by_taste = np.moveaxis(shifts, (2, 0), (0, 2))
    return by_taste.reshape(SurfaceFeatures.COUNT, QUADRANTS, DEPREL_PAIRS, len(chosen))


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
    for some in split_by_count(earlier, PAIRS):
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
    preferences = np.zeros_like(by_query)
    for query in np.unique(rows.upos).tolist():
        chosen = np.flatnonzero(rows.upos == query)
        blocks = [chosen[first : first + ROWS] for first in range(0, len(chosen), ROWS)]
        got = by_query[:, query].reshape(_COLUMNS, -1)
        met = np.sum([rows.counts(block).sum(0, np.float64) for block in blocks], axis=0)
        fitted = _scaled(_ratio(got, met.astype(np.float32)[:, None]))
        for _ in range(ITERATIONS):
            offered = np.zeros_like(fitted)
            for block in blocks:
                counts = rows.counts(block)
                offered += counts.T @ _ratio(np.float32(1), counts @ fitted)
            fitted = _scaled(_ratio(got, offered))
        preferences[:, query] = fitted.reshape(DISTANCE_BINS, parts, -1)
    return preferences.reshape(CATEGORIES, -1)


def _scaled(preferences: Singles) -> Singles:
    """[K, N]: the largest of each head 1, and none so small that its reciprocal overflows."""
    scaled = _ratio(preferences, preferences.max(axis=0, keepdims=True))
    return np.where(preferences > 0, np.maximum(scaled, MIN_PREFERENCE), 0)


def _preference_share(rows: _Rows, some: slice, preferences: Singles) -> Singles:
    """[R', N]: one over the sum of the ``preferences`` [Y, N] in each of ``some`` rows."""
    counts, upos = rows.counts(some), rows.upos[some]
    by_query = preferences.reshape(DISTANCE_BINS, len(UPOS), len(UPOS), -1)
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


_KINDS = DISTANCE_BINS * len(UPOS)
"""Categories that one query word can meet: the most rivals that differ."""


def category_hits(
    instances: Instances, relations: Sequence[GroupedInstances], preferences: PosPreferences
) -> Floats:
    """[2, R, S, N]: hits of the two rules, mean and taste, for each head, exactly, without a second
    pass of the model.

    For each query word it is enough to look at the nearest candidate of each category.
    """
    pairs = pair_counts(instances)
    met = np.flatnonzero(pairs)
    means = divide(preferences.sums[met], pairs[met, None].astype(np.float64))
    values = (means, preferences.preferences[met])
    both = [_ranks(of_rule) for of_rule in values]
    rank_of = np.full(CATEGORIES, len(met), dtype=np.int64)
    rank_of[met] = np.arange(len(met))
    heads = preferences.sums.shape[1]
    hits = np.zeros((len(both), len(relations), count_groups(instances), heads))
    for rows, asking in shared_rows(instances, relations, heads):
        rivals = _nearest_of_each(rows)
        numbers = np.where(rivals.there, rank_of[rivals.category], len(met))
        chosen = [_favourites(numbers, ranks) for ranks in both]
        for number, relation, some, row in asking:
            targets = target_table(relation.links, some, int(rows.words_before.max(initial=1)))
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
    widest = int(rows.words_before.max(initial=1))
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
