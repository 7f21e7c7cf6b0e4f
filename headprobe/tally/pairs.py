"""Stripped attention by kind of word pair: by category, and by deprel pair and quadrant."""

from collections.abc import Mapping

import torch
from torch import Tensor

from headprobe.align.pairs import KINDS
from headprobe.store.categories import CATEGORIES, DEPREL_PAIRS, QUADRANTS
from headprobe.tally.statistic import Statistic, wide
from headprobe.tally.view import LayerView


class PairStatistic(Statistic):
    """Sums over all pairs of a usable word and a usable earlier word (``store.categories``)."""

    def __init__(self, layers: int, heads: int, device: torch.device) -> None:
        # all kinds of a head in one place, where additions go to and fro between them
        self._sums = torch.zeros(layers, heads, KINDS, dtype=wide(device), device=device)

    def of(self, layer: int) -> Tensor:
        """The sums [H, KINDS] of a layer: they are too many to be found for each batch anew."""
        return self._sums[layer]

    def add(self, view: LayerView) -> None:
        """Whoever makes the view adds to the sums ``of`` its layer."""

    def sums(self) -> Mapping[str, Tensor]:
        by_kind = self._sums.permute(2, 0, 1)
        return {
            "category": by_kind[:CATEGORIES],
            "deprel_pairs": by_kind[CATEGORIES:].unflatten(0, (QUADRANTS, DEPREL_PAIRS)),
        }
