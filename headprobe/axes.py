"""Names of heads, and one letter for each axis of an array.

B batch, T token, W word, I instance, F fold, L layer, H query head, R relation, D distance,
C cell (a domain and an output fold), V value dimension of a head, K distinct token, X example row,
N flattened head (layer * heads + head), G domain, Y category, M deprel pair and O quadrant (see
``store.categories``), A sampled row, E sequence of repeated random tokens.
"""

import re

from headprobe.errors import HeadprobeError

FOLDS = 64
"""Document folds, and form folds, of every statistic (METHOD section 4)."""

OUTPUT_FOLDS = 16
"""Document folds of head outputs, each of four of the others: their sums are vectors, and 64 of
them for each domain and each of 1,024 heads would fill a third of a gigabyte."""

LONGEST = 511
"""Word distances are exact up to here; longer ones count as this one (METHOD section 3)."""

_HEAD = re.compile(r"(?:L(\d+)H(\d+)|(\d+)[.-](\d+))", re.IGNORECASE)


def head_name(layer: int, head: int) -> str:
    """``L{layer}H{head}``, both 0-based."""
    return f"L{layer}H{head}"


def parse_head(text: str) -> tuple[int, int]:
    """(layer, head) of ``L12H5``, ``l12h5``, ``12.5`` or ``12-5``; HeadprobeError otherwise."""
    match = _HEAD.fullmatch(text.strip())
    if match is None:
        raise HeadprobeError(
            f"head {text!r}", "not the name of a head", "Write it as L12H5, both counted from 0"
        )
    layer, head = (int(number) for number in match.groups() if number is not None)
    return layer, head
