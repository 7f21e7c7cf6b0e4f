"""The numbers that verdicts rest on.

``Evidence`` holds every measure of a head on a relation, ``HeadStatistics`` what a head does
whatever the relation. The functions below read sums (``Tallies``) as float64 arrays and means.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from headprobe.arrays import Floats, Ints
from headprobe.runs.sums import Tallies
from headprobe.vocabulary import Relation

BEATS = ("", "distance", "category")
"""What a head clearly beats (``docs/method.md``, "Baselines"): nothing; every baseline; every
baseline and the control by distance and parts of speech."""


FormRule = Literal["variance", "leave one out", "definition", "barred"]
"""How the variety of target forms enters a claim about a relation (``docs/method.md``):

- ``variance``: there are many, and the interval includes them;
- ``leave one out``: there are few; the gain must stay with any one of them left out;
- ``definition``: a single class of marks, whose one or two forms are its definition;
- ``barred``: there are few, and the family's claims are not about single forms.
"""


@dataclass(frozen=True)
class Evidence:
    """Measures of every head on every relation (``docs/method.md``).

    Arrays are [L, H, R] unless a field says otherwise. NaN means that a number was not computed.
    """

    relations: tuple[Relation, ...]
    """The relations of the run, in the order of the axis R: those measured, then the pooled ones
    (``Instances.judged_relations``)."""
    n: Ints
    """[R]: number of instances."""
    n_all: Ints
    """[R]: number of instances in the text, of which ``n`` were measured."""
    forms: Ints
    """[R]: number of different lower-cased forms among the nearest targets."""
    few_forms: tuple[tuple[str, ...], ...]
    """[R]: these forms, the most frequent first, where they are few; else empty."""
    form_rule: tuple[FormRule, ...]
    """[R]: how the variety of forms enters a claim about the relation."""
    document_folds: Floats
    """[R]: effective number of document folds."""
    form_folds: Floats
    """[R]: effective number of form folds."""
    mass: Floats
    """Mean raw attention from the query row to the targets."""
    kept: Floats
    """Mean share of the attention that remains after stripping."""
    share: Floats
    """Mean stripped attention to the targets."""
    distance_share: Floats
    """Share of the targets in the head's distance profile, over all usable earlier words of the
    passage; the larger of two, the profile as it is and times each word's number of tokens."""
    lift: Floats
    """``odds(share) / odds(distance_share)``; see ``analysis.lift``."""
    lift_low: Floats
    """Lower end of ``lift``."""
    lift_without_form: Floats
    """The smallest lift with any one form fold left out; NaN unless forms are left out one by
    one."""
    share_norm: Floats
    """Mean stripped attention to the targets, norm-weighted (Kobayashi et al. 2020)."""
    habit_share: Floats
    """Share of the targets in the head's norm-weighted distance profile, over all usable earlier
    words of the passage; compare with ``share_norm``."""
    habit_expected: Floats
    """Share of the targets in the head's distance profile, over the candidates."""
    top1: Floats
    """Fraction of instances in which a target gets strictly more attention than every other
    candidate."""
    baselines: Mapping[str, Floats]
    """``top1`` of each baseline, [R] where it is the same for all heads; NaN where the baseline
    does not apply to the relation or cannot be computed."""
    best_offset: Ints
    """[R]: the word distance that the baseline ``offset`` chose."""
    best_start: tuple[str, ...]
    """[R]: the position that the baseline ``start`` chose, in words."""
    baseline: Ints
    """Index into ``baselines`` of the largest baseline; -1 if the relation has no instance."""
    baseline_top1: Floats
    """``top1`` of that baseline."""
    gain: Floats
    """``top1 - baseline_top1``."""
    gain_error: Floats
    """Standard error of ``gain``."""
    gain_low: Floats
    """The smallest lower end of the gain's interval over all baselines."""
    gain_high: Floats
    """Upper end of the interval of ``gain``."""
    gain_a: Floats
    """``gain`` on the even document folds."""
    gain_b: Floats
    """``gain`` on the odd document folds."""
    gain_without_form: Floats
    """The smallest gain with any one form left out, over all baselines; NaN unless forms are left
    out one by one."""
    p: Floats
    """The largest one-sided p over all baselines."""
    q: Floats
    """False discovery rate; see ``gains.false_discovery``."""
    strength: Floats
    """``gain / (1 - baseline_top1)``."""
    category_top1: Floats
    """``top1`` of the control by distance and parts of speech, the better of its two rules."""
    category_gain: Floats
    """``top1 - category_top1``."""
    category_gain_low: Floats
    """The smaller lower end of the gain's interval over the control's two rules."""
    beats: Ints
    """Index into ``BEATS``."""
    reliability: Floats
    """[R]: correlation of ``gain_a`` and ``gain_b`` over heads."""
    domains: tuple[str, ...]
    """Domains of the run, in the order of the axis G."""
    domain_n: Ints
    """[G, R]: number of instances in each domain."""
    domain_top1: Floats
    """[G, L, H, R]: ``top1`` in each domain."""
    domain_baseline_top1: Floats
    """[G, L, H, R]: ``top1`` in each domain of the baseline named by ``baseline``."""
    domain_gain: Floats
    """[G, L, H, R]: the difference of the two."""


