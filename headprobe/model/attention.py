"""The attention function that hands the attention probabilities of every layer to an observer.

``register`` makes it known to transformers under ``NAME``, together with a mask function: for a
name without a mask function transformers would build no mask at all, and rows would see the future.

Attention works on a packed sequence (``batching.layout``): the tokens of all passages one after
another, without padding, so that every linear layer of the model works on real tokens only.
Attention itself goes tile by tile: R rows of each of B passages against T keys.

Letters in shapes: N tokens of the sequence, H query heads, G key/value heads, S = H / G query heads
per key/value head, D width of queries and keys, V width of values, E width of the residual stream.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface

from headprobe.batching.layout import EMPTY, AttentionTile

NAME = "headprobe"
"""The name of the attention function in transformers' registries."""


@dataclass(frozen=True)
class TilePart:
    """The part of a tile that one call of ``Observer.attended`` covers."""

    passages: slice
    """The passages of the part, of the tile's B."""
    groups: slice
    """The key/value heads of the part, of the layer's G."""
    last: bool
    """Whether this is the tile's last part."""


class Observer:
    """Receives every layer's attention during a forward pass.

    For each layer the calls are ``residual``, ``begin_layer``, ``attended`` once per part of each
    tile, and ``end_layer``. All methods do nothing by default. The tensors passed are reused or
    freed afterwards: an observer must copy what it keeps. It may write into the heads' outputs
    (``end_layer``) to intervene, and into nothing else.
    """

    @property
    def weights_per_call(self) -> int | None:
        """The approximate number of attention weights per call of ``attended``, chosen so that
        they fit in a CPU cache; None for whole tiles."""
        return None

    def residual(self, layer: int, hidden: Tensor) -> None:
        """Receive the residual stream [1, N, E] that enters a layer."""

    def begin_layer(self, module: nn.Module, value: Tensor) -> None:
        """Called before a layer attends; ``value`` [N, G, V] holds its values."""

    def attended(self, number: int, part: TilePart, weights: Tensor, scores: Tensor) -> None:
        """Receive one part of tile ``number``; the parts of a tile come in order.

        ``weights`` [B, G, T, S, R] are the attention probabilities in float32, for the passages and
        key/value heads of the part; query head g * S + s is at [:, g, :, s]. ``scores`` are the
        logits that the softmax took, finite even where the weight is zero.
        """

    def end_layer(self, module: nn.Module, output: Tensor) -> None:
        """Called after a layer attended; ``output`` [N, H, V] are its heads' outputs, before the
        output projection, which receives what an observer writes into them."""


class PassFinished(Exception):  # noqa: N818
    """Raised after the attention of a pass's last layer, to skip the rest of the model."""


class Pass:
    """One forward pass over a packed sequence: its tiles, its observer, and its last layer.

    ``last`` is the attention module after which the pass stops with ``PassFinished``; with None the
    model runs to its end.
    """

    def __init__(
        self, tiles: Sequence[AttentionTile], observer: Observer, last: nn.Module | None
    ) -> None:
        self.tiles, self.observer, self.last = tiles, observer, last
        self.device = tiles[0].rows.device
        self._places: dict[tuple[int, int, int], tuple[Tensor, Tensor, Tensor]] = {}

    @contextmanager
    def running(self) -> Iterator[None]:
        """Make this the pass of the current thread.

        A context variable carries it, not a keyword argument of the model, because some
        architectures do not forward keyword arguments to attention.
        """
        token = RUNNING.set(self)
        try:
            yield
        finally:
            RUNNING.reset(token)

    def places(self, number: int, heads: int, groups: int) -> tuple[Tensor, Tensor, Tensor]:
        """The indices that gather tile ``number`` from the sequence and scatter its outputs back.

        Returns three index vectors: the tile's rows [B * H * R] in an array of N * H rows, its keys
        [B * G * T] in one of N * G rows, and its real rows' outputs [n * H] among the B * H * R
        outputs of the tile. They are the same for all layers, so they are computed once per pass.
        """
        places = self._places.get((number, heads, groups))
        if places is None:
            tile = self.tiles[number]
            head = torch.arange(heads, device=tile.rows.device)
            # Queries lie as [N, H, D] in memory: head h of token t is row t * H + h
            query_places = tile.query_places[:, None, :] * heads + head[:, None]  # [B, H, R]
            key_places = tile.key_places[:, None, :] * groups + head[:groups, None]  # [B, G, T]
            # Outputs of the tile lie as [B, H, R]: undo that for each row that is a token
            rows = tile.rows.shape[1]
            passage, row = tile.token_rows // rows, tile.token_rows % rows
            output_places = (passage[:, None] * heads + head) * rows + row[:, None]  # [n, H]
            places = query_places.flatten(), key_places.flatten(), output_places.flatten()
            self._places[number, heads, groups] = places
        return places


