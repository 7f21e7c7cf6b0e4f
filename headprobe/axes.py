"""Names of heads, and one letter for each axis of an array.

B batch, T token, W word, I instance, F fold, L layer, H query head, R relation, D distance,
C cell (a domain and an output fold), V value dimension of a head, K distinct token, X example row,
N flattened head (layer * heads + head), G domain, Y category, M deprel pair and O quadrant (see
``store.categories``), A sampled row, E sequence of repeated random tokens.
"""

import re
from collections.abc import Sequence
from typing import SupportsIndex

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


def parse_head(name: str | Sequence[int]) -> tuple[int, int]:
    """(layer, head) of ``"L12H5"``, ``"l12h5"``, ``"12.5"``, ``"12-5"`` or ``(12, 5)``;
    HeadprobeError for anything else."""
    if isinstance(name, str):
        match = _HEAD.fullmatch(name.strip())
        numbers = [int(number) for number in match.groups() if number is not None] if match else []
    else:
        numbers = [int(number) for number in name if isinstance(number, SupportsIndex)]
        numbers = numbers if len(numbers) == len(name) and min(numbers, default=0) >= 0 else []
    if len(numbers) != 2:
        raise HeadprobeError(
            f"head {name!r}", "not the name of a head", "Write it as L12H5, both counted from 0"
        )
    return numbers[0], numbers[1]
