"""How much of where a head looks is a matter of distance (METHOD section 5, *positional*)."""

from dataclasses import dataclass

import numpy as np

from headprobe.evidence.arrays import Floats, Ints
from headprobe.evidence.candidates import Candidates
from headprobe.evidence.habit import HABITS, choices
from headprobe.evidence.sums import divide, mean_profile
from headprobe.store.instances import Instances
from headprobe.store.tallies import Tallies

ROWS = 512
"""Sampled rows at a time."""


@dataclass(frozen=True)
class Positional:
    """Arrays [L, H]. ``rows``: sampled rows that attend to one usable earlier word of the passage
    most, and have attention left for such words. ``explained``: the share of them where that is the
    word that the head's own profile of distances chooses among all these, by the better of
    ``evidence.habit``'s two rules over all rows. ``by_length``: the share that evenly spread
    attention explains, under which the word of most tokens wins (ties split evenly). NaN without
    such a row."""

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


def positional(instances: Instances, tallies: Tallies, min_kept: float) -> Positional:
    """Set where each sampled row looks most against what the head's habits would choose.

    Rows that leave less than ``min_kept`` of their attention to usable earlier words do not count:
    there a head rests, and where the rest of it trickles says nothing of what it looks for.
    """
    _, layers, heads = tallies["sampled_winner"].shape
    place = tallies["sampled_winner"].reshape(-1, layers * heads).astype(np.int64) - 1
    place[tallies["sampled_kept"].reshape(place.shape) < min_kept] = -1
    query = np.asarray(instances.sampled_words, dtype=np.int64)
    profile = mean_profile(tallies, "profile")
    hits = {rule: np.zeros(layers * heads) for rule in HABITS}
    by_length = np.zeros(layers * heads)
    for first in range(0, len(query), ROWS):
        some = slice(first, first + ROWS)
        rows, looked = Candidates(instances, query[some], "passage", strict=False), place[some]
        distance = instances.place[rows.query][:, None] - looked
        for rule, chosen in choices(rows, profile).items():
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
    for row, (low, query) in enumerate(zip(rows.low, rows.query, strict=True)):
        if query > low:
            most[row] = tokens[low:query].max()
            ties[row] = (tokens[low:query] == most[row]).sum()
    found = tokens[rows.low[:, None] + np.maximum(looked, 0)]
    return np.asarray(((found == most[:, None]) & (looked >= 0)) / ties[:, None])
