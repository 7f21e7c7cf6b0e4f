"""Equal shares of a run, for shards and for ranks."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from headprobe.errors import HeadprobeError


@dataclass(frozen=True)
class Share:
    """One of ``count`` equal shares, the first of which has ``index`` 0."""

    index: int
    count: int

    @classmethod
    def read(cls, text: str) -> Self:
        """``3/8``: the third of eight; HeadprobeError otherwise."""
        number, _, count = text.partition("/")
        if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
            raise HeadprobeError(
                f"--shard {text}", "is no share of a whole", "Write 3/8 for the third of eight"
            )
        return cls(int(number) - 1, int(count))

    def __str__(self) -> str:
        return f"{self.index + 1}/{self.count}"

    def take(self, numbers: NDArray[np.integer], lengths: NDArray[np.integer]) -> NDArray[np.int64]:
        """Those of the ascending ``numbers`` that are this share's: dealt out by their ``lengths``,
        the longest first, forth and back, so that shares have as much to do and as long rows."""
        turn, place = np.divmod(np.arange(len(numbers)), self.count)
        dealt = np.where(turn % 2, self.count - 1 - place, place)
        order = np.argsort(-np.asarray(lengths), kind="stable")
        return np.sort(np.asarray(numbers)[order[dealt == self.index]]).astype(np.int64)
