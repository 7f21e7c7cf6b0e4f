"""What heads write on the passages of the even document folds: the source of replacements."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from headprobe.causal.ablation import FlatSequences, Replacements
from headprobe.causal.losses import chunks
from headprobe.model.attention import Observer
from headprobe.model.forward import observe_packed
from headprobe.model.heads import ObservedModel

DONOR_BYTES = 256 << 20
"""The most memory that the outputs of donors take."""

MAX_DONORS = 16
"""The most donors."""


def collect_replacements(
    observed: ObservedModel,
    passages: Sequence[NDArray[np.integer]],
    starts: int,
    *,
    donors_for: Sequence[int] = (),
    seed: int = 0,
    advance: Callable[[int], None] = lambda _: None,
) -> Replacements:
    """Run the intact model on ``passages`` and return the heads' means, and the outputs of donors.

    The first ``starts`` tokens of a passage do not count in the means: they are no text.
    ``donors_for`` [P] are the lengths of the sequences that need a donor each (``resample``).
    Donors are the longest passages; they are assigned to sequences at random with ``seed``.
    """
    lengths = np.array([len(each) for each in passages])
    shape = len(observed.layers), observed.n_heads, observed.head_dim
    length = int(min(max(donors_for, default=1), lengths.max()))
    room = max(1, DONOR_BYTES // (length * int(np.prod(shape)) * 4))
    count = min(len(lengths), MAX_DONORS, room) if len(donors_for) else 0
    chosen = np.argsort(-lengths, kind="stable")[:count]
    collector = _Collector(shape, starts, {int(p): i for i, p in enumerate(chosen)}, length)
    collector.to(observed.device)
    for run in chunks(observed, passages, 1):
        collector.run = run
        observe_packed(observed, run.flat, collector)
        advance(len(run.numbers))
    donor_of = np.random.default_rng(seed).integers(0, max(1, count), len(donors_for))
    return Replacements(
        (collector.sums / collector.rows).float(), collector.donors, donor_of.astype(np.int64)
    )


class _Collector(Observer):
    """Adds up the heads' outputs, and keeps those of donors."""

    run: FlatSequences

    def __init__(
        self, shape: tuple[int, int, int], starts: int, donors: dict[int, int], length: int
    ) -> None:
        self._starts, self._donor_numbers = starts, donors
        self.sums = torch.zeros(shape, dtype=torch.float64)
        self.donors = torch.zeros(len(donors), length, *shape)
        self.rows = 0

    def to(self, device: torch.device) -> None:
        # Apple's GPUs have no float64
        kind = torch.float32 if device.type == "mps" else torch.float64
        self.sums, self.donors = self.sums.to(device, kind), self.donors.to(device)

    def end_layer(self, module: nn.Module, output: Tensor) -> None:
        layer = int(module.layer_idx)  # type: ignore[arg-type]
        is_text = self.run.flat.positions[0] >= self._starts
        self.sums[layer] += output[is_text].to(self.sums.dtype).sum(0)
        self.rows += int(is_text.sum()) if layer == 0 else 0
        length = self.donors.shape[1]
        for number, start, stop in zip(
            self.run.numbers.tolist(), self.run.starts[:-1], self.run.starts[1:], strict=True
        ):
            if number in self._donor_numbers:
                own = output[start : min(stop, start + length)].float()
                place = self.donors[self._donor_numbers[number], :, layer]
                place[: len(own)] = own
                place[len(own) :] = own[-1]
