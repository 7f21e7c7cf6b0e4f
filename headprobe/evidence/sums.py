"""Reading tallies as numbers."""

import numpy as np

from headprobe.evidence.arrays import Floats
from headprobe.store.tallies import Tallies


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
