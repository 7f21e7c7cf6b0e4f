"""Attention to the targets of each relation (docs/method.md, Relations), by fold."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from headprobe.batching.batches import AlignedBatch, Chunk
from headprobe.measure.layer_view import LayerView
from headprobe.measure.statistics import Statistic, sum_dtype
from headprobe.vocabulary import FOLDS

MAX_SUMMED = 1 << 22
"""So many numbers of instances, layers and heads are added up at once: more would only take more
memory."""


class RelationStatistic(Statistic):
    """``mass``, ``kept``, ``share``, ``share_norm`` by relation; hits by document fold, form fold
    and domain.

    What a layer tells of a batch is small; it is kept until all layers can be added up together.
    """

    def __init__(
        self, relations: int, domains: int, layers: int, heads: int, device: torch.device
    ) -> None:
        kind = sum_dtype(device)
        self._on_targets = torch.zeros(relations, 3, layers, heads, dtype=kind, device=device)
        self._kept = torch.zeros(relations, layers, heads, dtype=kind, device=device)
        self._bins = {
            "hits_by_document": (relations, FOLDS),
            "hits_by_form": (relations, FOLDS),
            "hits_by_domain": (relations, domains),
        }
        bins = sum(math.prod(of_kind) for of_kind in self._bins.values())
        self._hits = torch.zeros(bins, layers, heads, dtype=torch.int32, device=device)

    def begin(self, chunk: Chunk) -> None:  # noqa: ARG002
        self._pending: dict[int, tuple[Tensor, ...]] = {}

    def add(self, view: LayerView) -> None:
        instances, start = view.batch.instances, view.batch.tile.start
        if not len(instances.row):
            return
        # whoever asks for a class asks for all its earlier words: the columns' sums tell it all
        of_classes = view.batch.classes.flatten(0, 1).T @ view.columns.flatten(1, 2)
        parts = view.winner, view.kept, view.link_winner, view.targets, of_classes
        if start not in self._pending:
            # of all layers in one piece: many small ones would lie scattered among what comes and
            # goes meanwhile, and leave holes in the memory
            layers = self._kept.shape[1]
            self._pending[start] = tuple(of.new_empty(layers, *of.shape) for of in parts)
        for of_layers, of in zip(self._pending[start], parts, strict=True):
            of_layers[view.layer.index] = of

    def finish(self, chunk: Chunk) -> None:
        layers, heads = self._kept.shape[1:]
        for batch in chunk.batches:
            instances = batch.instances
            if parts := self._pending.pop(batch.tile.start, None):
                together = max(
                    1,
                    MAX_SUMMED
                    // (max(map(len, (instances.row, instances.instance_of_target))) * heads),
                )
                for first in range(0, layers, together):
                    some = slice(first, first + together)
                    self._add_up(batch, some, *(of[some] for of in parts))

    def _add_up(
        self,
        batch: AlignedBatch,
        some: slice,
        winner: Tensor,
        kept: Tensor,
        of_links: Tensor,
        on_targets: Tensor,
        of_classes: Tensor,
    ) -> None:
        """What ``some`` layers told of a batch: [L, B, W, H] by row, [L, I, H] winners of explicit
        links, [L, 2, K, H] by target, and [L, 3, C, H] by class."""
        instances, kind = batch.instances, self._kept.dtype
        winner, kept = (of.flatten(1, 2).transpose(0, 1).contiguous() for of in (winner, kept))
        kept = kept.index_select(0, instances.row)
        self._kept[:, some].index_add_(0, instances.relation, kept.to(kind))
        share, share_norm = on_targets.permute(1, 2, 0, 3)
        mass = share * kept.index_select(0, instances.instance_of_target)
        of_targets = torch.stack([mass, share, share_norm], dim=1).to(kind)
        self._on_targets[:, :, some].index_add_(0, instances.target_relation, of_targets)
        of_classes = of_classes.permute(2, 1, 0, 3).to(kind)
        self._on_targets[:, :, some].index_add_(0, instances.class_relation, of_classes)
        of_rows = winner.index_select(0, instances.row[instances.n_links :])
        of_links = of_links.transpose(0, 1).contiguous()
        hits = torch.cat([_hits_of_links(batch, of_links), _hits_of_classes(batch, of_rows)])
        for bins in instances.bins.view(len(self._bins), -1):
            self._hits[:, some].index_add_(0, bins, hits)

    def sums(self) -> Mapping[str, Tensor]:
        mass, share, share_norm = self._on_targets.unbind(1)
        parts = self._hits.split([math.prod(of_kind) for of_kind in self._bins.values()])
        by_bin = {
            name: hits.unflatten(0, of_kind).to(torch.int64)
            for (name, of_kind), hits in zip(self._bins.items(), parts, strict=True)
        }
        return {
            "mass": mass,
            "share": share,
            "share_norm": share_norm,
            "kept": self._kept,
            **by_bin,
        }


def _hits_of_links(batch: AlignedBatch, winner: Tensor) -> Tensor:
    """[I, ...]: 1 where a target wins."""
    instances = batch.instances
    hit = winner.index_select(0, instances.instance_of_target) == instances.target[:, None, None]
    return torch.zeros_like(winner).index_add_(
        0, instances.instance_of_target, hit.to(winner.dtype)
    )


def _hits_of_classes(batch: AlignedBatch, winner: Tensor) -> Tensor:
    """[I', ...]: 1 where one of the class wins."""
    place = batch.instances.class_start[:, None, None]
    place = place + winner.clamp(min=0) * batch.classes.shape[-1]
    member = batch.classes.flatten().index_select(0, place.flatten()).view_as(winner)
    return ((member > 0) & (winner >= 0)).to(winner.dtype)
