"""Attention to the targets of each relation (METHOD section 2), by fold (section 4)."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from headprobe.axes import FOLDS
from headprobe.tally.statistic import BatchStatistic, wide
from headprobe.tally.view import LayerView


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
        self._hits = {
            name: torch.zeros(layers, math.prod(bins), heads, dtype=torch.int32, device=device)
            for name, bins in self._bins.items()
        }

    def add(self, view: LayerView) -> None:
        asked, layer = view.batch.questions, view.layer.index
        if not len(asked.query):
            return
        kept, kind = view.kept[asked.passage, asked.query], self._kept.dtype
        self._kept[layer].index_add_(0, asked.relation, kept.to(kind))
        sums = self._on_targets[layer]
        share = view.shares[:, asked.passage[asked.of], asked.query[asked.of], :, asked.target]
        on_targets = torch.cat([share[:, :1] * kept[asked.of][:, None], share], dim=1)
        sums.index_add_(0, asked.relation[asked.of], on_targets.to(kind))
        # whoever asks for a class asks for all its earlier words: the columns' sums tell it all
        members = view.batch.classes.to(kind)
        on_classes = torch.einsum("kbhw,bwc->ckh", view.columns.to(kind), members)
        sums.index_add_(0, asked.of_class, on_classes)
        hits = torch.cat([_hits_of_links(view), _hits_of_classes(view)]).to(torch.int32)
        self._hits["hits_by_document"][layer].index_add_(0, asked.document_bin, hits)
        self._hits["hits_by_form"][layer].index_add_(0, asked.form_bin, hits)
        self._hits["hits_by_domain"][layer].index_add_(0, asked.domain_bin, hits)

    def sums(self) -> Mapping[str, Tensor]:
        mass, share, share_norm = self._on_targets.permute(2, 1, 0, 3)
        by_bin = {
            name: hits.unflatten(1, self._bins[name]).permute(1, 2, 0, 3).to(torch.int64)
            for name, hits in self._hits.items()
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
    passage, query = asked.passage[: asked.links], asked.query[: asked.links]
    winner = torch.where(
        asked.sentence_scope[:, None],
        view.sentence_winner[passage, query],
        view.passage_winner[passage, query],
    )
    if len(asked.strict):
        rows = passage[asked.strict], query[asked.strict]
        form = view.batch.form
        other = form[rows[0]] != form[rows[0], view.batch.first_word + rows[1]][:, None]
        winner[asked.strict] = view.winners(view.earlier[rows] * other[:, None, :])
    hits = torch.zeros_like(winner)
    return hits.index_add_(0, asked.of, (winner[asked.of] == asked.target[:, None]).to(hits.dtype))


def _hits_of_classes(view: LayerView) -> Tensor:
    """[I', H]: whether one of the class wins, for instances that ask for a class."""
    asked = view.batch.questions
    passage, query = asked.passage[asked.links :], asked.query[asked.links :]
    winner = view.passage_winner[passage, query]
    chosen = passage[:, None], winner.clamp(min=0), asked.column[:, None]
    return (view.batch.classes[chosen] > 0) & (winner >= 0)
