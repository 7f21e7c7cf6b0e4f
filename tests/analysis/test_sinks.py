"""Flagged sinks."""

import numpy as np

from headprobe.analysis.behaviour import FlaggedSink, flagged_sinks
from headprobe.runs.sums import Tallies


def test_sinks_are_flagged_once_with_their_strongest_layer() -> None:
    tallies = Tallies(
        {
            "column_token": np.array([[20.0, 90, 80, 0], [60.0, 35, 1, 0]]),
            "column_token_rows": np.array([200, 100, 99, 0]),
            "column_position": np.array([[31.0, 30.0], [10.0, 10.0]]),
            "column_position_rows": np.array([100, 100]),
            "column_token_passages": np.array([9, 9, 1, 0]),
            "column_position_passages": np.array([9, 9]),
        }
    )
    assert flagged_sinks(tallies, weight=0.3, min_passages=5) == (
        FlaggedSink("token", 1, 0, 0.9, 100),
        FlaggedSink("position", 0, 0, 0.31, 100),
    )
