"""What each head would score by distance and parts of speech alone: the category control.

This control is harder than the baselines. It is reported beside them and never merged with them
(``docs/method.md``, "Baselines": ``category_top1``).

A *category* of word pairs (``vocabulary``) is a distance, a part of speech of the query word and
one of the earlier word. Two rules choose the candidate in the category with the largest value:

- mean: the head's mean stripped attention to pairs of the category;
- preference: the weight of the category in a softmax model of the head (below).

The nearer of two equally good words counts, also among words of one category.

Means alone would not do. They are large where rows are short or rivals are few, so they rank a
head's preferences wrongly: of heads made of nothing but category preferences, a third "beat" their
means on coreference, and one in fifty their preferences.

The softmax model gives each earlier word in a row the share ``w(y) / sum over the row of w``, where
y is the category of the pair. The weights w are fitted so that every category receives the
attention that it received from the head, by the iteration for Plackett-Luce models (Hunter 2004,
Annals of Statistics 32(1)):
``w(y) <- got(y) / sum over rows of count(y) / sum(count * w)``.

``expected_attention`` uses the same model to predict attention by pair of dependency labels, for
``analysis.structure``. Category means fail there too. In rows with few words, or without a rival of
a preferred category, every word receives more, and such rows differ by dependency label: heads made
of category preferences alone then show label preferences that agree over any split (measured:
agreement .6 with means, 0 with the model).

``SurfaceFeatures`` and ``surface_shifts`` describe what else can be known of a word without its
label: where it stands and how it is written. Labels correlate with all of these (subjects open
sentences, function words are short and frequent), so a preference for one of them looks like a
preference for labels that agrees over any split.
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
    position_in_run,
    shared_rows,
    target_table,
)
from headprobe.analysis.evidence import Floats, Ints, divide, floats
from headprobe.runs.instances import PAIRS, Instances, RelationInstances, split_by_count
from headprobe.runs.sums import Tallies, pack_heads, packed_bytes
from headprobe.vocabulary import (
    CATEGORIES,
    DEPREL_PAIRS,
    DISTANCE_BINS,
    MAX_DISTANCE,
    QUADRANTS,
    UPOS,
    category,
    deprel_pair,
    distance_bins,
    quadrant,
)

PLACES = (0, 1, 2, 4, 8, 16)
"""First place of each group of places in a sentence; places from the last one on form no group."""


class SurfaceFeatures:
    """Features of pairs of a query word and an earlier word that need no dependency labels.

    The ``COUNT`` features are: whether both words are in the same sentence; whether they are in
    adjacent sentences; the group of the earlier word's place in its sentence (``PLACES``), once for
    the same sentence and once for others; the logarithms of its number of tokens and of its
    frequency in the run; whether it is capitalised.
    """

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
        """Return the features [P, COUNT] of pairs of word numbers [P] in one passage."""
        sentences_apart = self._sentence[query] - self._sentence[earlier]
        place = self._place[earlier]
        same = sentences_apart == 0
        in_group = [(place >= low) & (place < high) for low, high in pairwise(PLACES)]
        places = [
            same,
            sentences_apart == 1,
            *(group & same for group in in_group),
            *(group & ~same for group in in_group),
        ]
        return np.array([*places, *self._written[:, earlier]], dtype=np.float32).T


ITERATIONS = 12
"""Iterations of the fit. Planted category heads are fitted to 1e-3 of their attention after 8."""

MIN_PREFERENCE = np.float32(1e-20)
"""Smallest preference that is not zero; the largest is 1."""

ROWS, HEADS = 4096, 128
"""Rows and heads in one block of an array with both axes."""

CACHED = 256
"""Rows counted in one block, whose counts stay in the processor's cache (four times as fast)."""

_COLUMNS = DISTANCE_BINS * len(UPOS)
"""Categories that one query word can meet: distance bins times parts of speech (axis K)."""

