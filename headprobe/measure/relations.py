"""Attention to the targets of each relation (docs/method.md, "Relations")."""

from collections.abc import Mapping

import torch
from torch import Tensor

from headprobe.batching.batches import Chunk
from headprobe.measure.layer_view import LayerView, select_rows
from headprobe.measure.statistics import Statistic, sum_dtype
from headprobe.vocabulary import FOLDS

_BYTE = 8


class RelationStatistic(Statistic):
    """One hit per instance and head, as packed bits, and sums of attention to the targets.

    ``mass``, ``kept`` and ``share_norm`` are summed over the instances of each relation, ``share``
    over those of each relation and document fold, and of each relation and form fold.

    Every instance of a run has a row of ``hits`` of its own, so hits of chunks, processes and
    shards are joined by adding the rows. All groupings of hits are made when a run is judged.
    """

    def __init__(
        self, instances: int, relations: int, layers: int, heads: int, device: torch.device
    ) -> None:
        self._relations = relations
        # By head, so that one scatter per layer adds to all sums of a head.
        bins = 3 * relations + 2 * relations * FOLDS
        self._sums = torch.zeros(layers, heads, bins, dtype=sum_dtype(device), device=device)
        packed = -(-layers * heads // _BYTE)
        self._hits = torch.zeros(instances, packed, dtype=torch.uint8, device=device)

    def begin(self, chunk: Chunk) -> None:  # noqa: ARG002
        self._pending: dict[int, Tensor] = {}

    def add(self, view: LayerView) -> None:
        instances, layer, start = view.batch.instances, view.layer.index, view.batch.tile.start
        if not len(instances.row):
            return
        share, norm = view.instance_shares
        kept = select_rows(view.kept, instances.row).T
        values = torch.cat([share * kept, kept, norm, share, share], dim=1)
        relations = self._relations
        bins = torch.cat(
            [
                instances.relation,
                instances.relation + relations,
                instances.relation + 2 * relations,
                instances.bins[0] + 3 * relations,
                instances.bins[1] + 3 * relations + relations * FOLDS,
            ]
        )
        sums = self._sums[layer]
        sums.scatter_add_(1, bins.expand(len(values), -1), values.to(sums.dtype))
        # Eight heads share a byte, also heads of two layers, so hits wait for all layers.
        hits = view.instance_hits
        if start not in self._pending:
            rows = self._hits.shape[1] * _BYTE
            self._pending[start] = hits.new_zeros(rows, len(instances.row))
        first = layer * len(hits)
        self._pending[start][first : first + len(hits)] = hits

    def finish(self, chunk: Chunk) -> None:
        for batch in chunk.batches:
            hits = self._pending.pop(batch.tile.start, None)
            if hits is not None:
                self._hits.index_copy_(0, batch.instances.number, pack_bits(hits))

    def sums(self) -> Mapping[str, Tensor]:
        relations = self._relations
        mass, kept, norm, by_document, by_form = self._sums.split(
            [relations] * 3 + [relations * FOLDS] * 2, dim=2
        )
        return {
            **{
                name: sums.permute(2, 0, 1)
                for name, sums in (("mass", mass), ("kept", kept), ("share_norm", norm))
            },
            **{
                name: sums.permute(2, 0, 1).unflatten(0, (relations, FOLDS))
                for name, sums in (("share_by_document", by_document), ("share_by_form", by_form))
            },
            "hits": self._hits,
        }


def pack_bits(hits: Tensor) -> Tensor:
    """Pack zeros and ones [8 Z, I] into bytes [I, Z]: bit 7 - n % 8 of byte n // 8 is row n, as
    ``numpy.unpackbits`` expects."""
    packed = hits[0::_BYTE].clone()
    for place in range(1, _BYTE):
        packed.mul_(2).add_(hits[place::_BYTE])
    return packed.T.contiguous()
