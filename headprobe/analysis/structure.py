"""Does a head look for something that no relation describes? The evidence for ``unnamed``.

A head's stripped attention is summed by the dependency labels of the two words, in four quadrants
of the pairs: by half of the documents, and by half of the earlier words' forms. Attention beyond
what distance and parts of speech predict (``analysis.pos_control``) is compared between quadrants
that share neither documents nor forms: 0 with 3, and 1 with 2. A preference for single earlier
words, however strong, therefore agrees in neither comparison. Query words occur in both quadrants:
a preference of single query words does agree, and only its small size, ``moved``, tells it from
structure (at most .02 when planted).

Let O be the observed and E the expected attention of a cell (a pair of labels), E scaled to the sum
of O in each quadrant. A comparison of quadrants a and b uses the cells where E is at least
``min_attention`` in both.

- ``agreement`` is the correlation of O/E - 1 in a and b, weighted by sqrt(E_a E_b), averaged over
  the two comparisons after Fisher's z-transformation.
- ``agreement_low`` is its lower end, with the standard error 1 / sqrt(n - 3) of a single comparison
  (because the two share cells), n the effective number of cells, 1 / (sum of squared shares of the
  weights).
- ``moved`` is half of ``sum over cells of sign(O_a - E_a) (O_b - E_b)``, divided by the sum of O_b
  and averaged over all ordered comparisons: the share of attention that one quadrant moves to the
  cells that the other names. Half the sum of |O - E| would count noise; ``moved`` is 0 on average
  where nothing repeats.
- ``top_pairs`` are the cells with the most attention beyond E, among those above E in all four
  quadrants.

Dependency labels correlate with much that is not grammar (``pos_control.SurfaceFeatures``). Heads
that reach the two thresholds ``recheck`` are therefore computed again without what preferences for
such features would move, as far as a least-squares fit over all quadrants (weighted by 1 / E)
attributes the deviation to them, and the smaller numbers count. Planted preferences for places in
the sentence moved up to .09 before this correction and .02 after.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from headprobe.analysis.evidence import divide, floats
from headprobe.analysis.pos_control import PosPreferences, expected_attention, surface_shifts
from headprobe.arrays import Bools, Floats, Ints
from headprobe.runs.sums import Tallies
from headprobe.vocabulary import DEPREL_PAIRS, DEPRELS, QUADRANTS

MATCHED = ((0, 3), (1, 2))
"""Pairs of quadrants that share neither documents nor earlier words' forms."""

MAX_CORRELATION = 1 - 1e-9
"""Largest correlation that enters Fisher's z-transformation."""

RELATIVE_RANK = 1e-3
"""Relative singular value below which the surface features count as linearly dependent."""

N_TOP_PAIRS = 3
"""Pairs of labels reported per head (axis S)."""


@dataclass(frozen=True)
class Agreement:
    """What a head's attention repeats beyond distance and parts of speech.

    The module's docstring defines the numbers. NaN where too few cells have attention.
    """

    agreement: Floats
    """[L, H]: correlation of the deviations between quadrants."""
    agreement_low: Floats
    """[L, H]: its lower end."""
    moved: Floats
    """[L, H]: share of attention that the labels move, as both quadrants agree."""
    top_pairs: Ints
    """[L, H, S]: deprel pairs (``vocabulary``) with the most attention beyond expectation, largest
    first; -1 where there are fewer."""
    excess: Floats
    """[L, H, S]: attention beyond expectation from the first label to the second, as a share of the
    attention of all words with the first label."""


def label_agreement(
    tallies: Tallies,
    preferences: PosPreferences,
    *,
    confidence: float,
    min_attention: float,
    recheck: tuple[float, float] = (-np.inf, -np.inf),
) -> Agreement:
    """Return what each head's attention repeats beyond distance and parts of speech.

    ``preferences`` must be fitted to the same ``tallies``. ``recheck`` holds an ``agreement_low``
    and a ``moved``: heads that reach both are computed again without surface features.
    """
    _, layers, heads = tallies["category"].shape
    observed = floats(tallies, "deprel_pairs").reshape(QUADRANTS, DEPREL_PAIRS, -1)
    expected = expected_attention(preferences)
    scale = np.nan_to_num(divide(observed.sum(1), expected.sum(1)))[:, None]
    expected *= scale
    counted = expected >= max(min_attention, np.finfo(np.float64).tiny)
    beyond = np.where(counted, observed - expected, 0)
    totals = observed.sum(1)
    results = np.array(_compare(beyond, expected, counted, totals, confidence))
    _, low, moved = results
    rechecked = np.flatnonzero((low >= recheck[0]) & (moved >= recheck[1]))
    if len(rechecked):
        shifts = surface_shifts(preferences, rechecked) * scale[..., rechecked]
        cells = expected[..., rechecked], counted[..., rechecked]
        remainder = _without(beyond[..., rechecked], shifts, *cells)
        corrected = _compare(remainder, *cells, totals[..., rechecked], confidence)
        results[:, rechecked] = np.fmin(results[:, rechecked], corrected)
    top_pairs, excess = _top_pairs(observed, beyond, counted)
    agreement, low, moved = results.reshape(3, layers, heads)
    return Agreement(
        agreement,
        low,
        moved,
        top_pairs.reshape(layers, heads, N_TOP_PAIRS),
        excess.reshape(layers, heads, N_TOP_PAIRS),
    )


