"""How far a measurement is: what passed, and the sums so far as they stand on the device."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from headprobe.store.copying import LAGS
from headprobe.tally.statistic import totals


class Ledger:
    """``passages`` [P] and ``sequences`` (of repeated random tokens) that passed, the ``bits`` of
    the scored ones, and by reference the totals of all statistics. ``limits`` of the chunks belong
    to it: with these the rest falls into the same chunks, so that sums come out equal bit by bit.
    """

    def __init__(self, passages: int, limits: Mapping[str, int], summed: Sequence[object]) -> None:
        self.passages = np.zeros(passages, dtype=np.bool_)
        self.sequences = np.zeros(len(LAGS), dtype=np.bool_)
        self.bits = 0.0
        self.limits = dict(limits)
        self._totals = {name: total for each in summed for name, total in totals(each).items()}

    @staticmethod
    def limits_of(arrays: Mapping[str, NDArray[Any]]) -> dict[str, int]:
        """The limits in what ``arrays`` gave before."""
        limits: dict[str, int] = json.loads(str(arrays["limits"]))
        return limits

    def left(self, passages: NDArray[np.int64]) -> NDArray[np.int64]:
        """Those of the passages that did not pass yet."""
        return passages[~self.passages[passages]]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All of it, on the host."""
        return {
            "passages": self.passages,
            "sequences": self.sequences,
            "bits": np.array(self.bits),
            "limits": np.array(json.dumps(self.limits)),
            **{name: total.cpu().numpy() for name, total in self._totals.items()},
        }

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take what ``arrays`` gave before; ValueError or KeyError where it is of another run."""
        if arrays["passages"].shape != self.passages.shape:
            raise ValueError("another number of passages")
        self.passages, self.sequences = arrays["passages"].copy(), arrays["sequences"].copy()
        self.bits = float(arrays["bits"])
        self.limits = self.limits_of(arrays)
        for name, total in self._totals.items():
            kept = torch.from_numpy(arrays[name])
            if kept.shape != total.shape:
                raise ValueError(f"{name} has another shape")
            total.copy_(kept)
