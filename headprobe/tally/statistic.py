"""What a statistic is."""

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from headprobe.align.batches import AlignedBatch
from headprobe.tally.view import LayerView


class Statistic(Protocol):
    """Reduces every layer of every batch to sums; keeps no attention."""

    def add(self, view: LayerView) -> None:
        """Take in one layer of one batch."""

    def finish(self, batch: AlignedBatch) -> None:
        """All layers of the batch have been seen."""

    def sums(self) -> Mapping[str, Tensor]:
        """The arrays of ``store.tallies.AXES`` that this statistic fills."""


def wide(device: torch.device) -> torch.dtype:
    """The number format of sums: float64 where the device has it."""
    return torch.float32 if device.type == "mps" else torch.float64
