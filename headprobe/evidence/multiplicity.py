"""Many heads, many relations: what is left of a p when all of them are counted."""

from collections.abc import Sequence

import numpy as np

from headprobe.evidence.arrays import Floats


def simes(p: Floats) -> Floats:
    """[N]: Simes' p of each row of ``p`` [N, R], ``min_k R p_(k) / k`` (Simes 1986)."""
    count = p.shape[1]
    return np.asarray((np.sort(p, axis=1) * count / np.arange(1, count + 1)).min(1))


def benjamini_hochberg(p: Floats) -> Floats:
    """Adjusted p's (Benjamini and Hochberg 1995) of an array of any shape, all tests at once."""
    flat = p.ravel()
    order = np.argsort(flat)[::-1]
    scaled = flat[order] * flat.size / np.arange(flat.size, 0, -1)
    adjusted = np.empty_like(flat)
    adjusted[order] = np.minimum.accumulate(scaled)
    return np.minimum(adjusted, 1).reshape(p.shape)


def false_discovery(p: Floats, families: Sequence[str]) -> Floats:
    """q [R, N] of ``p`` [R, N]: one Simes p per head and family, Benjamini-Hochberg over both.

    All relations of a family share its head's q. Relations whose p is NaN for every head take no
    part and get none.
    """
    q = np.full_like(p, np.nan)
    tested = [index for index in range(len(p)) if not np.isnan(p[index]).all()]
    names = sorted({families[index] for index in tested})
    if not names:
        return q
    members = [[index for index in tested if families[index] == name] for name in names]
    combined = np.array([simes(np.nan_to_num(p[rows].T, nan=1.0)) for rows in members])
    for rows, adjusted in zip(members, benjamini_hochberg(combined), strict=True):
        q[rows] = adjusted
    return q
