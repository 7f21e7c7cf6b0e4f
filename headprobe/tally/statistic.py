"""The base class of all statistics."""

from collections.abc import Mapping

import torch
from torch import Tensor

from headprobe.align.batches import Chunk
from headprobe.tally.view import LayerView, OutputView


class Statistic:
    """Reduces every layer of every chunk of passages to sums and keeps no attention weights.

    The collector calls ``begin``, then for each layer ``add`` once per batch and ``add_output``
    once, then ``finish``. Every method does nothing by default, so a subclass overrides
    only the steps that it needs.

    Sums are tensors that are updated in place. State that belongs to one chunk is created in
    ``begin``, so that copies of a statistic that share the sums can process several chunks
    concurrently.
    """

    def begin(self, chunk: Chunk) -> None:
        """Called before the first layer of a chunk."""

    def add(self, view: LayerView) -> None:
        """Add one layer's attention in one batch."""

    def add_output(self, view: OutputView) -> None:
        """Add one layer's head outputs in the whole chunk."""

    def finish(self, chunk: Chunk) -> None:
        """Called after the last layer of a chunk."""

    def sums(self) -> Mapping[str, Tensor]:
        """The arrays of ``store.tallies.AXES`` that this statistic fills."""
        return {}


def wide(device: torch.device) -> torch.dtype:
    """The dtype of sums: float64, or float32 on devices without float64 (MPS)."""
    return torch.float32 if device.type == "mps" else torch.float64


def totals(of: object) -> dict[str, Tensor]:
    """The sums of a statistic (or of another observer): the tensors among its attributes, by name.

    Restoring these tensors is all that is needed to resume a measurement.
    """
    found: dict[str, Tensor] = {}
    for name, value in vars(of).items():
        parts = value if isinstance(value, dict) else {"": value}
        found |= {
            f"{type(of).__name__}{name}.{key}": part
            for key, part in parts.items()
            if isinstance(part, Tensor)
        }
    return found