_SMALL = np.min_scalar_type(max(CATEGORIES, QUADRANTS * DEPREL_PAIRS))
"""Type of sort keys. 16-bit integers are sorted in a tenth of the time of 64-bit ones."""

_BINS = distance_bins()
"""[MAX_DISTANCE + 1]: the bin of each word distance."""

_NEAREST = np.searchsorted(_BINS[1:], np.arange(DISTANCE_BINS + 1)) + 1
"""The nearest distance of each bin; the entry after the last bin is not used."""

Singles = NDArray[np.float32]


class _Rows(NamedTuple):
    """The usable words of a run, each of which is a query row."""

    word: Ints
    """[R]: word number."""
    first: NDArray[np.integer]
    """[R]: word number of the first word of the passage."""
    upos: NDArray[np.integer]
    """[R]: part of speech."""
    earlier: Ints
    """[R]: number of usable words before the word in its passage."""
    before: NDArray[np.int32]
    """[W + 1, U]: number of usable words of each part of speech before each word of the run."""

    def counts(self, some: slice | Ints) -> Singles:
        """Return how many earlier words each row has in each distance bin and UPOS, [R', K].

        Counts of all rows would take gigabytes, so only those of ``some`` rows are made.
        """
        word, first = self.word[some], self.first[some]
        counts = np.empty((len(word), DISTANCE_BINS, len(UPOS)), dtype=np.float32)
        for low in range(0, len(word), CACHED):
            part = slice(low, low + CACHED)
            # Differences of running counts at the edges of the distance bins.
            edges = np.maximum(word[part, None] - _NEAREST + 1, first[part, None])
            edges[:, -1] = first[part]
            before = self.before[edges]
            counts[part] = before[:, :-1] - before[:, 1:]
        return counts.reshape(len(word), _COLUMNS)


@dataclass(frozen=True)
class PosPreferences:
    """The category preferences of every head of a run."""

    instances: Instances
    """The words of the run."""
    sums: Floats
    """[Y, N]: stripped attention of each head to each category."""
    preferences: Singles
    """[Y, N]: fitted weights; the largest is 1 for each head and part of speech of the query."""
    rows: _Rows
    """The query rows on which they were fitted."""


def fit_preferences(instances: Instances, tallies: Tallies) -> PosPreferences:
    """Fit the preferences of all heads of a run.

    This is most of the work of this module, so callers do it once.
    """
    sums = floats(tallies, "category").reshape(CATEGORIES, -1)
    rows = _rows(instances)
    return PosPreferences(instances, sums, _fit(sums.astype(np.float32), rows), rows)


def expected_attention(preferences: PosPreferences) -> Floats:
    """Return the attention that the preferences imply, by quadrant and deprel pair, [O, M, N]."""
    rows, flat, heads = preferences.rows, preferences.preferences, preferences.preferences.shape[1]
    expected = np.zeros((QUADRANTS * DEPREL_PAIRS, heads))
    for pairs in _pairs(rows.word, rows.earlier):
        per_row = _inverse_row_sums(rows, pairs.rows, flat)
        cell, kind = _cells_and_categories(preferences.instances, pairs)
        # Sum 1 / (row sum) over the pairs of each (cell, category) with one sparse product, then
        # multiply by the preference for the category and add up the categories of each cell.
        order = np.lexsort((kind.astype(_SMALL), cell.astype(_SMALL)))
        cell, kind = cell[order], kind[order]
        edges = np.flatnonzero(np.diff(cell * CATEGORIES + kind, prepend=-1, append=-1))
        cell, kind = cell[edges[:-1]], kind[edges[:-1]]
        row = (pairs.row - pairs.rows.start)[order]
        members = sparse.csr_array(
            (np.ones(len(row), np.float32), row, edges), shape=(len(kind), len(per_row))
        )
        members.sum_duplicates()
        starts = np.flatnonzero(np.diff(cell, prepend=-1))
        cells = cell[starts]
        for first in range(0, heads, HEADS):
            some = slice(first, first + HEADS)
            attention = (members @ per_row[:, some]) * flat[kind, some]
            expected[cells, some] += np.add.reduceat(attention, starts, axis=0)
    return expected.reshape(QUADRANTS, DEPREL_PAIRS, heads)


