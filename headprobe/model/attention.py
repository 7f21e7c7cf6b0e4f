"""The one attention function, its weights handed to an observer.

It is registered with transformers under NAME, for tokens that lie flat (``batching.layout``): every
linear layer works without padding, and only attention itself is made of rectangles. The mask
function registered beside it (a name without one would get no mask at all: METHOD, trap 1) keeps
the rule that transformers made for the model, which is then asked for each rectangle.
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


@dataclass(frozen=True)
class TilePart:
    """These passages and key/value heads of a rectangle; ``last``: no more of it follow."""

    passages: slice
    groups: slice
    last: bool


class Observer:
    """Receives every layer's attention during a forward pass.

    For each layer the calls are ``residual``, ``begin_layer``, ``attended`` once per part and
    ``end_layer``. All methods do nothing by default. The tensors passed are reused or freed
    afterwards: an observer must copy what it keeps.
    """

    @property
    def weights_per_call(self) -> int | None:
        """The approximate number of attention weights per call of ``attended``, chosen so that
        they fit in a CPU cache; None for whole rectangles."""
        return None

    def residual(self, layer: int, hidden: Tensor) -> None:
        """The residual stream [1, N, E] that enters a layer."""

    def begin_layer(self, module: nn.Module, value: Tensor) -> None:
        """Called before a layer attends; ``value`` [N, G, V] are its key/value heads' values."""

    def attended(self, number: int, part: TilePart, weights: Tensor, scores: Tensor) -> None:
        """One part of rectangle ``number``, part after part: ``weights`` [B, G, T, S, R] are the
        attention probabilities in float32 (query head g * S + s), the softmax of ``scores``,
        which are finite even where the weight is zero."""

    def end_layer(self, module: nn.Module, output: Tensor) -> None:
        """Called after a layer attended; ``output`` [N, H, V] are its heads' outputs, before the
        output projection."""


class PassFinished(Exception):  # noqa: N818
    """The last layer has attended: what would follow in the pass is of no interest."""


class Pass:
    """One pass over a flat run: who attends together, who is told, and where it may end."""

    def __init__(
        self, tiles: Sequence[AttentionTile], observer: Observer, last: nn.Module | None
    ) -> None:
        self.tiles, self.observer, self.last = tiles, observer, last
        self.device = tiles[0].rows.device
        self._places: dict[tuple[int, int, int], tuple[Tensor, Tensor, Tensor]] = {}

    @contextmanager
    def running(self) -> Iterator[None]:
        """While open, this thread's passes through a model are this one. It is no keyword argument
        of the model: some architectures do not hand those on to attention."""
        token = RUNNING.set(self)
        try:
            yield
        finally:
            RUNNING.reset(token)

    def places(self, number: int, heads: int, groups: int) -> tuple[Tensor, Tensor, Tensor]:
        """Where a rectangle's rows [B*H*R] stand in arrays of N * H and its keys [B*G*T] in those
        of N * G, and where its real rows' outputs [n*H] stand among B * H * R."""
        places = self._places.get((number, heads, groups))
        if places is None:
            tile = self.tiles[number]
            head = torch.arange(heads, device=tile.rows.device)
            query_places = tile.query_places[:, None, :] * heads + head[:, None]
            key_places = tile.key_places[:, None, :] * groups + head[:groups, None]
            rows = tile.rows.shape[1]
            passage, row = tile.token_rows // rows, tile.token_rows % rows
            output_places = (passage[:, None] * heads + head) * rows + row[:, None]
            places = query_places.flatten(), key_places.flatten(), output_places.flatten()
            self._places[number, heads, groups] = places
        return places


RUNNING: ContextVar[Pass] = ContextVar("RUNNING")
"""The pass that runs in this thread."""


class LayerMask:
    """Which keys a row sees, by transformers' own rule for the model (windows, chunks)."""

    def __init__(self, sees: Callable[..., Tensor]) -> None:
        self._mask_function = sees
        self._bias: dict[int, Tensor] = {}

    def bias(self, tile: AttentionTile, dtype: torch.dtype) -> Tensor:
        """[B, 1, T, 1, R] to add to scores."""
        bias = self._bias.get(tile.start)
        if bias is None:
            rows, keys = tile.rows[:, None, :], tile.keys[:, :, None]
            none = torch.zeros_like(keys[:1])
            seen = self._mask_function(none, none, rows, keys) & (keys >= 0)
            seen[:, -1] = tile.rows == EMPTY
            low = torch.finfo(dtype).min / 2
            hidden = torch.where(seen, 0.0, low).to(dtype)
            bias = self._bias[tile.start] = hidden[:, None, :, None, :]
        return bias


