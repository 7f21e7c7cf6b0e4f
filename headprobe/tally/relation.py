"""Attention to the targets of each relation (METHOD section 2), by fold (section 4)."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from headprobe.axes import FOLDS
from headprobe.tally.statistic import BatchStatistic, wide
from headprobe.tally.view import LayerView, winners


class RelationStatistic(BatchStatistic):
    """``mass``, ``kept``, ``share``, ``share_norm`` by relation; hits by document fold, form fold
    and domain."""

    def __init__(
        self, relations: int, domains: int, layers: int, heads: int, device: torch.device
    ) -> None:
        kind = wide(device)
        self._on_targets = torch.zeros(layers, relations, 3, heads, dtype=kind, device=device)
        self._kept = torch.zeros(layers, relations, heads, dtype=kind, device=device)
        self._bins = {
            "hits_by_document": (relations, FOLDS),
            "hits_by_form": (relations, FOLDS),
            "hits_by_domain": (relations, domains),
        }
        bins = sum(math.prod(of_kind) for of_kind in self._bins.values())
        self._hits = torch.zeros(layers, bins, heads, dtype=torch.int32, device=device)

    def add(self, view: LayerView) -> None:
        asked, layer = view.batch.questions, view.layer.index
        if not len(asked.row):
            return
        kept, kind = view.at(view.kept, asked.row), self._kept.dtype
        self._kept[layer].index_add_(0, asked.relation, kept.to(kind))
        sums = self._on_targets[layer]
        share = view.share_by_pair.index_select(0, asked.target_pair)
        share_norm = view.at_pairs(view.shares[1], asked.target_pair)
        mass = share * kept.index_select(0, asked.of)
        on_targets = torch.stack([mass, share, share_norm], dim=1)
        sums.index_add_(0, asked.target_relation, on_targets.to(kind))
        # whoever asks for a class asks for all its earlier words: the columns' sums tell it all
        of_classes = view.batch.classes.flatten(0, 1).T @ view.columns.flatten(1, 2)
        sums.index_add_(0, asked.of_class, of_classes.transpose(0, 1).to(kind))
        hits = torch.cat([_hits_of_links(view), _hits_of_classes(view)]).to(torch.int32)
        self._hits[layer].index_add_(0, asked.bins, hits.repeat(len(self._bins), 1))

    def sums(self) -> Mapping[str, Tensor]:
        mass, share, share_norm = self._on_targets.permute(2, 1, 0, 3)
        parts = self._hits.split([math.prod(of_kind) for of_kind in self._bins.values()], dim=1)
        by_bin = {
            name: hits.unflatten(1, of_kind).permute(1, 2, 0, 3).to(torch.int64)
            for (name, of_kind), hits in zip(self._bins.items(), parts, strict=True)
        }
        return {
            "mass": mass,
            "share": share,
            "share_norm": share_norm,
            "kept": self._kept.transpose(0, 1),
            **by_bin,
        }


def _hits_of_links(view: LayerView) -> Tensor:
    """[I, H]: whether a target wins, for instances with targets of their own."""
    asked = view.batch.questions
    rows = asked.row[: asked.links]
    winner = view.at(view.passage_winner, rows)
    if not view.batch.one_sentence:
        of_sentence = view.at(view.sentence_winner, rows)
        winner = torch.where(asked.sentence_scope[:, None], of_sentence, winner)
    if len(asked.strict):
        shares = view.whole(asked.row[asked.strict])
        candidates = shares * asked.other_form.T[:, :, None]
        winner[asked.strict] = winners(candidates.flatten(1)[None]).view(candidates.shape[1:])
    hits = torch.zeros_like(winner)
    hit = winner.index_select(0, asked.of) == asked.target[:, None]
    return hits.index_add_(0, asked.of, hit.to(hits.dtype))


def _hits_of_classes(view: LayerView) -> Tensor:
    """[I', H]: whether one of the class wins, for instances that ask for a class."""
    asked = view.batch.questions
    winner = view.at(view.passage_winner, asked.row[asked.links :])
    place = asked.class_start[:, None] + winner.clamp(min=0) * view.batch.classes.shape[-1]
    return (view.batch.classes.flatten()[place] > 0) & (winner >= 0)
