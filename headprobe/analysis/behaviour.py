"""What a head does whatever the relation: distance, copying, label structure, output, sinks.

These are the measures behind the roles that do not rest on a relation (``docs/method.md``,
"Roles"):

- ``positional_evidence``: how often distance alone predicts where a head attends most
  (``positional``);
- ``copying_evidence``: attention to earlier copies on repeated random tokens (``duplicate-token``,
  ``induction``);
- ``structure.label_agreement``: regular attention that no relation describes (``unnamed``);
- ``head_statistics``: means over rows, and the size of a head's output (``redundant``);
- ``flagged_sinks``: keys that attract attention whatever the text. They are reported, never
  removed.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from scipy.special import stdtrit

from headprobe.analysis.candidates import Candidates
from headprobe.analysis.distance_control import DISTANCE_RULES, distance_choices
from headprobe.analysis.evidence import HeadStatistics, divide, floats, mean_profile
from headprobe.analysis.groups import Cells, effective_folds
from headprobe.analysis.intervals import interval
from headprobe.analysis.pos_control import PosPreferences
from headprobe.analysis.structure import Agreement, label_agreement
from headprobe.arrays import Floats, Ints
from headprobe.runs.instances import Instances
from headprobe.runs.sums import Tallies
from headprobe.vocabulary import UPOS

ROWS = 512
"""Sampled rows in one block."""


@dataclass(frozen=True)
class Positional:
    """How well distance alone predicts where a head attends most. Arrays are [L, H].

    NaN where a head has no row that counts.
    """

    rows: Ints
    """Sampled rows that attend to one usable earlier word of the passage most, and that give such
    words enough attention."""
    explained: Floats
    """Share of these rows in which the head's own distance profile chooses that word among all
    usable earlier words, by the better of the two rules of ``analysis.distance_control``."""
    by_length: Floats
    """Share that evenly spread attention predicts: the word of most tokens wins, ties are split
    evenly."""

    @property
    def gain(self) -> Floats:
        """``explained - by_length``."""
        return np.asarray(self.explained - self.by_length)

    @property
    def strength(self) -> Floats:
        """``gain / (1 - by_length)``."""
        return divide(self.gain, 1 - self.by_length)


def positional_evidence(instances: Instances, tallies: Tallies, min_kept: float) -> Positional:
    """Compare the strongest word of each sampled row with what the head's profile would choose.

    Rows that give usable earlier words less than ``min_kept`` of their attention do not count: the
    head rests on a sink there, and the small remainder does not show what it looks for.
    """
    _, layers, heads = tallies["sampled_winner"].shape
    place = tallies["sampled_winner"].reshape(-1, layers * heads).astype(np.int64) - 1
    place[tallies["sampled_kept"].reshape(place.shape) < min_kept] = -1
    query = np.asarray(instances.sampled_words, dtype=np.int64)
    profile = mean_profile(tallies, "profile")
    hits = {rule: np.zeros(layers * heads) for rule in DISTANCE_RULES}
    by_length = np.zeros(layers * heads)
    most, tied = Candidates(instances, query, "passage", "any").longest()
    for first in range(0, len(query), ROWS):
        some = slice(first, first + ROWS)
        rows, strongest = Candidates(instances, query[some], "passage", "any"), place[some]
        distance = instances.place[rows.query][:, None] - strongest
        for rule, chosen in distance_choices(rows, profile).items():
            hits[rule] += ((chosen == distance) & (strongest >= 0)).sum(0)
        length = instances.tokens[rows.scope_first[:, None] + np.maximum(strongest, 0)]
        is_longest = (length == most[some, None]) & (strongest >= 0)
        by_length += (is_longest / tied[some, None]).sum(0)
    counted = (place >= 0).sum(0)
    best = np.max(list(hits.values()), axis=0)
    return Positional(
        counted.reshape(layers, heads),
        divide(best, counted).reshape(layers, heads),
        divide(by_length, counted).reshape(layers, heads),
    )


@dataclass(frozen=True)
class Copying:
    """How well a head finds its target on repeated random tokens (``vocabulary``).

    The target is the earlier copy of the row's token, or the token after that copy. NaN where no
    sequence could be run.
    """

    rows: int
    """Rows in the repeated halves of all sequences."""
    baseline: float
    """``top1`` of the best fixed distance in tokens."""
    top1: Floats
    """[L, H]: share of rows in which the target gets the most attention of all earlier tokens."""
    mass: Floats
    """[L, H]: mean raw attention to the target."""
    gain: Floats
    """[L, H]: ``top1 - baseline``."""
    gain_low: Floats
    """[L, H]: the smallest lower end of the gain's interval over every fixed distance, with the
    sequences as folds."""

    @property
    def strength(self) -> Floats:
        """``gain / (1 - baseline)``."""
        return np.asarray(self.gain / (1 - self.baseline))


def copying_evidence(
    tallies: Tallies, kind: Literal["duplicate", "induction"], confidence: float
) -> Copying:
    """Return how well each head finds the earlier copy of a token, or the token after it.

    Each sequence has its own lag, which fixes the distance of its targets. A fixed distance
    therefore hits every row of one sequence and no row of another.
    """
    sizes, hits = floats(tallies, "copy_rows"), floats(tallies, f"{kind}_hits")
    _, layers, heads = hits.shape
    total = float(sizes.sum())
    top1, mass = (
        divide(sums.sum(0), np.array(total)) for sums in (hits, floats(tallies, f"{kind}_mass"))
    )
    if not total:
        return Copying(0, np.nan, top1, mass, top1, top1)
    sequences, none = np.arange(len(sizes)), np.zeros(len(sizes), dtype=np.int64)
    cells = Cells(sizes, sequences, none, none, 1, form_folds=1.0, few_forms=True)
    sums = cells.sums(hits.reshape(len(sizes), -1))
    lows = [
        interval(sums - cells.sums(fixed[:, None]), cells, confidence).low
        for fixed in np.diag(sizes)
    ]
    baseline = float(sizes.max()) / total
    low = np.min(lows, axis=0).reshape(layers, heads)
    return Copying(int(total), baseline, top1, mass, top1 - baseline, low)


@dataclass(frozen=True)
class BehaviourEvidence:
    """The evidence for the roles that do not rest on a relation."""

    positional: Positional
    """For ``positional``."""
    duplicate: Copying
    """For ``duplicate-token``."""
    induction: Copying
    """For ``induction``."""
    agreement: Agreement
    """For ``unnamed``."""


def behaviour_evidence(
    instances: Instances,
    tallies: Tallies,
    preferences: PosPreferences,
    *,
    confidence: float,
    min_kept: float,
    min_attention: float,
    recheck: tuple[float, float] = (-np.inf, -np.inf),
) -> BehaviourEvidence:
    """Compute the evidence for the roles that do not rest on a relation.

    ``preferences`` must be fitted to the same ``tallies``. ``min_kept`` is explained in
    ``positional_evidence``, ``min_attention`` and ``recheck`` in ``structure.label_agreement``.
    """
    return BehaviourEvidence(
        positional_evidence(instances, tallies, min_kept),
        copying_evidence(tallies, "duplicate", confidence),
        copying_evidence(tallies, "induction", confidence),
        label_agreement(
            tallies,
            preferences,
            confidence=confidence,
            min_attention=min_attention,
            recheck=recheck,
        ),
    )


def head_statistics(instances: Instances, tallies: Tallies, confidence: float) -> HeadStatistics:
    """Return means over rows, and the norms of outputs with their mean removed exactly.

    ``output_high`` in a domain is ``ratio * exp(t * error)``. ``error`` is the standard error of
    log(ratio) by a delete-one-cell jackknife over the whole run, scaled to the domain's effective
    number of cells, because most domains have too few documents for an interval of their own. A
    head with a large output in one domain only thereby gets wider bounds in all domains.

    A head that never writes anything has bound 0. With fewer than two effective cells in the run,
    all other bounds are NaN: an output that does not vary there may vary elsewhere.
    """
    layers, heads, _ = tallies["profile"].shape
    rows, stripped = floats(tallies, "rows"), floats(tallies, "rows_stripped")
    outputs = _Outputs(
        floats(tallies, "output_rows"),
        floats(tallies, "output_sum"),
        floats(tallies, "output_square"),
        floats(tallies, "residual_square"),
    )
    cell_domains = np.array([domain for domain, _ in instances.cells], dtype=np.str_)
    domains = tuple(sorted(set(cell_domains[outputs.rows > 0].tolist())))
    members = np.array([cell_domains == domain for domain in domains], dtype=np.float64)
    members = members.reshape(len(domains), len(outputs.rows))
    everywhere = np.ones((1, len(outputs.rows)))
    overall = _norms(outputs, everywhere)[0]
    by_domain = _norms(outputs, members)
    return HeadStatistics(
        sink=divide(floats(tallies, "sink"), rows),
        self_attention=divide(floats(tallies, "self"), rows),
        previous=divide(floats(tallies, "previous"), rows),
        entropy=divide(floats(tallies, "entropy"), rows),
        distance=divide(floats(tallies, "distance"), stripped),
        punctuation=divide(floats(tallies, "punctuation"), stripped),
        nouns=divide(_by_upos(tallies, "NOUN", "PROPN"), stripped),
        verbs=divide(_by_upos(tallies, "VERB"), stripped),
        adjectives=divide(_by_upos(tallies, "ADJ"), stripped),
        output_norm=_relative(overall),
        output_high=_upper_ends(outputs, members, by_domain, confidence),
        domains=domains,
        residual_share=overall / _residual(outputs, everywhere)[0],
        residual_by_domain=by_domain / _residual(outputs, members),
        profile=mean_profile(tallies, "profile").reshape(layers, heads, -1),
    )


def _by_upos(tallies: Tallies, *tags: str) -> Floats:
    """[L, H]: sum of stripped attention to words with these parts of speech."""
    category = tallies["category"]
    by_word = category.reshape(-1, len(UPOS), *category.shape[1:])
    return np.asarray(by_word[:, [UPOS.index(tag) for tag in tags]].sum((0, 1), np.float64))


class _Outputs(NamedTuple):
    """Sums over the rows of each cell (domain and output fold)."""

    rows: Floats
    """[C]: number of rows."""
    sums: Floats
    """[C, L, H, V]: outputs, in coordinates whose plain norm is the norm after W_O."""
    squares: Floats
    """[C, L, H]: squared norms of outputs."""
    residual: Floats
    """[C, L]: squared norms of the residual stream that enters the layer."""


def _norms(outputs: _Outputs, members: Floats) -> Floats:
    """[G, L, H]: root mean square of the outputs of groups of cells, their mean removed.

    ``E||u - E u||^2 = E||u||^2 - ||E u||^2``. ``members`` [G, C] is 1 for the cells of a group and
    0 for others.
    """
    totals = np.tensordot(members, outputs.sums, 1)
    squares = np.tensordot(members, outputs.squares, 1)
    rows = (members @ outputs.rows)[:, None, None]
    return _spread(squares, np.einsum("glhv,glhv->glh", totals, totals), rows)


def _spread(squares: Floats, total_squared: Floats, rows: Floats) -> Floats:
    """``sqrt((squares - total_squared / rows) / rows)``; all NaN if a group has no rows."""
    if not np.all(rows > 0):
        return np.full_like(squares, np.nan)
    return np.asarray(np.sqrt(np.maximum(squares - total_squared / rows, 0) / rows))


def _relative(norms: Floats) -> Floats:
    """``norms`` [..., L, H] relative to the layer's median head; 0 where a norm is 0."""
    median = np.median(norms, axis=-1, keepdims=True)
    against = np.divide(norms, median, out=np.full_like(norms, np.inf), where=median != 0)
    return np.where(norms == 0, 0.0, against)


