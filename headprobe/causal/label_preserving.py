"""Label-preserving ablation: does the label of a head explain what it does?

The head keeps its attention to the words that its label names, and spreads the rest by distance
alone (docs/causal.md). In every row the weights on sinks, on the word itself and on tokens of
unusable words stay. Words that the label names keep their weights. The remaining weight goes to the
other usable earlier words, by the head's mean attention per word distance, evenly over the tokens
of a word. The control moves the weights of the named words to other words.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from headprobe.batching.layout import AttentionTile
from headprobe.causal.ablation import FlatSequences, Head, ReweightingObserver
from headprobe.model.attention import Observer
from headprobe.vocabulary import MAX_DISTANCE


@dataclass(frozen=True)
class NamedWords:
    """The words of one passage that a label names: K pairs of an instance and a target."""

    row: NDArray[np.int64]
    """[K]: the token whose row looks for the target: the query word's last one."""
    word: NDArray[np.int64]
    """[K]: the word, by its index in the passage, whose weight is kept."""
    given_to: NDArray[np.int64]
    """[K]: the word that receives the weight: ``word`` itself, or another one in the control; -1
    where the weight has no receiver and is spread by distance."""


@dataclass(frozen=True)
class LabelWeights:
    """Makes the weights of one head (``ablation.Weights``)."""

    profile: Tensor
    """[D]: the head's mean stripped attention per word distance (index distance - 1)."""
    words: Sequence[Tensor]
    """[P] of [T]: the index of each token's word in its passage, -1 for none, by sequence."""
    named: Mapping[int, NamedWords]
    """The words that the label names, by the number of the sequence."""

    def __call__(
        self, weights: Tensor, visible: Tensor, tile: AttentionTile, sequences: Sequence[int]
    ) -> Tensor:
        """Return new weights [B, R, T] of the head; see ``ablation.Weights``."""
        changed = weights.clone()
        for place, number in enumerate(sequences):
            rows, keys = tile.rows[place], tile.keys[place]
            is_row = rows >= 0
            changed[place, is_row] = self._in_passage(
                number, weights[place, is_row], visible[place, is_row], rows[is_row], keys
            )
        return changed

    def _in_passage(
        self, number: int, weights: Tensor, visible: Tensor, rows: Tensor, keys: Tensor
    ) -> Tensor:
        """[R, T]: the weights of the rows of one passage."""
        of_token = self.words[number].to(weights.device)
        word = torch.where(keys >= 0, of_token[keys.clamp(min=0)], -1)  # [T]
        # A row of no usable word has the distances of a word after the last usable one
        latest = torch.cummax(of_token, 0).values
        own = torch.where(of_token >= 0, of_token, latest + 1)[rows]  # [R]
        other = visible & (word >= 0) & (word < own[:, None])
        named, assigned = self._named_weights(number, weights, rows, word, other)
        rest = (weights * (other & ~assigned)).sum(-1) + named.missing
        free = other & ~named.closed
        distance = (own[:, None] - word).clamp(1, min(MAX_DISTANCE, len(self.profile)))
        tokens = torch.bincount(word[word >= 0], minlength=1)[word.clamp(min=0)]
        likely = torch.where(free, self.profile.to(weights.device)[distance - 1] / tokens, 0.0)
        # Distances at which the head never attends, and nothing else is free: evenly
        none = likely.sum(-1, keepdim=True) <= 0
        likely = torch.where(none, free.float(), likely)
        total = likely.sum(-1, keepdim=True)
        spread = likely * (rest[:, None] / total.clamp(min=torch.finfo(total.dtype).tiny))
        result = torch.where(other, named.weights + spread, weights)
        # No word is free: the row stays as it is
        return torch.where((total <= 0) & (rest[:, None] > 0), weights, result)

    def _named_weights(
        self, number: int, weights: Tensor, rows: Tensor, word: Tensor, other: Tensor
    ) -> tuple["_NamedWeights", Tensor]:
        named = self.named.get(number)
        none = torch.zeros_like(other)
        zero = torch.zeros_like(weights)
        if named is None or not len(named.row):
            return _NamedWeights(zero, none, zero[:, 0]), none
        device, count = weights.device, int(word.max()) + 1
        place = torch.full((int(rows.max()) + 1,), -1, device=device)
        place[rows] = torch.arange(len(rows), device=device)
        inside = torch.from_numpy(named.row <= int(rows.max())).to(device)
        row = torch.from_numpy(named.row).to(device)
        here = inside & (place[row.clamp(max=len(place) - 1)] >= 0)
        row = place[row[here]]
        source = torch.from_numpy(named.word).to(device)[here]
        target = torch.from_numpy(named.given_to).to(device)[here]
        is_named = torch.zeros(len(rows), count, dtype=torch.bool, device=device)
        is_named[row, source] = True
        index = word.clamp(min=0)
        assigned = is_named[:, index] & other
        if torch.equal(source, target):
            return _NamedWeights(weights * assigned, assigned, zero[:, 0]), assigned
        # Sums over the tokens of each source, evenly over the tokens of its receiver
        summed = zero.new_zeros(len(rows), count).index_add_(1, index, weights * other, alpha=1.0)
        receives = zero.new_zeros(len(rows), count)
        moved = target >= 0
        receives.index_put_(
            (row[moved], target[moved]), summed[row[moved], source[moved]], accumulate=True
        )
        is_receiver = torch.zeros_like(is_named)
        is_receiver[row[moved], target[moved]] = True
        closed = is_receiver[:, index] & other
        tokens = zero.new_zeros(len(rows), count).index_add_(1, index, other.to(zero.dtype))
        given = torch.where(closed, (receives / tokens.clamp(min=1))[:, index], 0.0)
        missing = (weights * other).sum(-1) - (weights * (other & ~assigned)).sum(-1)
        # What the receivers had of their own is spread like the rest
        return _NamedWeights(given, closed, missing - given.sum(-1)), assigned


@dataclass(frozen=True)
class _NamedWeights:
    """What a label assigns in the rows of one passage."""

    weights: Tensor
    """[R, T]: the assigned weights."""
    closed: Tensor
    """[R, T]: tokens that receive nothing by distance."""
    missing: Tensor
    """[R]: weight of named words that has no receiver."""


@dataclass(frozen=True)
class LabelPreserving:
    """The intervention in which heads keep what their labels name."""

    weights_of: Mapping[Head, LabelWeights]

    @property
    def first_layer(self) -> int:
        """The first layer that it changes."""
        return min(layer for layer, _ in self.weights_of)

    def observer(self, run: FlatSequences) -> Observer:
        """Return the observer of one pass."""
        return ReweightingObserver(run, self.weights_of)