@dataclass(frozen=True)
class HeadStatistics:
    """How each head attends and how large its output is, whatever the relation.

    Arrays are [L, H] unless a field says otherwise. ``docs/output.md`` ("heads.csv") describes the
    first nine, which are means over rows.
    """

    sink: Floats
    """Mean raw attention to special tokens and position 0."""
    self_attention: Floats
    """Mean raw attention to the query word itself."""
    previous: Floats
    """Mean raw attention to the previous word."""
    entropy: Floats
    """Mean entropy of the attention row over tokens, in nats."""
    distance: Floats
    """Mean distance of stripped attention, in words."""
    punctuation: Floats
    """Share of stripped attention on punctuation marks."""
    nouns: Floats
    """The same on nouns and names."""
    verbs: Floats
    """The same on verbs."""
    adjectives: Floats
    """The same on adjectives."""
    output_norm: Floats
    """Root mean square norm of the head's output through W_O, its mean over rows removed, relative
    to the layer's median head."""
    output_high: Floats
    """[G, L, H]: upper end of the interval of ``output_norm`` in each domain."""
    domains: tuple[str, ...]
    """Domains with measured outputs, in the order of the axis G."""
    residual_share: Floats
    """The same norm relative to the residual stream that enters the layer."""
    residual_by_domain: Floats
    """[G, L, H]: ``residual_share`` in each domain."""
    profile: Floats
    """[L, H, D]: mean stripped attention at each word distance (index distance - 1)."""


def floats(tallies: Tallies, name: str) -> Floats:
    """Return an array of the tallies in float64."""
    return np.asarray(tallies[name], dtype=np.float64)


def divide(sums: Floats, by: Floats) -> Floats:
    """Return ``sums / by``, NaN where ``by`` is zero."""
    by = np.broadcast_to(by, np.broadcast_shapes(sums.shape, by.shape))
    return np.asarray(np.divide(sums, by, out=np.full(by.shape, np.nan), where=by != 0))


def mean_profile(tallies: Tallies, name: str) -> Floats:
    """Return the mean attention at each word distance, [N, D] (index distance - 1).

    ``name`` is the array of sums. Distances at which no pair of words occurs get 0.
    """
    sums = floats(tallies, name)
    means = np.nan_to_num(divide(sums, floats(tallies, "profile_pairs")))
    return means.reshape(-1, sums.shape[-1])


def strongest_heads(evidence: Evidence) -> Ints:
    """Return the head (layer * heads + head) with the highest ``gain_low`` on each relation, [R].

    -1 where no head has a ``gain_low``.
    """
    layers, heads, relations = evidence.gain_low.shape
    lows = evidence.gain_low.reshape(layers * heads, relations)
    known = ~np.isnan(lows)
    best = np.where(known, lows, -np.inf).argmax(0)
    return np.where(known.any(0), best, -1)