def _residual(outputs: _Outputs, members: Floats) -> Floats:
    """[G, L, 1]: root mean square norm of the residual stream that enters each layer."""
    mean = divide(members @ outputs.residual, (members @ outputs.rows)[:, None])
    return np.asarray(np.sqrt(mean)[..., None])


def _upper_ends(outputs: _Outputs, members: Floats, by_domain: Floats, confidence: float) -> Floats:
    """[Domain, L, H]: upper ends of the intervals of the relative norms in each domain.

    ``members`` [Domain, C] marks the cells of each domain, ``by_domain`` [Domain, L, H] holds the
    norms there.
    """
    relative = _relative(by_domain)
    effective = effective_folds(outputs.rows)
    degrees = effective - 1
    if degrees < 1:
        is_silent = outputs.squares.sum(0) == 0
        return np.where(is_silent, np.zeros_like(relative), np.nan)
    error = _log_error(outputs)
    reach = stdtrit(degrees, (1 + confidence) / 2) * error
    folds = np.array([effective_folds(outputs.rows * of_domain) for of_domain in members])
    scale = np.sqrt(effective / folds)[:, None, None]
    return np.where(relative == 0, 0.0, relative * np.exp(reach * scale))


def _log_error(outputs: _Outputs) -> Floats:
    """[L, H]: standard error of the logarithm of the relative norm, leaving out one cell at a time.

    ``SE^2 = g/(g-1) * sum_j (1 - w_j)^2 (theta_(j) - theta)^2`` with theta_(j) the estimate without
    cell j, w_j the share of cell j and g the number of cells: ``intervals.fold_variance``, written
    for an estimate that is not a mean.
    """
    filled = np.flatnonzero(outputs.rows > 0)
    rows, total = outputs.rows[filled], outputs.rows.sum()
    sums, squares = outputs.sums.sum(0), outputs.squares.sum(0)
    # Without cell j, the squared total is ||sum||^2 - 2 sum . sum_j + ||sum_j||^2.
    crossed = np.einsum("clhv,lhv->clh", outputs.sums, sums)[filled]
    own = np.einsum("clhv,clhv->clh", outputs.sums, outputs.sums)[filled]
    rest = np.square(sums).sum(-1) - 2 * crossed + own
    remaining = (total - rows)[:, None, None]
    without = _relative(_spread(squares - outputs.squares[filled], rest, remaining))
    overall = _relative(_spread(squares, np.square(sums).sum(-1), total))
    shares = (rows / total)[:, None, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        shifts = (1 - shares) * (np.log(without) - np.log(overall))
    return np.asarray(np.sqrt(len(filled) / (len(filled) - 1) * np.square(shifts).sum(0)))


@dataclass(frozen=True, slots=True)
class FlaggedSink:
    """A token or a position that attracts attention whatever the text."""

    kind: Literal["token", "position"]
    """Whether ``index`` is a token id or a position."""
    index: int
    """The token id, or the position counted from the first token of the text."""
    layer: int
    """The layer in which the mean column weight is largest."""
    weight: float
    """Mean attention to the key over all heads of that layer and all later query rows."""
    rows: int
    """Pairs of such a key and a later query row."""


def flagged_sinks(tallies: Tallies, weight: float, min_passages: int) -> tuple[FlaggedSink, ...]:
    """Return the keys whose mean column weight exceeds ``weight`` in a layer, strongest first.

    A key counts only if it occurs in at least ``min_passages`` passages; otherwise its weight may
    be due to those passages.
    """
    flagged = []
    kinds: tuple[Literal["token", "position"], ...] = ("token", "position")
    for kind in kinds:
        rows = floats(tallies, f"column_{kind}_rows")
        means = divide(floats(tallies, f"column_{kind}"), rows)
        widespread = tallies[f"column_{kind}_passages"] >= max(min_passages, 1)
        flagged += [
            _strongest(kind, int(key), means, rows)
            for key in np.flatnonzero(widespread & (means > weight).any(0))
        ]
    return tuple(sorted(flagged, key=lambda sink: -sink.weight))


def _strongest(
    kind: Literal["token", "position"], key: int, means: Floats, rows: Floats
) -> FlaggedSink:
    """The sink ``key`` in the layer where its mean column weight is largest."""
    layer = int(means[:, key].argmax())
    return FlaggedSink(kind, key, layer, float(means[layer, key]), int(rows[key]))
