"""Which head came nearest to a finding."""

import numpy as np

from headprobe.evidence.arrays import Ints
from headprobe.evidence.evidence import Evidence


def strongest_heads(evidence: Evidence) -> Ints:
    """[R]: the head (layer * heads + head) with the highest ``gain_low`` on each relation, -1 where
    no head has one."""
    layers, heads, relations = evidence.gain_low.shape
    lows = evidence.gain_low.reshape(layers * heads, relations)
    known = ~np.isnan(lows)
    best = np.where(known, lows, -np.inf).argmax(0)
    return np.where(known.any(0), best, -1)
