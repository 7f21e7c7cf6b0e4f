"""Does a head look for something that nobody has a word for (METHOD section 5, *unnamed*)?

Its stripped attention is summed by the dependency labels of the two words, in four quarters of the
pairs: by half of the documents, and by half of the earlier words' forms. What is left of it beyond
distance and parts of speech (``analysis.pos_control``) is compared between the quarters that
share neither: 0 with 3, and 1 with 2. A taste for single earlier words agrees in neither, whatever
its size; whatever the tastes are for, they are only called structure where labels repeat them.
Query words are in both: what single ones are given to look at agrees, and only its size, ``moved``,
tells it from structure (planted: up to .02).

With the observed attention O and the expected E of a cell (a pair of labels), E scaled to the sum
of O in each quarter, and cells where E is at least ``min_attention`` in both of two quarters a, b:

- ``agreement``: the correlation of O/E - 1 in a and b, weighted by sqrt(E_a E_b), the mean of the
  two matchings after Fisher's z. ``agreement_low``: its lower end, with the standard error
  1 / sqrt(n - 3) of one matching alone, n the effective number of cells (1 / sum of squared shares
  of the weights), for the two share cells.
- ``moved``: half of ``sum over cells of sign(O_a - E_a) (O_b - E_b)``, over the sum of O_b, mean
  over all ordered matchings: the share of attention that one quarter puts where the other says.
  Half the sum of |O - E| would count noise; this is 0 on average where nothing repeats.
Heads that reach the two numbers ``recheck`` are looked at again: labels go with much that is not
grammar (``analysis.pos_control``), so what tastes for that would move, as far as it fits what is
left by least squares over all quarters (weighted by 1 / E), is taken out, and the lower number
stands. Planted tastes for places in the sentence moved up to .09 before and .02 after.

- ``top_pairs``: the cells with the most attention beyond E, of those above it in all four quarters.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from headprobe.analysis.evidence import Bools, Floats, Ints, divide, floats
from headprobe.analysis.pos_control import PosPreferences, expected_attention, surface_shifts
from headprobe.runs.sums import Tallies
from headprobe.vocabulary import DEPREL_PAIRS, DEPRELS, QUADRANTS

MATCHED = ((0, 3), (1, 2))
"""Quadrants that share neither documents nor earlier words' forms."""

MAX_CORRELATION = 1 - 1e-9
"""The correlation beyond which Fisher's z is cut off."""

RELATIVE_RANK = 1e-3
"""Plain tastes that differ by no more than this, of their largest singular value, count as one."""

N_TOP_PAIRS = 3
"""Pairs of labels named per head."""


@dataclass(frozen=True)
class Agreement:
    """``agreement``, ``agreement_low``, ``moved`` [L, H] as above, NaN where too few cells have
    attention. ``top_pairs`` [L, H, S] are deprel pairs (``vocabulary``), the one that most
    attention turns to first, -1 where there are fewer; ``excess`` [L, H, S] is how much more of the
    attention of a word with the first label goes to words with the second than expected."""

    agreement: Floats
    agreement_low: Floats
    moved: Floats
    top_pairs: Ints
    excess: Floats


def label_agreement(
    tallies: Tallies,
    preferences: PosPreferences,
    *,
    confidence: float,
    min_attention: float,
    recheck: tuple[float, float] = (-np.inf, -np.inf),
) -> Agreement:
    """What each head's attention repeats beyond distance and parts of speech; ``recheck`` are an
    ``agreement_low`` and a ``moved``."""
    _, layers, heads = tallies["category"].shape
    observed = floats(tallies, "deprel_pairs").reshape(QUADRANTS, DEPREL_PAIRS, -1)
    expected = expected_attention(preferences)
    scale = np.nan_to_num(divide(observed.sum(1), expected.sum(1)))[:, None]
    expected *= scale
    counted = expected >= max(min_attention, np.finfo(np.float64).tiny)
    beyond = np.where(counted, observed - expected, 0)
    given = observed.sum(1)
    found = np.array(_compare(beyond, expected, counted, given, confidence))
    _, low, moved = found
    again = np.flatnonzero((low >= recheck[0]) & (moved >= recheck[1]))
    if len(again):
        shifts = surface_shifts(preferences, again) * scale[..., again]
        some = expected[..., again], counted[..., again]
        left = _without(beyond[..., again], shifts, *some)
        less = _compare(left, *some, given[..., again], confidence)
        found[:, again] = np.fmin(found[:, again], less)
    turns, turned = _top_pairs(observed, beyond, counted)
    agreement, low, moved = found.reshape(3, layers, heads)
    return Agreement(
        agreement,
        low,
        moved,
        turns.reshape(layers, heads, N_TOP_PAIRS),
        turned.reshape(layers, heads, N_TOP_PAIRS),
    )