def surface_shifts(preferences: PosPreferences, chosen: Ints) -> Floats:
    """Return how each surface feature would shift the attention of the heads ``chosen`` [N'].

    The result [J, O, M, N'] is the change of ``expected_attention`` per unit of preference for each
    of the J features of ``SurfaceFeatures``. It is the derivative of a softmax: attention times the
    amount by which the word's feature exceeds its mean over the row.
    """
    rows, weights = preferences.rows, preferences.preferences[:, chosen]
    cells = QUADRANTS * DEPREL_PAIRS
    features, by_head = SurfaceFeatures(preferences.instances), np.ascontiguousarray(weights.T)
    shifts = np.zeros((len(chosen), cells, SurfaceFeatures.COUNT))
    for pairs in _pairs(rows.word, rows.earlier):
        per_row = _inverse_row_sums(rows, pairs.rows, weights).T
        cell, kind = _cells_and_categories(preferences.instances, pairs)
        row, in_order = pairs.row - pairs.rows.start, np.arange(len(pairs.row))
        order = np.argsort(cell.astype(_SMALL), kind="stable")
        row_edges = np.searchsorted(row, np.arange(per_row.shape[1] + 1))
        cell_edges = np.searchsorted(cell[order], np.arange(cells + 1))
        row_by_cell = row[order]
        values = np.array(features.of(pairs.query, pairs.key), dtype=np.float64, order="C")
        for head, preference in enumerate(by_head):
            attention = (preference[kind] * per_row[head][row]).astype(np.float64)
            means = _weighted_sums(attention, in_order, row_edges, values)
            attention = attention[order]
            shifts[head] += _weighted_sums(attention, order, cell_edges, values)
            shifts[head] -= _weighted_sums(attention, row_by_cell, cell_edges, means)
    by_feature = np.moveaxis(shifts, (2, 0), (0, 2))
    return by_feature.reshape(SurfaceFeatures.COUNT, QUADRANTS, DEPREL_PAIRS, len(chosen))


def _weighted_sums(weights: Floats, places: Ints, edges: Ints, values: Floats) -> Floats:
    """[E, J]: sums of ``weights[i] * values[places[i]]`` over i between each two ``edges`` [E + 1].

    ``weights`` and ``places`` are [P], ``values`` is [V, J].
    """
    members = sparse.csr_array((weights, places, edges), shape=(len(edges) - 1, len(values)))
    return np.asarray(members @ values)


class _Pairs(NamedTuple):
    """Pairs of a query word and a usable earlier word, for a block of rows."""

    rows: slice
    """The rows of the block."""
    row: Ints
    """[P]: index of the row among all rows."""
    query: Ints
    """[P]: word number of the query."""
    key: Ints
    """[P]: word number of the earlier word."""


def _rows(instances: Instances) -> _Rows:
    """The usable words of a run as query rows."""
    word = np.flatnonzero(instances.usable)
    passage = instances.passage[word]
    earlier = np.arange(len(word)) - np.searchsorted(passage, passage)
    upos = instances.upos_number
    before = np.zeros((len(upos) + 1, len(UPOS)), dtype=np.int32)
    before[word + 1, upos[word]] = 1
    np.cumsum(before, axis=0, out=before)
    return _Rows(word, instances.passage_first[passage], upos[word], earlier, before)


def _pairs(word: Ints, earlier: Ints) -> Iterator[_Pairs]:
    """All pairs of a usable word and a usable earlier word of its passage, in blocks of rows."""
    for some in split_by_count(earlier, PAIRS):
        counts = earlier[some]
        row = np.repeat(np.arange(some.start, some.stop), counts)
        key = word[row - earlier[row] + position_in_run(counts)]
        if len(row):
            yield _Pairs(some, row, word[row], key)


