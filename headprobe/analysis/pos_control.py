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

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from headprobe.analysis.candidates import Candidates, shared_rows
from headprobe.analysis.choice_kernels import choose_by_category
from headprobe.analysis.distance_control import Distances, write_hits
from headprobe.analysis.evidence import divide, floats
from headprobe.analysis.kernels import (
    CELLS,
    CHUNK,
    HEADS,
    add_expected,
    add_offered,
    add_shifts,
    count_columns,
    count_pairs,
    head_blocks,
    sort_by_column,
)
from headprobe.arrays import Floats, Ints, Singles
from headprobe.compiled import in_threads
from headprobe.runs.instances import Instances, RelationInstances
from headprobe.runs.sums import Tallies, packed_bytes
from headprobe.vocabulary import (
    CATEGORIES,
    DEPREL_PAIRS,
    DEPRELS,
    DISTANCE_BINS,
    QUADRANTS,
    UPOS,
    distance_bins,
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
        place = np.arange(len(instances.form)) - instances.sentence_first
        form = instances.folded_form
        capital = np.array([str(each)[:1].isupper() for each in instances.forms], dtype=np.bool_)
        self.sentence = instances.sentence.astype(np.int64)
        """[W]: index of each word's sentence in its passage."""
        self.group = np.full(len(place), -1, dtype=np.int64)
        """[W]: group of each word's place in its sentence, or -1."""
        for number, (low, high) in enumerate(pairwise(PLACES)):
            self.group[(place >= low) & (place < high)] = number
        self.written = np.array(
            [
                np.log(np.maximum(instances.tokens, 1)),
                np.log(np.bincount(form)[form]) if len(form) else form,
                capital[instances.form] if len(form) else form,
            ],
            dtype=np.float32,
        )
        """[3, W]: the last three features."""


ITERATIONS = 12
"""Iterations of the fit. Planted category heads are fitted to 1e-3 of their attention after 8."""

MIN_PREFERENCE = np.float32(1e-20)
"""Smallest preference that is not zero; the largest is 1."""

SHIFTED_HEADS = 64
"""Heads in one block of ``surface_shifts``, whose tables are larger than others."""

_COLUMNS = DISTANCE_BINS * len(UPOS)
"""Categories that one query word can meet: distance bins times parts of speech (axis K)."""

_BINS = distance_bins()
"""[MAX_DISTANCE + 1]: the bin of each word distance."""

Array = TypeVar("Array", Floats, Singles)


class _Rows(NamedTuple):
    """The usable words of a run, each of which is a query row. All arrays are of one type, because
    compiled loops exist once for each combination of types."""

    word: Ints
    """[R]: word number."""
    upos: Ints
    """[R]: part of speech."""
    earlier: Ints
    """[R]: number of usable words before the word in its passage."""
    by_upos: tuple[Ints, ...]
    """For each part of speech its rows."""


@dataclass(frozen=True)
class PosPreferences:
    """The category preferences of every head of a run."""

    instances: Instances
    """The words of the run."""
    sums: Floats
    """[Y, N]: stripped attention of each head to each category."""
    pairs: Ints
    """[Y]: number of pairs of each category."""
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
    pairs = pair_counts(instances, rows)
    return PosPreferences(instances, sums, pairs, _fit(sums, pairs, rows), rows)


def expected_attention(preferences: PosPreferences) -> Floats:
    """Return the attention that the preferences imply, by quadrant and deprel pair, [O, M, N]."""
    rows, weights = preferences.rows, preferences.preferences
    cells = _cells(preferences.instances, rows)
    order = _by_query(rows, cells.query)
    expected = np.empty((CELLS, CELLS, weights.shape[1]))

    def add(some: slice) -> None:
        block = _by_query_upos(weights[:, some])
        total = np.zeros((CELLS, CELLS, block.shape[-1]))
        add_expected(
            order, *rows[:3], *cells, _BINS, block.ravel(), block.shape[-1], total.reshape(-1)
        )
        expected[..., some] = total

    in_threads(head_blocks(weights.shape[1], HEADS), add)
    return _by_quadrant(expected)


def surface_shifts(preferences: PosPreferences, chosen: Ints) -> Floats:
    """Return how each surface feature would shift the attention of the heads ``chosen`` [N'].

    The result [J, O, M, N'] is the change of ``expected_attention`` per unit of preference for each
    of the J features of ``SurfaceFeatures``. It is the derivative of a softmax: attention times the
    amount by which the word's feature exceeds its mean over the row.
    """
    rows, weights = preferences.rows, preferences.preferences[:, chosen]
    cells, features = _cells(preferences.instances, rows), SurfaceFeatures(preferences.instances)
    order = _by_query(rows, cells.query)
    of_rows = features.sentence[rows.word], features.group[rows.word]
    written = np.ascontiguousarray(features.written[:, rows.word])
    shifts = np.empty((CELLS, CELLS, SurfaceFeatures.COUNT, len(chosen)))

    def add(some: slice) -> None:
        block = _by_query_upos(weights[:, some])
        total = np.zeros((CELLS, CELLS, SurfaceFeatures.COUNT, block.shape[-1]))
        add_shifts(
            order,
            *rows[:3],
            *cells,
            _BINS,
            *of_rows,
            len(PLACES) - 1,
            written,
            block.ravel(),
            block.shape[-1],
            total.reshape(-1),
        )
        shifts[..., some] = total

    in_threads(head_blocks(len(chosen), SHIFTED_HEADS), add)
    return _by_quadrant(np.moveaxis(shifts, 2, 0))


def _rows(instances: Instances) -> _Rows:
    """The usable words of a run as query rows."""
    word = np.flatnonzero(instances.usable)
    passage = instances.passage[word]
    earlier = np.arange(len(word)) - np.searchsorted(passage, passage)
    upos = instances.upos_number[word].astype(np.int64)
    by_upos = tuple(np.flatnonzero(upos == number) for number in range(len(UPOS)))
    return _Rows(word, upos, earlier, by_upos)


class _Entries(NamedTuple):
    """How many earlier words each row has in each distance bin and part of speech, without zeros.
    All counts of all rows would take gigabytes."""

    edges: Ints
    """[R + 1]: row r has the entries from ``edges[r]`` to ``edges[r + 1]``."""
    columns: NDArray[np.int16]
    """Distance bin times the number of parts of speech, plus the part of speech."""
    counts: NDArray[np.int32]
    """Number of such words."""


def _count_entries(rows: _Rows) -> _Entries:
    edges = np.empty(len(rows.word) + 1, dtype=np.int64)
    entries = _Entries(edges, np.empty(0, dtype=np.int16), np.empty(0, dtype=np.int32))
    total = count_columns(*rows[:3], _BINS, *entries)
    entries = _Entries(edges, np.empty(total, dtype=np.int16), np.empty(total, dtype=np.int32))
    count_columns(*rows[:3], _BINS, *entries)
    return entries


class _Runs(NamedTuple):
    """The entries of some rows by chunk of rows, then by column (``kernels.sort_by_column``)."""

    first_run: Ints
    """[chunks + 1]"""
    edges: Ints
    """[runs + 1]"""
    columns: NDArray[np.int16]
    """[runs]"""
    row_in_chunk: NDArray[np.uint8]
    """[entries]"""
    counts: NDArray[np.int32]
    """[entries]"""


def _by_column(rows: Ints, entries: _Entries) -> _Runs:
    count = int((entries.edges[rows + 1] - entries.edges[rows]).sum())
    chunks = -(-len(rows) // CHUNK)
    most_runs = min(count, chunks * _COLUMNS)
    runs = _Runs(
        np.empty(chunks + 1, np.int64),
        np.empty(most_runs + 1, np.int64),
        np.empty(most_runs, np.int16),
        np.empty(count, np.uint8),
        np.empty(count, np.int32),
    )
    sort_by_column(rows, *entries, *runs)
    return runs


def _fit(sums: Floats, pairs: Ints, rows: _Rows) -> Singles:
    """[Y, N]: preferences of each head, by Hunter's iteration; the largest per query UPOS is 1."""
    entries, blocks = _count_entries(rows), head_blocks(sums.shape[1], HEADS)
    preferences = np.zeros((DISTANCE_BINS, len(UPOS), len(UPOS), sums.shape[1]), dtype=np.float32)
    by_query = sums.reshape(preferences.shape)
    met = pairs.reshape(preferences.shape[:3]).astype(np.float32)

    def fit(query: int, runs: _Runs, some: slice) -> None:
        got = by_query[:, query, :, some].reshape(_COLUMNS, -1).astype(np.float32)
        fitted = _scaled(_ratio(got, met[:, query].reshape(-1, 1)))
        for _ in range(ITERATIONS):
            offered = np.zeros(fitted.size)
            weights, heads = fitted.reshape(-1), fitted.shape[1]
            add_offered(rows.by_upos[query], *entries, *runs, weights, heads, offered)
            fitted = _scaled(_ratio(got, offered.reshape(fitted.shape).astype(np.float32)))
        preferences[:, query, :, some] = fitted.reshape(DISTANCE_BINS, len(UPOS), -1)

    # Rows whose queries differ in part of speech share no category: each is fitted by itself.
    for query in np.unique(rows.upos).tolist():
        in_threads(blocks, partial(fit, query, _by_column(rows.by_upos[query], entries)))
    return preferences.reshape(CATEGORIES, -1)


def _scaled(preferences: Singles) -> Singles:
    """[K, N]: scaled so that each head's largest is 1; none is so small that 1 / it overflows."""
    scaled = _ratio(preferences, preferences.max(axis=0, keepdims=True))
    return np.where(preferences > 0, np.maximum(scaled, MIN_PREFERENCE), 0)


def _ratio(values: Singles, by: Singles) -> Singles:
    """``values / by``, 0 where ``by`` is 0."""
    by = np.broadcast_to(by, values.shape)
    return np.asarray(np.divide(values, by, out=np.zeros_like(values), where=by > 0))


def _by_query_upos(values: Array) -> Array:
    """[Y, N] as [U, K, N]: by part of speech of the query, as kernels expect it."""
    parts = len(UPOS)
    by_query = values.reshape(DISTANCE_BINS, parts, parts, -1).swapaxes(0, 1)
    return np.ascontiguousarray(by_query).reshape(parts, _COLUMNS, -1)


class _Cells(NamedTuple):
    """Halves of documents or forms, and labels, as one number: the parity of the fold times the
    number of labels, plus the label."""

    earlier: Ints
    """[R]: of each word as an earlier word."""
    query: Ints
    """[R]: of each word as a query word."""


def _cells(instances: Instances, rows: _Rows) -> _Cells:
    word = rows.word
    deprel = instances.deprel[word].astype(np.int64)
    document = instances.document_fold[instances.passage[word]] % 2
    return _Cells(
        instances.form_fold[word] % 2 * len(DEPRELS) + deprel, document * len(DEPRELS) + deprel
    )


def _by_query(rows: _Rows, query_cell: Ints) -> Ints:
    """[R]: the rows sorted by part of speech and cell of the query, whose tables are then in the
    processor's cache."""
    return np.lexsort((query_cell, rows.upos))


def _by_quadrant(by_cell: Floats) -> Floats:
    """[..., Z, Z, N] by cell of the query and of the earlier word as [..., O, M, N]."""
    *before, _, _, heads = by_cell.shape
    halves = by_cell.reshape(*before, 2, len(DEPRELS), 2, len(DEPRELS), heads)
    return halves.swapaxes(-4, -3).reshape(*before, QUADRANTS, DEPREL_PAIRS, heads)


def category_hits(
    instances: Instances, relations: Sequence[RelationInstances], preferences: PosPreferences
) -> NDArray[np.uint8]:
    """Return the hits of the two rules, mean and preference, [2, I, Z]: one packed row per instance
    of the run.

    They are exact and need no second pass of the model.
    """
    pairs = preferences.pairs[:, None].astype(np.float64)
    means = np.nan_to_num(divide(preferences.sums, pairs))
    heads, count = means.shape[1], int(instances.first_instance[-1])
    rules = _in_blocks(means), _in_blocks(preferences.preferences)
    hits = np.zeros((len(rules), count, packed_bytes(heads)), np.uint8)
    for rows, block_instances in shared_rows(instances, relations, heads):
        for rule_hits, blocks in zip(hits, rules, strict=True):
            write_hits(rule_hits, rows, block_instances, _choose(rows, blocks))
    return hits


def pair_counts(instances: Instances, rows: _Rows | None = None) -> Ints:
    """Return the number of pairs of usable words of one passage in each category, [Y].

    ``rows`` are those of the instances, where the caller has them.
    """
    rows = _rows(instances) if rows is None else rows
    counts = np.zeros(CATEGORIES, dtype=np.int64)
    count_pairs(*rows[:3], _BINS, counts)
    return counts


class _Block(NamedTuple):
    """Values of each category, for a block of heads."""

    heads: slice
    """The heads."""
    values: Floats | Singles
    """[U, K, B]: by part of speech of the query."""


def _in_blocks(values: Array) -> list[_Block]:
    """``values`` [Y, N], cut into blocks of heads."""
    return [
        _Block(some, _by_query_upos(values[:, some]))
        for some in head_blocks(values.shape[1], HEADS)
    ]


def _choose(rows: Candidates, blocks: Sequence[_Block]) -> Distances:
    """[Q, N]: distance of the candidate with the largest value of its category for each head.

    They have no meaning in rows without a candidate.
    """
    instances, query = rows.instances, rows.query
    upos, keys = instances.upos_number.astype(np.int64), instances.candidate_keys(rows.rule)
    distance = np.empty((len(query), blocks[-1].heads.stop), dtype=np.int32)
    order = np.argsort(upos[query], kind="stable")

    def choose(block: _Block) -> None:
        heads = block.values.shape[-1]
        chosen = np.empty((len(query), heads), dtype=np.int32)
        words = order, query, rows.scope_first, instances.usable, upos, *keys
        values, into = block.values.reshape(-1), chosen.reshape(-1)
        choose_by_category(*words, _BINS, values, heads, into)
        distance[:, block.heads] = chosen

    in_threads(blocks, choose)
    return distance
