"""Hits of heads on a relation in passes with changed heads: is a role score higher without others?

The same rule as in a scan: an instance is a hit if the best target gets strictly the most attention
of all candidates, and more than none (docs/method.md, Scores).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from headprobe.causal.ablation import FlatSequences
from headprobe.model.attention import Observer, TilePart


@dataclass(frozen=True)
class PassageInstances:
    """The instances of one relation in one passage: K instances, W words."""

    numbers: Tensor
    """[K]: the number of each instance among all of the relation."""
    row: Tensor
    """[K]: the token of the query word's row."""
    is_target: Tensor
    """[K, W]: whether a word is a target."""
    is_candidate: Tensor
    """[K, W]: whether a word is a candidate; targets are."""
    word: Tensor
    """[T]: the index of each token's word, -1 for none."""


class HitCounter(Observer):
    """Decides the hits of all heads; an observer that may change outputs is called first."""

    def __init__(
        self,
        run: FlatSequences,
        instances: Mapping[int, PassageInstances],
        hits: Tensor,
        first: Observer | None = None,
    ) -> None:
        self._run, self._instances, self._first = run, instances, first
        self.hits = hits
        """[L, H, I]: whether each instance is a hit; written for the layers of the pass."""
        self._layer = -1

    def residual(self, layer: int, hidden: Tensor) -> None:
        if self._first is not None:
            self._first.residual(layer, hidden)

    def begin_layer(self, module: nn.Module, value: Tensor) -> None:
        self._layer = int(module.layer_idx)  # type: ignore[arg-type]
        if self._first is not None:
            self._first.begin_layer(module, value)

    def end_layer(self, module: nn.Module, output: Tensor) -> None:
        if self._first is not None:
            self._first.end_layer(module, output)

    def attended(self, number: int, part: TilePart, weights: Tensor, scores: Tensor) -> None:
        if self._first is not None:
            self._first.attended(number, part, weights, scores)
        tile = self._run.flat.tiles[number]
        for place, sequence in enumerate(self._run.sequence_of(tile)):
            instances = self._instances.get(sequence)
            if instances is not None:
                self._decide(instances, tile, place, weights[place])

    def _decide(self, instances: PassageInstances, tile: Any, place: int, weights: Tensor) -> None:
        """Decide the instances whose rows the tile has; ``weights`` are [G, T, S, R]."""
        rows, keys = tile.rows[place], tile.keys[place]
        at = (rows[None] == instances.row.to(rows.device)[:, None]).int()
        here = at.any(1)
        if not here.any():
            return
        of_rows = weights[..., at.argmax(1)[here]]  # [G, T, S, K]
        heads = of_rows.permute(3, 0, 2, 1).flatten(1, 2)  # [K, H, T]
        word = instances.word.to(keys.device)
        of_key = torch.where(keys >= 0, word[keys.clamp(min=0)], -1)
        inside = of_key >= 0
        words = heads.new_zeros(*heads.shape[:2], instances.is_target.shape[1])
        words.index_add_(2, of_key[inside], heads[..., inside])
        is_target = instances.is_target.to(keys.device)[here][:, None]
        is_other = instances.is_candidate.to(keys.device)[here][:, None] & ~is_target
        best = words.masked_fill(~is_target, -1).amax(-1)
        rival = words.masked_fill(~is_other, -1).amax(-1)
        hits = (best > rival) & (best > 0)  # [K, H]
        self.hits[self._layer][:, instances.numbers[here.cpu()]] = hits.T.to(self.hits)