RUNNING: ContextVar[Pass] = ContextVar("RUNNING")
"""The pass that runs in this thread."""


class LayerMask:
    """Which keys each row sees, by the rule that transformers has for the model's layers.

    transformers builds one rule per kind of layer (full, sliding window, chunked). The rule is
    evaluated for one tile at a time, and the result is kept for the other layers of that kind.
    """

    def __init__(self, mask_function: Callable[..., Tensor]) -> None:
        self._mask_function = mask_function
        self._bias: dict[int, Tensor] = {}

    def bias(self, tile: AttentionTile, dtype: torch.dtype) -> Tensor:
        """[B, 1, T, 1, R], to add to scores: 0 where the row sees the key, else very negative."""
        bias = self._bias.get(tile.start)
        if bias is None:
            rows, keys = tile.rows[:, None, :], tile.keys[:, :, None]
            zero = torch.zeros_like(keys[:1])  # for the indices of batch and head
            seen = self._mask_function(zero, zero, rows, keys) & (keys >= 0)  # [B, T, R]
            # The null key takes all the weight of rows that are no token, whose softmax is then
            # defined, and none of the other rows'
            seen[:, -1] = tile.rows == EMPTY
            # Half of the lowest number: a score added to it stays finite
            low = torch.finfo(dtype).min / 2
            # Filled in the dtype itself: where() would overflow with a float64
            bias = torch.zeros(seen.shape, dtype=dtype, device=seen.device)
            bias = bias.masked_fill_(~seen, low)[:, None, :, None, :]
            self._bias[tile.start] = bias
        return bias