def _fit(sums: Singles, rows: _Rows) -> Singles:
    """[Y, N]: preferences of each head, by Hunter's iteration; the largest per query UPOS is 1."""
    parts = len(UPOS)
    by_query = sums.reshape(DISTANCE_BINS, parts, parts, -1)
    preferences = np.zeros_like(by_query)
    # Rows whose queries differ in part of speech share no category, so each is fitted by itself.
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
    """[K, N]: scaled so that each head's largest is 1; none is so small that 1 / it overflows."""
    scaled = _ratio(preferences, preferences.max(axis=0, keepdims=True))
    return np.where(preferences > 0, np.maximum(scaled, MIN_PREFERENCE), 0)


def _inverse_row_sums(rows: _Rows, some: slice, preferences: Singles) -> Singles:
    """[R', N]: 1 / (sum of ``preferences`` [Y, N] over the earlier words) for ``some`` rows."""
    counts, upos = rows.counts(some), rows.upos[some]
    by_query = preferences.reshape(DISTANCE_BINS, len(UPOS), len(UPOS), -1)
    inverse = np.zeros((len(counts), by_query.shape[-1]), np.float32)
    for query in np.unique(upos).tolist():
        chosen = upos == query
        weights = by_query[:, query].reshape(_COLUMNS, -1)
        inverse[chosen] = _ratio(np.float32(1), counts[chosen] @ weights)
    return inverse


def _cells_and_categories(instances: Instances, pairs: _Pairs) -> tuple[Ints, Ints]:
    """[P] each: the cell (quadrant and deprel pair) and the category of each pair."""

    def ends(of_words: NDArray[np.integer]) -> tuple[Ints, Ints]:
        """A property of words [W], for the query and for the earlier word of each pair."""
        return of_words[pairs.query].astype(np.int64), of_words[pairs.key].astype(np.int64)

    document = instances.document_fold[instances.passage[pairs.query]].astype(np.int64)
    quarter = quadrant(document, instances.form_fold[pairs.key].astype(np.int64))
    cell = quarter * DEPREL_PAIRS + deprel_pair(*ends(instances.deprel))
    distance = _BINS[np.minimum(pairs.query - pairs.key, MAX_DISTANCE)]
    return cell, category(distance, *ends(instances.upos_number))


def _ratio(values: Singles | np.float32, by: Singles) -> Singles:
    """``values / by``, 0 where ``by`` is 0."""
    shape = np.broadcast_shapes(np.shape(values), by.shape)
    by = np.broadcast_to(by, shape)
    return np.asarray(np.divide(values, by, out=np.zeros(shape, np.float32), where=by > 0))


def category_hits(
    instances: Instances, relations: Sequence[RelationInstances], preferences: PosPreferences
) -> NDArray[np.uint8]:
    """Return the hits of the two rules, mean and preference, [2, I, Z]: one packed row per instance
    of the run.

    They are exact and need no second pass of the model. For each query word only the nearest
    candidate of each category can be chosen, so no other candidate is examined.
    """
    pairs = pair_counts(instances)
    met = np.flatnonzero(pairs)
    means = divide(preferences.sums[met], pairs[met, None].astype(np.float64))
    values = (means, preferences.preferences[met])
    both_ranks = [_ranks(of_rule) for of_rule in values]
    rank_of = np.full(CATEGORIES, len(met), dtype=np.int64)
    rank_of[met] = np.arange(len(met))
    heads, count = preferences.sums.shape[1], int(instances.first_instance[-1])
    hits = np.zeros((len(both_ranks), count, packed_bytes(heads)), np.uint8)
    for rows, relation_rows in shared_rows(instances, relations, heads):
        rivals = _nearest_by_category(rows)
        numbers = np.where(rivals.exists, rank_of[rivals.category], len(met))
        chosen = [_choose(numbers, ranks) for ranks in both_ranks]
        for number, links, some, row in relation_rows:
            targets = target_table(links, some, int(rows.words_before.max(initial=1)))
            is_target = np.take_along_axis(targets, rivals.distance[row] - 1, axis=1)
            places = instances.first_instance[number] + some
            for rule_hits, choices in zip(hits, chosen, strict=True):
                rule_hits[places] = pack_heads(np.take_along_axis(is_target, choices[row], axis=1))
    return hits


