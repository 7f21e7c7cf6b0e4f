"""What a head does whatever it is asked for (METHOD section 5, the roles beside the relations).

How much of where a head looks is a matter of distance (METHOD section 5, *positional*).

Heads that look to what was said before (METHOD section 5, *duplicate-token*, *induction*).

How each head attends, and how loudly it speaks (METHOD section 5, *idle*).

Keys that attract attention whatever the text: flagged, never removed (METHOD section 1).
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from scipy.special import stdtrit

from headprobe.analysis.candidates import Candidates
from headprobe.analysis.distance_control import DISTANCE_RULES, distance_choices
from headprobe.analysis.evidence import Floats, HeadStatistics, Ints, divide, floats, mean_profile
from headprobe.analysis.intervals import effective_folds, interval
from headprobe.analysis.pos_control import PosPreferences
from headprobe.analysis.structure import Agreement, label_agreement
from headprobe.runs.instances import Instances
from headprobe.runs.sums import Tallies

ROWS = 512
"""Sampled rows at a time."""


@dataclass(frozen=True)
class Positional:
    """Arrays [L, H]. ``rows``: sampled rows that attend to one usable earlier word of the passage
    most, and have attention left for such words. ``explained``: the share of them where that is the
    word that the head's own profile of distances chooses among all these, by the better of
    ``analysis.distance_control``'s two rules over all rows. ``by_length``: the share that evenly
    spread attention explains, under which the word of most tokens wins (ties split evenly). NaN
    without such a row."""

    rows: Ints
    explained: Floats
    by_length: Floats

    @property
    def gain(self) -> Floats:
        return np.asarray(self.explained - self.by_length)

    @property
    def strength(self) -> Floats:
        """How much of what length leaves distance explains."""
        return divide(self.gain, 1 - self.by_length)


def positional_evidence(instances: Instances, tallies: Tallies, min_kept: float) -> Positional:
    """Set where each sampled row looks most against what the head's habits would choose.

    Rows that leave less than ``min_kept`` of their attention to usable earlier words do not count:
    there a head rests, and where the rest of it trickles says nothing of what it looks for.
    """
    _, layers, heads = tallies["sampled_winner"].shape
    place = tallies["sampled_winner"].reshape(-1, layers * heads).astype(np.int64) - 1
    place[tallies["sampled_kept"].reshape(place.shape) < min_kept] = -1
    query = np.asarray(instances.sampled_words, dtype=np.int64)
    profile = mean_profile(tallies, "profile")
    hits = {rule: np.zeros(layers * heads) for rule in DISTANCE_RULES}
    by_length = np.zeros(layers * heads)
    for first in range(0, len(query), ROWS):
        some = slice(first, first + ROWS)
        rows, looked = Candidates(instances, query[some], "passage", strict=False), place[some]
        distance = instances.place[rows.query][:, None] - looked
        for rule, chosen in distance_choices(rows, profile).items():
            hits[rule] += ((chosen == distance) & (looked >= 0)).sum(0)
        by_length += _even(instances, rows, looked).sum(0)
    seen = (place >= 0).sum(0)
    best = np.max(list(hits.values()), axis=0)
    return Positional(
        seen.reshape(layers, heads),
        divide(best, seen).reshape(layers, heads),
        divide(by_length, seen).reshape(layers, heads),
    )


def _even(instances: Instances, rows: Candidates, looked: Ints) -> Floats:
    """[Q, N]: what evenly spread attention scores on the words at places ``looked`` (-1: none)."""
    tokens = np.where(instances.usable, instances.tokens, 0)
    most, ties = np.zeros(len(looked)), np.ones(len(looked))
    for row, (low, query) in enumerate(zip(rows.scope_first, rows.query, strict=True)):
        if query > low:
            most[row] = tokens[low:query].max()
            ties[row] = (tokens[low:query] == most[row]).sum()
    found = tokens[rows.scope_first[:, None] + np.maximum(looked, 0)]
    return np.asarray(((found == most[:, None]) & (looked >= 0)) / ties[:, None])


@dataclass(frozen=True)
class Copying:
    """On repeated random tokens (``vocabulary``), over all ``rows`` of the repetitions: ``top1``
    [L, H] is the share where the earlier copy (or the token after it) gets most of all earlier
    tokens, ``mass`` [L, H] its mean raw attention, ``baseline`` what the best fixed distance in
    tokens scores. ``gain`` is their difference, ``gain_low`` the lowest of the lower ends against
    every fixed distance, with the sequences as folds. NaN where no sequence could be run."""

    rows: int
    baseline: float
    top1: Floats
    mass: Floats
    gain: Floats
    gain_low: Floats

    @property
    def strength(self) -> Floats:
        """How much of what the baseline leaves is won."""
        return np.asarray(self.gain / (1 - self.baseline))


def copying_evidence(
    tallies: Tallies, kind: Literal["duplicate", "induction"], confidence: float
) -> Copying:
    """How well each head finds the earlier copy of a token, or the token after it.

    Each sequence has a lag of its own, which fixes the distance of its targets: any one distance
    hits every row of one sequence and none of another.
    """
    sizes, hits = floats(tallies, "copy_rows"), floats(tallies, f"{kind}_hits")
    _, layers, heads = hits.shape
    total = float(sizes.sum())
    top1, mass = (
        divide(sums.sum(0), np.array(total)) for sums in (hits, floats(tallies, f"{kind}_mass"))
    )
    if not total:
        return Copying(0, np.nan, top1, mass, top1, top1)
    each = hits.reshape(len(sizes), -1)
    lows = [
        interval(
            each - fixed[:, None],
            sizes,
            each,
            sizes,
            confidence=confidence,
            min_form_folds=np.inf,
        ).low
        for fixed in np.diag(sizes)
    ]
    baseline = float(sizes.max()) / total
    low = np.min(lows, axis=0).reshape(layers, heads)
    return Copying(int(total), baseline, top1, mass, top1 - baseline, low)


@dataclass(frozen=True)
class BehaviourEvidence:
    """How far a head follows distance alone, how well it copies, and what it repeats that has no
    name."""

    positional: Positional
    duplicate: Copying
    induction: Copying
    agreement: Agreement


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
    """All of it; ``preferences`` to the same tallies; ``min_kept`` is ``analysis.behaviour``'s,
    ``min_attention`` and ``recheck`` are ``analysis.structure``'s."""
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
    """Means over rows, and norms of outputs with their mean removed exactly.

    ``output_high`` in a domain is ``ratio * exp(t * error)`` with the error of the logarithm of the
    ratio by a delete-one-cell jackknife over the whole run, scaled to the domain's effective number
    of cells: most domains have too few documents for an interval of their own, and a head that is
    loud in one domain only widens all its bounds. A head that writes nothing has bound 0; fewer
    than two effective cells in the run give no other bound (NaN), for an output that never varies
    there may vary elsewhere.
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
        output_norm=_relative(overall),
        output_high=_upper_ends(outputs, members, by_domain, confidence),
        domains=domains,
        residual_share=overall / _residual(outputs, everywhere)[0],
        residual_by_domain=by_domain / _residual(outputs, members),
        profile=mean_profile(tallies, "profile").reshape(layers, heads, -1),
    )


class _Outputs(NamedTuple):
    """Sums over the rows of each cell: [C], [C, L, H, V], [C, L, H], [C, L]."""

    rows: Floats
    sums: Floats
    squares: Floats
    residual: Floats


def _norms(outputs: _Outputs, members: Floats) -> Floats:
    """[G, L, H]: root mean square of the outputs of groups of cells (``members`` [G, C] is 1 or 0),
    their mean removed: ``E||u - E u||^2 = E||u||^2 - ||E u||^2``."""
    totals = np.tensordot(members, outputs.sums, 1)
    squares = np.tensordot(members, outputs.squares, 1)
    rows = (members @ outputs.rows)[:, None, None]
    return _spread(squares, np.einsum("glhv,glhv->glh", totals, totals), rows)


def _spread(squares: Floats, total_squared: Floats, rows: Floats) -> Floats:
    if not np.all(rows > 0):
        return np.full_like(squares, np.nan)
    return np.asarray(np.sqrt(np.maximum(squares - total_squared / rows, 0) / rows))


def _relative(norms: Floats) -> Floats:
    """[..., L, H] against the layer's median head; 0 for silent heads even where that is silent."""
    median = np.median(norms, axis=-1, keepdims=True)
    against = np.divide(norms, median, out=np.full_like(norms, np.inf), where=median != 0)
    return np.where(norms == 0, 0.0, against)


