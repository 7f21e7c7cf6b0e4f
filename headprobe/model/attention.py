"""The one attention function, its weights handed to an observer.

It is registered with transformers under NAME, for tokens that lie flat (``align.flat``): every
linear layer works without padding, and only attention itself is made of rectangles. The mask
function registered beside it (a name without one would get no mask at all: METHOD, trap 1) keeps
the rule that transformers made for the model, which is then asked for each rectangle.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface

from headprobe.align.flat import Rectangle

NAME = "headprobe"


class Observer(Protocol):
    """What is told of each layer during a pass; must not keep what it is given."""

    def begin_layer(self, module: nn.Module, value: Tensor) -> None:
        """A layer is about to attend; ``value`` [N, G, V] are those of the key/value heads."""

    def attended(self, number: int, weights: Tensor) -> None:
        """The rectangle of this number has attended; ``weights`` [B, G, R, S, T] are the
        probabilities in float32 (query head g * S + s)."""

    def end_layer(self, module: nn.Module, output: Tensor) -> None:
        """The layer has attended; ``output`` [N, H, V] are its heads' before ``o_proj``."""


class Finished(Exception):  # noqa: N818
    """The last layer has attended: what would follow in the pass is of no interest."""


class Pass:
    """One pass over a flat run: who attends together, who is told, and where it may end."""

    def __init__(
        self, rectangles: Sequence[Rectangle], observer: Observer, last: nn.Module | None
    ) -> None:
        self.rectangles, self.observer, self.last = rectangles, observer, last
        self._places: dict[tuple[int, int], tuple[Tensor, Tensor, Tensor]] = {}

    def places(self, number: int, groups: int) -> tuple[Tensor, Tensor, Tensor]:
        """Where a rectangle's rows [B*G*R] and keys [B*G*T] stand in arrays of N * G, and where
        its real rows' outputs [n*G] stand among B * G * R."""
        found = self._places.get((number, groups))
        if found is None:
            rectangle = self.rectangles[number]
            group = torch.arange(groups, device=rectangle.keys.device)
            keys = rectangle.keys[:, None, :] * groups + group[:, None]
            passage, row = rectangle.real // rectangle.rows, rectangle.real % rectangle.rows
            back = (passage[:, None] * groups + group) * rectangle.rows + row[:, None]
            found = keys[..., rectangle.first :].flatten(), keys.flatten(), back.flatten()
            self._places[number, groups] = found
        return found


class Masking:
    """Which keys a row sees, by transformers' own rule for the model (windows, chunks).

    Such a rule knows places only, so the longest passage of a rectangle speaks for the others:
    their padding stands on the right, where no real row looks.
    """

    def __init__(self, sees: Callable[..., Tensor]) -> None:
        self._sees = sees
        self._bias: dict[int, Tensor] = {}

    def bias(self, rectangle: Rectangle, shared: int, dtype: torch.dtype) -> Tensor:
        """[R * S, T] to add to scores."""
        found = self._bias.get(rectangle.start)
        if found is None:
            places = rectangle.keys[0]
            none = torch.zeros_like(places[:1, None])
            seen = self._sees(none, none, places[rectangle.first :, None], places[None, :])
            hidden = torch.zeros(seen.shape, dtype=dtype, device=places.device)
            hidden.masked_fill_(~seen, -torch.inf)
            found = self._bias[rectangle.start] = hidden.repeat_interleave(shared, 0)
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
    flat: Pass,
    scaling: float | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Scaled dot-product attention of [1, H, N, D] queries over [1, G, N, D] keys and values.

    The S query heads of a group are rows of one product with their shared key head. Soft caps
    (Gemma 2) and learned sinks (gpt-oss: one more logit, dropped after the softmax) as in
    transformers' eager functions. Returns the output [1, N, H, V].
    """
    heads, tokens, width = query.shape[1:]
    groups, shared = key.shape[1], heads // key.shape[1]
    scale = width**-0.5 if scaling is None else scaling
    queries = query[0].transpose(0, 1).reshape(tokens * groups, shared * width)
    keys, values = (x[0].transpose(0, 1).reshape(tokens * groups, -1) for x in (key, value))
    output = values.new_empty(tokens, heads * values.shape[1])
    flat.observer.begin_layer(module, values.view(tokens, groups, -1))
    for number, rectangle in enumerate(flat.rectangles):
        asking, seen, back = flat.places(number, groups)
        batch, length = rectangle.keys.shape
        rows = queries.index_select(0, asking).view(batch * groups, -1, width)
        columns = keys.index_select(0, seen).view(batch * groups, length, width).mT
        bias = attention_mask.bias(rectangle, shared, query.dtype)
        if softcap is None:
            scores = torch.baddbmm(bias, rows, columns, alpha=scale)
        else:
            scores = torch.tanh(torch.bmm(rows, columns) * (scale / softcap)) * softcap + bias
        weights = _softmax(scores, s_aux, groups)
        mixed = torch.bmm(
            weights.to(value.dtype), values.index_select(0, seen).view(batch * groups, length, -1)
        )
        real = mixed.view(batch * groups * rectangle.rows, -1).index_select(0, back)
        stop = rectangle.start + len(rectangle.real)
        output[rectangle.start : stop] = real.view(-1, output.shape[1])
        shape = batch, groups, rectangle.rows, shared, length
        flat.observer.attended(number, weights.view(shape))
    flat.observer.end_layer(module, output.view(tokens, heads, -1))
    if module is flat.last:
        raise Finished
    return output.view(1, tokens, heads, -1), None


def _softmax(scores: Tensor, sinks: Tensor | None, groups: int) -> Tensor:
    """[B * G, R * S, T] probabilities in float32; ``sinks`` [H] take their part of each row."""
    if sinks is None:
        return torch.softmax(scores, dim=-1, dtype=torch.float32)
    by_group = sinks.view(groups, 1, -1)
    repeats = len(scores) // groups, scores.shape[1] // by_group.shape[-1], 1
    column = by_group.repeat(repeats).view(len(scores), -1, 1).to(scores.dtype)
    joined = torch.softmax(torch.cat([scores, column], dim=-1), dim=-1, dtype=torch.float32)
    return joined[..., :-1].contiguous()


def register() -> None:
    """Make NAME known to transformers, with its mask function."""
    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, keep_rule)
