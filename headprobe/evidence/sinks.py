"""Keys that attract attention whatever the text: flagged, never removed (METHOD section 1)."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from headprobe.evidence.arrays import Floats
from headprobe.evidence.sums import divide, floats
from headprobe.store.tallies import Tallies


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
