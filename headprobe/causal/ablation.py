"""Interventions on heads, at the input of the output projection.

An *intervention* replaces the outputs of some heads before the output projection receives them
(docs/causal.md). It is an observer of the pass (``model.attention.Observer``), which writes into
the heads' outputs at the end of each layer's attention. It works for every architecture, because
the output projection receives these outputs bit for bit (``model.verify``). To slice the *output*
of the projection by heads would be wrong: its columns are no heads.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from headprobe.batching.layout import AttentionTile, PackedSequence
from headprobe.model.attention import Observer, TilePart

Head = tuple[int, int]
"""A layer and a query head, both 0-based."""

By = Literal["mean", "zero", "resample", "uniform"]
"""What takes the place of a head's output (docs/causal.md)."""


@dataclass(frozen=True)
class FlatSequences:
    """A flat run with the sequences of which it consists."""

    flat: PackedSequence
    numbers: NDArray[np.int64]
    """[P]: the numbers of the sequences, in the order of the run."""
    starts: NDArray[np.int64]
    """[P + 1]: the index in the run of each sequence's first token, and the number of tokens."""

    def sequence_of(self, tile: AttentionTile) -> list[int]:
        """[B]: the numbers of the sequences of a tile."""
        first = tile.query_places[:, 0].cpu().numpy()
        places = np.searchsorted(self.starts, first, side="right") - 1
        return [int(number) for number in self.numbers[places]]


class Intervention(Protocol):
    """A change of the outputs of some heads."""

    @property
    def first_layer(self) -> int:
        """The first layer that it changes: everything below stays as in the intact model."""

    def observer(self, run: FlatSequences) -> Observer:
        """Return the observer that intervenes in one pass over ``run``."""


@dataclass(frozen=True)
class Replacements:
    """What the heads write on the passages of the even document folds."""

    mean: Tensor
    """[L, H, V]: each head's mean output over the rows of text."""
    donors: Tensor
    """[D, T, L, H, V]: the heads' outputs on some whole passages, padded to the longest one with
    the output at their last token; D is 0 where they are not needed."""
    donor_of: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    """[P]: the donor of each sequence of the outcomes."""


@dataclass(frozen=True)
class Ablation:
    """The replacement of the outputs of ``heads``."""

    heads: tuple[Head, ...]
    by: By
    replacements: Replacements

    @property
    def first_layer(self) -> int:
        return min(layer for layer, _ in self.heads)

    def observer(self, run: FlatSequences) -> Observer:
        if self.by == "uniform":
            return ReweightingObserver(run, dict.fromkeys(self.heads, uniform_weights))
        return _ReplacingObserver(self, run)

    @cached_property
    def by_layer(self) -> dict[int, Tensor]:
        """The heads of each layer, as a tensor of indices."""
        heads: defaultdict[int, list[int]] = defaultdict(list)
        for layer, head in self.heads:
            heads[layer].append(head)
        device = self.replacements.mean.device
        return {layer: torch.tensor(each, device=device) for layer, each in heads.items()}


class _ReplacingObserver(Observer):
    """Writes means, zeros or the outputs of donors into the heads' outputs."""

    def __init__(self, ablation: Ablation, run: FlatSequences) -> None:
        self._ablation, self._run = ablation, run

    def end_layer(self, module: nn.Module, output: Tensor) -> None:
        layer = int(module.layer_idx)  # type: ignore[arg-type]
        heads = self._ablation.by_layer.get(layer)
        if heads is None:
            return
        values = self._ablation.replacements
        if self._ablation.by == "zero":
            output[:, heads] = 0
        elif self._ablation.by == "mean":
            output[:, heads] = values.mean[layer, heads].to(output.dtype)
        else:
            donor, place = self._donors
            output[:, heads] = values.donors[donor, place, layer][:, heads].to(output.dtype)

    @cached_property
    def _donors(self) -> tuple[Tensor, Tensor]:
        """[N]: for each token of the run the donor of its sequence, and its position there."""
        values, positions = self._ablation.replacements, self._run.flat.positions[0]
        donor = np.repeat(values.donor_of[self._run.numbers], np.diff(self._run.starts))
        last = values.donors.shape[1] - 1
        return torch.from_numpy(donor).to(positions.device), positions.clamp(max=last)


class Weights(Protocol):
    """Makes the weights of one head in one tile."""

    def __call__(
        self, weights: Tensor, visible: Tensor, tile: AttentionTile, sequences: Sequence[int]
    ) -> Tensor:
        """Return new weights [B, R, T] of a head from its own ``weights`` [B, R, T].

        ``visible`` [B, R, T] says which keys a row sees; ``sequences`` [B] are the numbers of the
        tile's sequences. The last key is no token.
        """


def uniform_weights(
    weights: Tensor,  # noqa: ARG001
    visible: Tensor,
    tile: AttentionTile,  # noqa: ARG001
    sequences: Sequence[int],  # noqa: ARG001
) -> Tensor:
    """Spread the weight of each row evenly over the keys that it sees."""
    seen = visible.float()
    return seen / seen.sum(-1, keepdim=True)


class ReweightingObserver(Observer):
    """Replaces the outputs of heads by those that other attention weights give."""

    def __init__(self, run: FlatSequences, weights_of: Mapping[Head, Weights]) -> None:
        self._run, self._weights_of = run, weights_of
        self._outputs: dict[Head, Tensor] = {}
        self._here: list[Head] = []
        self._value: Tensor

    def begin_layer(self, module: nn.Module, value: Tensor) -> None:
        layer = int(module.layer_idx)  # type: ignore[arg-type]
        self._here = [head for head in self._weights_of if head[0] == layer]
        self._value = value
        self._outputs = {head: value.new_empty(len(value), value.shape[2]) for head in self._here}

    def attended(self, number: int, part: TilePart, weights: Tensor, scores: Tensor) -> None:  # noqa: ARG002
        if not self._here:
            return
        tile, per_group = self._run.flat.tiles[number], weights.shape[3]
        sequences = self._run.sequence_of(tile)
        # Masked scores lie below half of the lowest number (``attention.LayerMask``)
        masked = torch.finfo(scores.dtype).min / 4
        for head in self._here:
            group, inside = divmod(head[1], per_group)
            visible = (scores[:, group, :, inside] > masked).mT  # [B, R, T]
            new = self._weights_of[head](weights[:, group, :, inside].mT, visible, tile, sequences)
            values = self._value[tile.key_places, group]  # [B, T, V]; the null key is included
            values = torch.cat([values, values[:, :1]], 1)[:, : new.shape[2]]
            result = torch.bmm(new.to(values.dtype), values).flatten(0, 1)[tile.token_rows]
            self._outputs[head][tile.start : tile.start + len(result)] = result

    def end_layer(self, module: nn.Module, output: Tensor) -> None:  # noqa: ARG002
        for (_, head), result in self._outputs.items():
            output[:, head] = result
