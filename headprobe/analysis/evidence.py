"""What the sums say, before anything is called by a name.

Kinds of arrays that the judging wing passes on.

Reading tallies as numbers.

Which head came nearest to a finding.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headprobe.runs.sums import Tallies
from headprobe.vocabulary import Relation

Floats = NDArray[np.float64]

Ints = NDArray[np.int64]

Bools = NDArray[np.bool_]


BEATS = ("", "distance", "category")
"""What a gain lies clearly above: nothing; zero over every baseline; zero over the harder control,
by distance and parts of speech, as well (METHOD section 3)."""


@dataclass(frozen=True)
class Evidence:
    """Head by relation, METHOD sections 2 to 4. Arrays are [L, H, R] unless said otherwise.

    ``n`` [R] counts instances, ``forms`` [R] the different lower-cased forms of the nearest
    targets, ``shared_forms`` [R] those of them that share their form fold with another,
    ``document_folds`` and ``form_folds`` [R] the effective numbers of folds.
    ``baselines`` maps a baseline's name to its top1, [R] where it is the same for all heads; NaN
    where it is none of the relation's or could not be worked out.
    ``best_offset`` [R] is the distance that ``offset`` chose, ``best_start`` [R] says in words what
    ``start`` chose. ``baseline`` is an index into the names of ``baselines`` (-1 where a relation
    has no instance). ``gain_low`` is the lowest of the lower ends over all baselines, ``gain_high``
    the upper end and ``gain_error`` the standard error against the one named.
    ``gain_without_form`` is the smallest gain with any one form fold left out (NaN where the forms
    are many enough to be in the interval). Sums are kept by fold, not by form: forms that share a
    fold go together, which can hide what one of them does alone, so ``shared_forms`` says how many
    do. ``category_top1``, ``category_gain`` and its lower end are those of the harder control, and
    ``beats`` is an index into ``BEATS``. ``reliability`` [R] is the correlation of ``gain_a`` and
    ``gain_b`` over heads. ``domain_n`` [G, R] counts the instances in each of ``domains``;
    ``domain_top1``, ``domain_baseline_top1`` and ``domain_gain`` [G, L, H, R] are what a head and
    its named baseline, chosen over the whole run, reach there. NaN: not computed.
    """

    relations: tuple[Relation, ...]
    n: Ints
    forms: Ints
    shared_forms: Ints
    document_folds: Floats
    form_folds: Floats
    mass: Floats
    kept: Floats
    share: Floats
    share_norm: Floats
    habit_share: Floats
    habit_expected: Floats
    top1: Floats
    baselines: Mapping[str, Floats]
    best_offset: Ints
    best_start: tuple[str, ...]
    baseline: Ints
    baseline_top1: Floats
    gain: Floats
    gain_error: Floats
    gain_low: Floats
    gain_high: Floats
    gain_a: Floats
    gain_b: Floats
    gain_without_form: Floats
    p: Floats
    q: Floats
    strength: Floats
    category_top1: Floats
    category_gain: Floats
    category_gain_low: Floats
    beats: Ints
    reliability: Floats
    domains: tuple[str, ...]
    domain_n: Ints
    domain_top1: Floats
    domain_baseline_top1: Floats
    domain_gain: Floats


@dataclass(frozen=True)
class HeadStatistics:
    """How each head attends and how loudly it speaks, whatever it looks for. Arrays [L, H].

    The first six are means over rows as INTERFACE describes them under ``heads.csv``.
    ``output_norm`` is the root mean square of the head's output through W_O, its mean over rows
    removed, relative to the layer's median head; ``output_high`` [Domain, L, H] is the upper end of
    its interval in each of ``domains``; ``residual_share`` the same norm relative to the residual
    stream that enters the layer, ``residual_by_domain`` [Domain, L, H] in each domain.
    ``profile`` [L, H, D] is the mean stripped attention at each word distance (index distance - 1).
    """

    sink: Floats
    self_attention: Floats
    previous: Floats
    entropy: Floats
    distance: Floats
    punctuation: Floats
    output_norm: Floats
    output_high: Floats
    domains: tuple[str, ...]
    residual_share: Floats
    residual_by_domain: Floats
    profile: Floats


def floats(tallies: Tallies, name: str) -> Floats:
    """An array of the tallies in float64."""
    return np.asarray(tallies[name], dtype=np.float64)


def divide(sums: Floats, by: Floats) -> Floats:
    """``sums / by``, NaN where ``by`` is zero."""
    by = np.broadcast_to(by, np.broadcast_shapes(sums.shape, by.shape))
    return np.asarray(np.divide(sums, by, out=np.full(by.shape, np.nan), where=by != 0))


def mean_profile(tallies: Tallies, name: str) -> Floats:
    """[N, D]: mean attention at each word distance (index distance - 1), 0 where no pair is."""
    sums = floats(tallies, name)
    means = np.nan_to_num(divide(sums, floats(tallies, "profile_pairs")))
    return means.reshape(-1, sums.shape[-1])


def strongest_heads(evidence: Evidence) -> Ints:
    """[R]: the head (layer * heads + head) with the highest ``gain_low`` on each relation, -1 where
    no head has one."""
    layers, heads, relations = evidence.gain_low.shape
    lows = evidence.gain_low.reshape(layers * heads, relations)
    known = ~np.isnan(lows)
    best = np.where(known, lows, -np.inf).argmax(0)
    return np.where(known.any(0), best, -1)