def keep_mask_rule(*, mask_function: Callable[..., Tensor], **_: Any) -> LayerMask:
    """The mask function for transformers: keeps the rule of a kind of layer, builds no mask yet."""
    return LayerMask(mask_function)


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: LayerMask,
    scaling: float | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Scaled dot-product attention of [1, H, N, D] queries over [1, G, N, D] keys and values.

    ``softcap`` (Gemma 2) caps the scores, and ``s_aux`` [H] (gpt-oss) holds learned sinks: one more
    logit per head, dropped after the softmax. Both work as in transformers' eager functions.

    Returns the output [1, N, H, V] and None, as transformers expects. A layer may be on another
    device than the sequence: it attends, and is observed, on the sequence's device.
    """
    flat, home = RUNNING.get(), query.device
    query, key, value = (each.to(flat.device) for each in (query, key, value))
    heads, tokens, width = query.shape[1:]
    groups = key.shape[1]
    per_group = heads // groups
    scale = width**-0.5 if scaling is None else scaling

    # Tokens first and one row per token and head, so that a tile is gathered by one index_select
    queries = query[0].transpose(0, 1).reshape(tokens * heads, width)  # [N * H, D]
    keys, values = (
        each[0].transpose(0, 1).reshape(tokens * groups, -1) for each in (key, value)
    )  # [N * G, D], [N * G, V]
    output = values.new_empty(tokens, heads * values.shape[1])  # [N, H * V]
    flat.observer.begin_layer(module, values.view(tokens, groups, -1))

    for number, tile in enumerate(flat.tiles):
        query_places, key_places, output_places = flat.places(number, heads, groups)
        (batch, length), rows = tile.keys.shape, tile.rows.shape[1]
        # The S query heads of a group become S * R rows, so that one product with the shared key
        # head serves all of them, and key heads are never repeated
        tile_queries = queries.index_select(0, query_places).view(batch, groups, -1, width).mT
        tile_keys = keys.index_select(0, key_places).view(batch, groups, length, width)
        tile_values = values.index_select(0, key_places).view(batch, groups, length, -1)
        bias = attention_mask.bias(tile, query.dtype)  # [B, 1, T, 1, R]
        tile_output = output.new_empty(batch, groups, per_group * rows, tile_values.shape[-1])

        for part in _parts(
            batch, groups, bias[0].numel() * per_group, flat.observer.weights_per_call
        ):
            inside = part.passages, part.groups
            part_keys = tile_keys[inside].flatten(0, 1)  # [B * G, T, D]
            part_queries = tile_queries[inside].flatten(0, 1)  # [B * G, D, S * R]
            part_values = tile_values[inside].flatten(0, 1)  # [B * G, T, V]
            shape = *tile_keys[inside].shape[:3], per_group, rows

            # Scores [B, G, T, S, R]: keys before rows in memory, so that a sum over keys (the
            # softmax, the statistics) adds up long contiguous vectors
            part_bias = bias[part.passages].expand(shape)
            if softcap is None:
                # The product accumulates into a copy of the bias, so no addition follows
                scores = part_bias.clone(memory_format=torch.contiguous_format)
                scores.view(len(part_keys), length, -1).baddbmm_(
                    part_keys, part_queries, alpha=scale
                )
            else:
                # The cap applies to scores without the bias, so the bias comes last
                scores = torch.bmm(part_keys, part_queries)
                scores = scores.mul_(scale / softcap).tanh_().mul_(softcap)
                scores = scores.view(shape).add_(part_bias)

            sinks = None if s_aux is None else s_aux.to(flat.device).view(groups, -1)[part.groups]
            weights = _softmax(scores, sinks)

            # [B * G, S * R, T] weights times [B * G, T, V] values, in the model's own dtype
            part_output = torch.bmm(
                weights.flatten(3).flatten(0, 1).mT.to(value.dtype), part_values
            )
            tile_output[inside] = part_output.view(*shape[:2], *part_output.shape[1:])
            flat.observer.attended(number, part, weights, scores)

        # [B, G, S * R, V] is [B, H, R, V]: take the rows that are tokens, in sequence order
        real = tile_output.view(batch * heads * rows, -1).index_select(0, output_places)
        stop = tile.start + len(tile.token_rows)
        output[tile.start : stop] = real.view(-1, output.shape[1])

    flat.observer.end_layer(module, output.view(tokens, heads, -1))
    if module is flat.last:
        raise PassFinished
    return output.view(1, tokens, heads, -1).to(home), None


def _parts(
    passages: int, groups: int, size: int, weights_per_call: int | None
) -> Iterator[TilePart]:
    """Split a tile into parts of about ``weights_per_call`` attention weights, or yield it whole.

    ``size`` is the number of weights of one passage and one key/value head (T * S * R), the
    smallest part there is. Passages are separated first; the key/value heads of a passage only
    where one passage has more weights than a call should take.
    """
    if weights_per_call is None:
        passage_step, group_step = passages, groups
    else:
        passage_weights = groups * size
        n_calls = math.ceil(passages * passage_weights / weights_per_call)
        passage_step = math.ceil(passages / n_calls)
        group_step = math.ceil(groups / math.ceil(passage_weights / weights_per_call))
    corners = list(product(range(0, passages, passage_step), range(0, groups, group_step)))
    for passage, group in corners:
        yield TilePart(
            slice(passage, min(passage + passage_step, passages)),
            slice(group, min(group + group_step, groups)),
            last=(passage, group) == corners[-1],
        )


def _softmax(scores: Tensor, sinks: Tensor | None) -> Tensor:
    """Probabilities [B, G, T, S, R] over keys (dim 2), in float32 whatever the scores are in.

    With ``sinks`` [G, S] each row has one more logit, whose probability is dropped: the rest sums
    to less than one.
    """
    if sinks is None:
        return torch.softmax(scores, dim=2, dtype=torch.float32)
    row = sinks[None, :, None, :, None].expand_as(scores[:, :, :1])
    joined = torch.cat([scores, row.to(scores.dtype)], dim=2)
    return torch.softmax(joined, dim=2, dtype=torch.float32)[:, :, :-1].contiguous()


def register() -> None:
    """Register the attention function and its mask function with transformers under ``NAME``."""
    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, keep_mask_rule)
