"""What a statistic is."""

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from headprobe.align.batches import Chunk
from headprobe.tally.view import LayerView, OutputView


class Statistic(Protocol):
    """Reduces every layer of every chunk to sums; keeps no attention.

    In each layer it is shown each batch of the chunk, in order, and then what the heads write.
    Sums are added to in place: what a statistic holds of a chunk begins anew with each, so that
    copies of it can take in other chunks meanwhile.
    """

    def begin(self, chunk: Chunk) -> None:
        """A chunk begins."""

    def add(self, view: LayerView) -> None:
        """Take in one layer of one batch."""

    def add_output(self, view: OutputView) -> None:
        """Take in what one layer's heads write in the chunk."""

    def finish(self, chunk: Chunk) -> None:
        """All layers of the chunk have been seen."""

    def sums(self) -> Mapping[str, Tensor]:
        """The arrays of ``store.tallies.AXES`` that this statistic fills."""


class BatchStatistic:
    """A statistic of attention alone, whose sums do not span layers."""

    def begin(self, chunk: Chunk) -> None:
        """Nothing is held of a chunk."""

    def add_output(self, view: OutputView) -> None:
        """Of no interest here."""

    def finish(self, chunk: Chunk) -> None:
        """Nothing spans layers."""


def wide(device: torch.device) -> torch.dtype:
    """The number format of sums: float64 where the device has it."""
    return torch.float32 if device.type == "mps" else torch.float64


def totals(of: object) -> dict[str, Tensor]:
    """What a statistic (or another observer) has added up: the tensors among its attributes, by
    name. These are all that it must find in place again to go on from where it stopped."""
    found: dict[str, Tensor] = {}
    for name, value in vars(of).items():
        parts = value if isinstance(value, dict) else {"": value}
        found |= {
            f"{type(of).__name__}{name}.{key}": part
            for key, part in parts.items()
            if isinstance(part, Tensor)
        }
    return found
