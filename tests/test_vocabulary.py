"""Distances in bins: exact to 16, then doubling."""

from headprobe.vocabulary import DISTANCE_BINS, distance_bins
from tests.helpers.slow import distance_bin


def test_every_distance_has_the_bin_that_counting_finds() -> None:
    bins = distance_bins(2000)
    assert bins[1:].tolist() == [distance_bin(distance) for distance in range(1, 2001)]
    assert bins[0] == -1
    assert bins[-1] == DISTANCE_BINS - 1
