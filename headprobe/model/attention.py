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

from headprobe.batching.layout import NONE, Rectangle

NAME = "headprobe"


@dataclass(frozen=True)
class Part:
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
    def at_once(self) -> int | None:
        """The approximate number of attention weights per call of ``attended``, chosen so that
        they fit in a CPU cache; None for whole rectangles."""
        return None

    def residual(self, layer: int, hidden: Tensor) -> None:
        """The residual stream [1, N, E] that enters a layer."""

    def begin_layer(self, module: nn.Module, value: Tensor) -> None:
        """Called before a layer attends; ``value`` [N, G, V] are its key/value heads' values."""

    def attended(self, number: int, part: Part, weights: Tensor, scores: Tensor) -> None:
        """One part of rectangle ``number``, part after part: ``weights`` [B, G, T, S, R] are the
        attention probabilities in float32 (query head g * S + s), the softmax of ``scores``,
        which are finite even where the weight is zero."""

    def end_layer(self, module: nn.Module, output: Tensor) -> None:
        """Called after a layer attended; ``output`` [N, H, V] are its heads' outputs, before the
        output projection."""


class Finished(Exception):  # noqa: N818
    """The last layer has attended: what would follow in the pass is of no interest."""


class Pass:
    """One pass over a flat run: who attends together, who is told, and where it may end."""

    def __init__(
        self, rectangles: Sequence[Rectangle], observer: Observer, last: nn.Module | None
    ) -> None:
        self.rectangles, self.observer, self.last = rectangles, observer, last
        self.device = rectangles[0].rows.device
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
        found = self._places.get((number, heads, groups))
        if found is None:
            rectangle = self.rectangles[number]
            head = torch.arange(heads, device=rectangle.rows.device)
            asking = rectangle.asking[:, None, :] * heads + head[:, None]
            seen = rectangle.seen[:, None, :] * groups + head[:groups, None]
            rows = rectangle.rows.shape[1]
            passage, row = rectangle.real // rows, rectangle.real % rows
            back = (passage[:, None] * heads + head) * rows + row[:, None]
            found = asking.flatten(), seen.flatten(), back.flatten()
            self._places[number, heads, groups] = found
        return found


RUNNING: ContextVar[Pass] = ContextVar("RUNNING")
"""The pass that runs in this thread."""


class Masking:
    """Which keys a row sees, by transformers' own rule for the model (windows, chunks)."""

    def __init__(self, sees: Callable[..., Tensor]) -> None:
        self._sees = sees
        self._bias: dict[int, Tensor] = {}

    def bias(self, rectangle: Rectangle, dtype: torch.dtype) -> Tensor:
        """[B, 1, T, 1, R] to add to scores."""
        found = self._bias.get(rectangle.start)
        if found is None:
            rows, keys = rectangle.rows[:, None, :], rectangle.keys[:, :, None]
            none = torch.zeros_like(keys[:1])
            seen = self._sees(none, none, rows, keys) & (keys >= 0)
            seen[:, -1] = rectangle.rows == NONE
            low = torch.finfo(dtype).min / 2
            hidden = torch.where(seen, 0.0, low).to(dtype)
            found = self._bias[rectangle.start] = hidden[:, None, :, None, :]
        return found


def keep_rule(*, mask_function: Callable[..., Tensor], **_: Any) -> Masking:
    """The mask function: transformers' rule for a kind of layer, not yet a mask."""
    return Masking(mask_function)


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Masking,
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
    for number, rectangle in enumerate(flat.rectangles):
        asking, seen, back = flat.places(number, heads, groups)
        (batch, length), rows = rectangle.keys.shape, rectangle.rows.shape[1]
        asked = queries.index_select(0, asking).view(batch, groups, -1, width).mT
        columns = keys.index_select(0, seen).view(batch, groups, length, width)
        of_keys = values.index_select(0, seen).view(batch, groups, length, -1)
        bias = attention_mask.bias(rectangle, query.dtype)
        mixed = output.new_empty(batch, groups, heads // groups * rows, of_keys.shape[-1])
        for part in _parts(batch, groups, bias[0].numel() * heads // groups, flat.observer.at_once):
            some, of = part.passages, part.groups
            shape = *columns[some, of].shape[:3], heads // groups, rows
            here = bias[some].expand(shape)
            keyed, asks = columns[some, of].flatten(0, 1), asked[some, of].flatten(0, 1)
            if softcap is None:
                scores = here.clone(memory_format=torch.contiguous_format)
                scores.view(len(keyed), length, -1).baddbmm_(keyed, asks, alpha=scale)
            else:
                scores = torch.bmm(keyed, asks).mul_(scale / softcap).tanh_().mul_(softcap)
                scores = scores.view(shape).add_(here)
            sinks = None if s_aux is None else s_aux.to(flat.device).view(groups, -1)[of]
            weights = _softmax(scores, sinks)
            given = of_keys[some, of].flatten(0, 1)
            found = torch.bmm(weights.flatten(3).flatten(0, 1).mT.to(value.dtype), given)
            mixed[some, of] = found.view(*shape[:2], *found.shape[1:])
            flat.observer.attended(number, part, weights, scores)
        real = mixed.view(batch * heads * rows, -1).index_select(0, back)
        stop = rectangle.start + len(rectangle.real)
        output[rectangle.start : stop] = real.view(-1, output.shape[1])
    flat.observer.end_layer(module, output.view(tokens, heads, -1))
    if module is flat.last:
        raise Finished
    return output.view(1, tokens, heads, -1).to(home), None


def _parts(passages: int, groups: int, size: int, at_once: int | None) -> Iterator[Part]:
    """All of a rectangle in parts of about so many weights; one passage has ``size`` of them for
    each key/value head."""
    of_passage = 1 if at_once is None else math.ceil(groups * size / at_once)
    of_all = 1 if at_once is None else math.ceil(passages * groups * size / at_once)
    together, heads = math.ceil(passages / of_all), math.ceil(groups / of_passage)
    corners = list(product(range(0, passages, together), range(0, groups, heads)))
    for passage, group in corners:
        yield Part(
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
    AttentionMaskInterface.register(NAME, keep_rule)