def _compare(
    beyond: Floats, expected: Floats, counted: Bools, given: Floats, confidence: float
) -> tuple[Floats, Floats, Floats]:
    """[N] each: agreement, its lower end, moved, of what is ``beyond`` [O, M, N]; ``given`` [O, N]
    is all attention."""
    fisher, effective, moved = [], [], []
    for a, b in MATCHED:
        both = counted[a] & counted[b]
        weight = np.where(both, np.sqrt(expected[a] * expected[b]), 0)
        said, found = (beyond[each] / np.where(both, expected[each], 1) for each in (a, b))
        fisher.append(
            np.arctanh(
                np.clip(_correlation(said, found, weight), -MAX_CORRELATION, MAX_CORRELATION)
            )
        )
        effective.append(divide(weight.sum(0) ** 2, (weight**2).sum(0)))
        for one, other in ((a, b), (b, a)):
            along = np.where(both, np.sign(beyond[one]) * beyond[other], 0).sum(0)
            moved.append(divide(along, 2 * given[other]))
    centre, cells = np.mean(fisher, axis=0), np.mean(effective, axis=0)
    error = 1 / np.sqrt(np.where(cells > 4, cells - 3, np.nan))
    low = np.tanh(centre - ndtri((1 + confidence) / 2) * error)
    return np.tanh(centre), low, np.mean(moved, axis=0)


def _without(beyond: Floats, shifts: Floats, expected: Floats, counted: Bools) -> Floats:
    """``beyond`` [O, M, N] less what ``shifts`` [J, O, M, N] explain of it."""
    left = beyond.copy()
    for head in range(beyond.shape[-1]):
        cells = counted[..., head]
        root = np.sqrt(expected[..., head][cells])
        along = shifts[..., head][:, cells].T / root[:, None]
        along = np.nan_to_num(divide(along, np.sqrt(np.square(along).sum(0))))
        tastes = np.linalg.lstsq(along, beyond[..., head][cells] / root, rcond=RELATIVE_RANK)[0]
        left[..., head][cells] -= root * (along @ tastes)
    return left


def _correlation(a: Floats, b: Floats, weight: Floats) -> Floats:
    """[N]: the weighted correlation of [M, N] columns."""
    total = weight.sum(0)
    a, b = (each - divide((weight * each).sum(0), total) for each in (a, b))
    spread = (weight * a * a).sum(0) * (weight * b * b).sum(0)
    return divide((weight * a * b).sum(0), np.sqrt(spread))


def _top_pairs(observed: Floats, beyond: Floats, counted: Bools) -> tuple[Ints, Floats]:
    """[N, S] each: the pairs of labels that repeat, and how much more they get per query word."""
    labels = len(DEPRELS)
    total = np.where((counted & (beyond > 0)).all(0), beyond.sum(0), 0)
    turns = np.argsort(-total, axis=0, kind="stable")[:N_TOP_PAIRS]
    most = np.take_along_axis(total, turns, axis=0)
    rows = observed.sum(0).reshape(labels, labels, -1).sum(1)
    turned = divide(most, np.take_along_axis(rows, turns // labels, axis=0))
    return np.where(most > 0, turns, -1).T, np.where(most > 0, turned, np.nan).T