def _residual(outputs: _Outputs, members: Floats) -> Floats:
    """[G, L, 1]: root mean square of the residual stream that enters each layer."""
    mean = divide(members @ outputs.residual, (members @ outputs.rows)[:, None])
    return np.asarray(np.sqrt(mean)[..., None])


def _upper_ends(outputs: _Outputs, members: Floats, by_domain: Floats, confidence: float) -> Floats:
    """[Domain, L, H]: upper ends of the relative norms ``by_domain`` [Domain, L, H] of the domains
    with such cells."""
    relative = _relative(by_domain)
    effective = effective_folds(outputs.rows)
    degrees = effective - 1
    if degrees < 1:
        silent = outputs.squares.sum(0) == 0
        return np.where(silent, np.zeros_like(relative), np.nan)
    error = _log_error(outputs)
    reach = stdtrit(degrees, (1 + confidence) / 2) * error
    folds = np.array([effective_folds(outputs.rows * of_domain) for of_domain in members])
    scale = np.sqrt(effective / folds)[:, None, None]
    return np.where(relative == 0, 0.0, relative * np.exp(reach * scale))


def _log_error(outputs: _Outputs) -> Floats:
    """[L, H]: standard error of the logarithm of the relative norm, by leaving out each cell.

    ``SE^2 = g/(g-1) * sum_j (1 - w_j)^2 (theta_(j) - theta)^2``, the form that METHOD section 4
    takes where theta is no mean: theta_(j) leaves cell j out.
    """
    filled = np.flatnonzero(outputs.rows > 0)
    rows, total = outputs.rows[filled], outputs.rows.sum()
    sums, squares = outputs.sums.sum(0), outputs.squares.sum(0)
    crossed = np.einsum("clhv,lhv->clh", outputs.sums, sums)[filled]
    own = np.einsum("clhv,clhv->clh", outputs.sums, outputs.sums)[filled]
    rest = np.square(sums).sum(-1) - 2 * crossed + own
    left = (total - rows)[:, None, None]
    without = _relative(_spread(squares - outputs.squares[filled], rest, left))
    overall = _relative(_spread(squares, np.square(sums).sum(-1), total))
    shares = (rows / total)[:, None, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        shifts = (1 - shares) * (np.log(without) - np.log(overall))
    return np.asarray(np.sqrt(len(filled) / (len(filled) - 1) * np.square(shifts).sum(0)))


@dataclass(frozen=True, slots=True)
class FlaggedSink:
    """A token id, or a position counted from the first token of the text, that draws more than its
    share: its mean column weight over all heads of ``layer``, the layer where that is largest, over
    ``rows`` pairs of such a key and a later query row."""

    kind: Literal["token", "position"]
    index: int
    layer: int
    weight: float
    rows: int


def flagged_sinks(tallies: Tallies, weight: float, min_passages: int) -> tuple[FlaggedSink, ...]:
    """Keys whose mean column weight is above ``weight``, the strongest first; one counts only where
    it stands in ``min_passages`` passages, for its pull might be those passages' own."""
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
    layer = int(means[:, key].argmax())
    return FlaggedSink(kind, key, layer, float(means[layer, key]), int(rows[key]))