def keep_mask_rule(*, mask_function: Callable[..., Tensor], **_: Any) -> LayerMask:
    """The mask function: transformers' rule for a kind of layer, not yet a mask."""
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

    The S query heads of a group are rows of one product with their shared key head; keys come
    before rows in memory, so that to go over keys is to add up long vectors. Soft caps (Gemma 2)
    and learned sinks (gpt-oss: one more logit, dropped after the softmax) as in transformers'
    eager functions. Returns the output [1, N, H, V].

    A layer may be on another device than the run: it attends, and is observed, where the run is.
    """
    flat, home = RUNNING.get(), query.device
    query, key, value = (each.to(flat.device) for each in (query, key, value))
    heads, tokens, width = query.shape[1:]
    groups = key.shape[1]
    scale = width**-0.5 if scaling is None else scaling
    queries = query[0].transpose(0, 1).reshape(tokens * heads, width)
    keys, values = (x[0].transpose(0, 1).reshape(tokens * groups, -1) for x in (key, value))
    output = values.new_empty(tokens, heads * values.shape[1])
    flat.observer.begin_layer(module, values.view(tokens, groups, -1))
    for number, tile in enumerate(flat.tiles):
        query_places, key_places, output_places = flat.places(number, heads, groups)
        (batch, length), rows = tile.keys.shape, tile.rows.shape[1]
        tile_queries = queries.index_select(0, query_places).view(batch, groups, -1, width).mT
        tile_keys = keys.index_select(0, key_places).view(batch, groups, length, width)
        tile_values = values.index_select(0, key_places).view(batch, groups, length, -1)
        bias = attention_mask.bias(tile, query.dtype)
        tile_output = output.new_empty(batch, groups, heads // groups * rows, tile_values.shape[-1])
        for part in _parts(
            batch, groups, bias[0].numel() * heads // groups, flat.observer.weights_per_call
        ):
            some_passages, some_groups = part.passages, part.groups
            shape = *tile_keys[some_passages, some_groups].shape[:3], heads // groups, rows
            part_bias = bias[some_passages].expand(shape)
            part_keys, part_queries = (
                tile_keys[some_passages, some_groups].flatten(0, 1),
                tile_queries[some_passages, some_groups].flatten(0, 1),
            )
            if softcap is None:
                scores = part_bias.clone(memory_format=torch.contiguous_format)
                scores.view(len(part_keys), length, -1).baddbmm_(
                    part_keys, part_queries, alpha=scale
                )
            else:
                scores = (
                    torch.bmm(part_keys, part_queries).mul_(scale / softcap).tanh_().mul_(softcap)
                )
                scores = scores.view(shape).add_(part_bias)
            sinks = None if s_aux is None else s_aux.to(flat.device).view(groups, -1)[some_groups]
            weights = _softmax(scores, sinks)
            part_values = tile_values[some_passages, some_groups].flatten(0, 1)
            part_output = torch.bmm(
                weights.flatten(3).flatten(0, 1).mT.to(value.dtype), part_values
            )
            tile_output[some_passages, some_groups] = part_output.view(
                *shape[:2], *part_output.shape[1:]
            )
            flat.observer.attended(number, part, weights, scores)
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
    """All of a rectangle in parts of about so many weights; one passage has ``size`` of them for
    each key/value head."""
    of_passage = 1 if weights_per_call is None else math.ceil(groups * size / weights_per_call)
    of_all = (
        1 if weights_per_call is None else math.ceil(passages * groups * size / weights_per_call)
    )
    together, heads = math.ceil(passages / of_all), math.ceil(groups / of_passage)
    corners = list(product(range(0, passages, together), range(0, groups, heads)))
    for passage, group in corners:
        yield TilePart(
            slice(passage, min(passage + together, passages)),
            slice(group, min(group + heads, groups)),
            last=(passage, group) == corners[-1],
        )


def _softmax(scores: Tensor, sinks: Tensor | None) -> Tensor:
    """[B, G, T, S, R] probabilities in float32; ``sinks`` [G, S] take their part of each row."""
    if sinks is None:
        return torch.softmax(scores, dim=2, dtype=torch.float32)
    row = sinks[None, :, None, :, None].expand_as(scores[:, :, :1])
    joined = torch.cat([scores, row.to(scores.dtype)], dim=2)
    return torch.softmax(joined, dim=2, dtype=torch.float32)[:, :, :-1].contiguous()


def register() -> None:
    """Make NAME known to transformers, with its mask function."""
    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, keep_mask_rule)
