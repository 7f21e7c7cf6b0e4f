"""How each head attends, and how loudly it speaks (METHOD section 5, *idle*)."""

from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit

from headprobe.evidence.arrays import Floats
from headprobe.evidence.evidence import Shape
from headprobe.evidence.intervals import effective_folds
from headprobe.evidence.sums import divide, floats, mean_profile
from headprobe.store.instances import Instances
from headprobe.store.tallies import Tallies


def shape(instances: Instances, tallies: Tallies, confidence: float) -> Shape:
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
    return Shape(
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
