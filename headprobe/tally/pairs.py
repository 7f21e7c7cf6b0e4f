"""Stripped attention by kind of word pair: by category, and by deprel pair and quadrant."""

from collections.abc import Mapping

import torch
from torch import Tensor

from headprobe.align.pairs import KINDS
from headprobe.store.categories import CATEGORIES, DEPREL_PAIRS, QUADRANTS
from headprobe.tally.statistic import BatchStatistic, wide
from headprobe.tally.view import LayerView


class PairStatistic(BatchStatistic):
    """Sums over all pairs of a usable word and a usable earlier word (``store.categories``)."""

    def __init__(self, layers: int, heads: int, device: torch.device) -> None:
        self._sums = torch.zeros(layers, KINDS, heads, dtype=wide(device), device=device)

    def add(self, view: LayerView) -> None:
        pairs = view.batch.pairs
        if not len(pairs.members):
            return
        of_runs = torch.nn.functional.embedding_bag(
            pairs.members, view.share_by_pair, pairs.first, mode="sum"
        )
        sums = self._sums[view.layer.index]
        sums.index_add_(0, pairs.kind, of_runs.to(sums.dtype))

    def sums(self) -> Mapping[str, Tensor]:
        by_kind = self._sums.transpose(0, 1)
        return {
            "category": by_kind[:CATEGORIES],
            "deprel_pairs": by_kind[CATEGORIES:].unflatten(0, (QUADRANTS, DEPREL_PAIRS)),
        }