def _compare(
    beyond: Floats, expected: Floats, counted: Bools, totals: Floats, confidence: float
) -> tuple[Floats, Floats, Floats]:
    """[N] each: agreement, its lower end and moved.

    ``beyond`` [O, M, N] is observed minus expected attention, ``totals`` [O, N] all attention.
    """
    fisher, effective, moved = [], [], []
    for a, b in MATCHED:
        both = counted[a] & counted[b]
        weight = np.where(both, np.sqrt(expected[a] * expected[b]), 0)
        deviation_a, deviation_b = (
            beyond[quarter] / np.where(both, expected[quarter], 1) for quarter in (a, b)
        )
        correlation = _correlation(deviation_a, deviation_b, weight)
        fisher.append(np.arctanh(np.clip(correlation, -MAX_CORRELATION, MAX_CORRELATION)))
        effective.append(divide(weight.sum(0) ** 2, (weight**2).sum(0)))
        for signs, amounts in ((a, b), (b, a)):
            agreed = np.where(both, np.sign(beyond[signs]) * beyond[amounts], 0).sum(0)
            moved.append(divide(agreed, 2 * totals[amounts]))
    centre, cells = np.mean(fisher, axis=0), np.mean(effective, axis=0)
    error = 1 / np.sqrt(np.where(cells > 4, cells - 3, np.nan))
    low = np.tanh(centre - ndtri((1 + confidence) / 2) * error)
    return np.tanh(centre), low, np.mean(moved, axis=0)


def _without(beyond: Floats, shifts: Floats, expected: Floats, counted: Bools) -> Floats:
    """``beyond`` [O, M, N] minus its least-squares fit by ``shifts`` [J, O, M, N], per head."""
    remainder = beyond.copy()
    for head in range(beyond.shape[-1]):
        cells = counted[..., head]
        root = np.sqrt(expected[..., head][cells])
        # Dividing by sqrt(E) weights the squared residuals by 1 / E; columns get unit length.
        columns = shifts[..., head][:, cells].T / root[:, None]
        columns = np.nan_to_num(divide(columns, np.sqrt(np.square(columns).sum(0))))
        fit = np.linalg.lstsq(columns, beyond[..., head][cells] / root, rcond=RELATIVE_RANK)[0]
        remainder[..., head][cells] -= root * (columns @ fit)
    return remainder


def _correlation(a: Floats, b: Floats, weight: Floats) -> Floats:
    """[N]: weighted correlation of the columns of two arrays [M, N]."""
    total = weight.sum(0)
    a, b = (values - divide((weight * values).sum(0), total) for values in (a, b))
    spread = (weight * a * a).sum(0) * (weight * b * b).sum(0)
    return divide((weight * a * b).sum(0), np.sqrt(spread))


def _top_pairs(observed: Floats, beyond: Floats, counted: Bools) -> tuple[Ints, Floats]:
    """[N, S] each: the top pairs of labels, and their excess as ``Agreement`` defines them."""
    labels = len(DEPRELS)
    total = np.where((counted & (beyond > 0)).all(0), beyond.sum(0), 0)
    pairs = np.argsort(-total, axis=0, kind="stable")[:N_TOP_PAIRS]
    most = np.take_along_axis(total, pairs, axis=0)
    by_query_label = observed.sum(0).reshape(labels, labels, -1).sum(1)
    excess = divide(most, np.take_along_axis(by_query_label, pairs // labels, axis=0))
    return np.where(most > 0, pairs, -1).T, np.where(most > 0, excess, np.nan).T