def pair_counts(instances: Instances) -> Ints:
    """Return the number of pairs of usable words of one passage in each category, [Y]."""
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
    """The nearest candidate of each category in each row, nearest first."""

    exists: NDArray[np.bool_]
    """[Q, C]: False in the places after a row's last candidate."""
    distance: Ints
    """[Q, C]: word distance; 1 where there is no candidate."""
    category: Ints
    """[Q, C]: category of the pair."""


def _nearest_by_category(rows: Candidates) -> _Rivals:
    """The nearest candidate of each category in each row."""
    widest = int(rows.words_before.max(initial=1))
    bins = distance_bins(widest)

    def upos(of_words: Ints) -> Ints:
        return rows.instances.upos_number[of_words].astype(np.int64)

    words = rows.query[:, None] - np.arange(1, widest + 1)
    row, column = np.nonzero(rows.contain(np.maximum(words, 0)) & (words >= 0))
    kind = bins[column + 1] * len(UPOS) + upos(words[row, column])
    nearest = np.full(len(words) * _COLUMNS, widest + 1, dtype=np.int32)
    # Assign in order of decreasing distance: the last assignment, the nearest word, stays.
    nearest[(row * _COLUMNS + kind)[::-1]] = (column + 1)[::-1]
    ordered = np.sort(nearest.reshape(-1, _COLUMNS), axis=1)
    most = int((ordered <= widest).sum(1).max(initial=1))
    exists = ordered[:, :most] <= widest
    distance = np.where(exists, ordered[:, :most], 1).astype(np.int64)
    query = rows.query[:, None]
    return _Rivals(exists, distance, category(bins[distance], upos(query), upos(query - distance)))


def _ranks(values: NDArray[np.floating]) -> NDArray[np.int32]:
    """[Y' + 1, N]: the rank of each of ``values`` [Y', N] within its head, times ``_COLUMNS``.

    Equal values have equal ranks. The last row, for "no candidate", is below all others.
    """
    by_head = np.ascontiguousarray(values.T)
    order = by_head.argsort(axis=1)
    ascending = np.take_along_axis(by_head, order, axis=1)
    rises = np.diff(ascending, axis=1, prepend=ascending[:, :1]) > 0
    ranks = np.empty(by_head.shape, dtype=np.int32)
    np.put_along_axis(ranks, order, np.cumsum(rises, axis=1, dtype=np.int32), axis=1)
    padded = np.pad(ranks, ((0, 0), (0, 1)), constant_values=-1)
    return np.ascontiguousarray(padded.T) * np.int32(_COLUMNS)


def _choose(rivals: Ints, ranks: NDArray[np.int32]) -> NDArray[np.intp]:
    """[Q, N]: index of the rival that each head prefers, the first of the highest rank.

    ``rivals`` [Q, C] are rows of ``ranks``. Rank and place are combined in one number, so one
    maximum gives both.
    """
    best = np.full((len(rivals), ranks.shape[1]), -1, dtype=np.int32)
    value = np.empty_like(best)
    for place in range(rivals.shape[1]):
        np.take(ranks, rivals[:, place], axis=0, out=value, mode="clip")
        value += np.int32(_COLUMNS - 1 - place)
        np.maximum(best, value, out=best)
    return _COLUMNS - 1 - best.astype(np.intp) % _COLUMNS
