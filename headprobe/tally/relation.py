"""Attention to the targets of each relation (METHOD section 2), by fold (section 4)."""

import math
from collections import defaultdict
from collections.abc import Mapping

import torch
from torch import Tensor

from headprobe.align.batches import AlignedBatch, Chunk
from headprobe.axes import FOLDS
from headprobe.tally.statistic import wide
from headprobe.tally.view import LayerView, OutputView


class RelationStatistic:
    """``mass``, ``kept``, ``share``, ``share_norm`` by relation; hits by document fold, form fold
    and domain.

    What a layer tells of a batch is small; the layers are added up together, in one go.
    """

    def __init__(
        self, relations: int, domains: int, layers: int, heads: int, device: torch.device
    ) -> None:
        kind = wide(device)
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
        self._told: dict[int, list[tuple[Tensor, ...]]] = defaultdict(list)

    def add(self, view: LayerView) -> None:
        asked = view.batch.questions
        if not len(asked.row):
            return
        # whoever asks for a class asks for all its earlier words: the columns' sums tell it all
        of_classes = view.batch.classes.flatten(0, 1).T @ view.columns.flatten(1, 2)
        of_rows = view.winner.flatten(0, 1), view.kept.flatten(0, 1)
        told = *of_rows, view.link_winner, *view.targets, of_classes.transpose(0, 1)
        self._told[view.batch.rectangle.start].append(told)

    def add_output(self, view: OutputView) -> None:
        """Of no interest here."""

    def finish(self, chunk: Chunk) -> None:
        for batch in chunk.batches:
            if told := self._told.pop(batch.rectangle.start, None):
                self._add_up(batch, *(torch.stack(of, -2) for of in zip(*told, strict=True)))

    def _add_up(
        self,
        batch: AlignedBatch,
        winner: Tensor,
        kept: Tensor,
        of_links: Tensor,
        share: Tensor,
        share_norm: Tensor,
        of_classes: Tensor,
    ) -> None:
        """What all layers told of a batch: [B * W, L, H] by row, [I, L, H] winners of explicit
        links, [K, L, H] by target, and [C, 3, L, H] by class."""
        asked, kind = batch.questions, self._kept.dtype
        kept = kept.index_select(0, asked.row)
        self._kept.index_add_(0, asked.relation, kept.to(kind))
        mass = share * kept.index_select(0, asked.of)
        on_targets = torch.stack([mass, share, share_norm], dim=1)
        self._on_targets.index_add_(0, asked.target_relation, on_targets.to(kind))
        self._on_targets.index_add_(0, asked.of_class, of_classes.to(kind))
        of_classes = winner.index_select(0, asked.row[asked.links :])
        hits = torch.cat([_hits_of_links(batch, of_links), _hits_of_classes(batch, of_classes)])
        for bins in asked.bins.view(len(self._bins), -1):
            self._hits.index_add_(0, bins, hits)

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
    asked = batch.questions
    hit = winner.index_select(0, asked.of) == asked.target[:, None, None]
    return torch.zeros_like(winner).index_add_(0, asked.of, hit.to(winner.dtype))


def _hits_of_classes(batch: AlignedBatch, winner: Tensor) -> Tensor:
    """[I', ...]: 1 where one of the class wins."""
    place = batch.questions.class_start[:, None, None]
    place = place + winner.clamp(min=0) * batch.classes.shape[-1]
    member = batch.classes.flatten().index_select(0, place.flatten()).view_as(winner)
    return ((member > 0) & (winner >= 0)).to(winner.dtype)
