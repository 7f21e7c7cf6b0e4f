"""Attention to the targets of each relation (METHOD section 2), by fold (section 4)."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from headprobe.align.batches import AlignedBatch
from headprobe.axes import FOLDS
from headprobe.tally.statistic import wide
from headprobe.tally.view import LayerView


class RelationStatistic:
    """``mass``, ``kept``, ``share``, ``share_norm`` by relation; hits by document fold, form fold
    and domain."""

    def __init__(
        self, relations: int, domains: int, layers: int, heads: int, device: torch.device
    ) -> None:
        sums = (layers, relations, heads)
        self._sums = {
            name: torch.zeros(sums, dtype=wide(device), device=device)
            for name in ("mass", "kept", "share", "share_norm")
        }
        self._bins = {
            "hits_by_document": (relations, FOLDS),
            "hits_by_form": (relations, FOLDS),
            "hits_by_domain": (relations, domains),
        }
        self._hits = {
            name: torch.zeros(layers, math.prod(bins), heads, dtype=torch.int64, device=device)
            for name, bins in self._bins.items()
        }

    def add(self, view: LayerView) -> None:
        asked, layer = view.batch.questions, view.layer.index
        if not len(asked.query):
            return
        links, classes = slice(0, asked.links), slice(asked.links, None)
        linked = _of_links(view, links)
        classed = _of_classes(view, classes)
        for name, sums in self._sums.items():
            values = torch.cat([linked[name], classed[name]]).to(sums.dtype)
            sums[layer].index_add_(0, asked.relation, values)
        hits = torch.cat([linked["hits"], classed["hits"]]).to(torch.int64)
        self._hits["hits_by_document"][layer].index_add_(0, asked.document_bin, hits)
        self._hits["hits_by_form"][layer].index_add_(0, asked.form_bin, hits)
        self._hits["hits_by_domain"][layer].index_add_(0, asked.domain_bin, hits)

    def finish(self, batch: AlignedBatch) -> None:
        """Nothing spans layers."""

    def sums(self) -> Mapping[str, Tensor]:
        by_relation = {name: sums.transpose(0, 1) for name, sums in self._sums.items()}
        by_bin = {
            name: hits.unflatten(1, self._bins[name]).permute(1, 2, 0, 3)
            for name, hits in self._hits.items()
        }
        return by_relation | by_bin


def _of_links(view: LayerView, links: slice) -> dict[str, Tensor]:
    """[I, H] of each value, for instances with targets of their own."""
    asked = view.batch.questions
    passage, query = asked.passage[links], asked.query[links]
    at_target = (passage[asked.of], query[asked.of], slice(None), asked.target)

    def summed(of_pairs: Tensor) -> Tensor:
        total = of_pairs.new_zeros(len(query), of_pairs.shape[-1])
        return total.index_add_(0, asked.of, of_pairs)

    winner = torch.where(
        asked.sentence_scope[:, None],
        view.sentence_winner[passage, query],
        view.passage_winner[passage, query],
    )
    if len(asked.strict):
        rows = passage[asked.strict], query[asked.strict]
        form = view.batch.form
        other = form[rows[0]] != form[rows][:, None]
        winner[asked.strict] = view.winners(view.earlier[rows] * other[:, None, :])
    return {
        "mass": summed(view.earlier[at_target]),
        "share": summed(view.share[at_target]),
        "share_norm": summed(view.share_norm[at_target]),
        "kept": view.kept[passage, query],
        "hits": summed((winner[asked.of] == asked.target[:, None]).to(torch.int64)),
    }


def _of_classes(view: LayerView, classes: slice) -> dict[str, Tensor]:
    """[I', H] of each value, for instances whose targets are all earlier words of a class."""
    asked = view.batch.questions
    passage, query, column = asked.passage[classes], asked.query[classes], asked.column
    member = view.batch.classes
    chosen = (passage, query, slice(None), column)
    kept = view.kept[passage, query]
    share = _times(view.share, member)[chosen]
    winner = view.passage_winner[passage, query]
    hit = member[passage[:, None], winner.clamp(min=0), column[:, None]] > 0
    return {
        "mass": share * kept,
        "share": share,
        "share_norm": _times(view.share_norm, member)[chosen],
        "kept": kept,
        "hits": hit & (winner >= 0),
    }


def _times(rows: Tensor, columns: Tensor) -> Tensor:
    """[B, W, H, W] by [B, W, C]: [B, W, H, C]."""
    batch, words, heads, keys = rows.shape
    product = rows.reshape(batch, words * heads, keys) @ columns
    return product.view(batch, words, heads, -1)
