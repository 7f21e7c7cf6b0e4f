"""The one attention function: transformers' eager attention, its weights handed to an observer.

It is registered with transformers under NAME, together with the eager mask function: a name
without a mask function would get no mask at all, and rows would see the future (METHOD, trap 1).
"""

from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

NAME = "headprobe"


class Observer(Protocol):
    """What is told of each layer during a pass; must not keep what it is given."""

    def attended(self, module: nn.Module, weights: Tensor, value: Tensor, output: Tensor) -> None:
        """One layer has attended.

        ``weights`` [B, H, T, T] are the probabilities in float32, ``value`` [B, G, T, V] those of
        the key/value heads, ``output`` [B, T, H, V] the heads' outputs before ``o_proj``.
        """


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    observe: Observer | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Scaled dot-product attention of [B, H, T, D] queries over [B, G, T, D] keys and values.

    The query heads of a group are rows of one product with their shared key head. Soft caps
    (Gemma 2) and learned sinks (gpt-oss: one more logit, dropped after the softmax) as in
    transformers' eager functions. Returns the output [B, T, H, V].
    """
    batch, heads, rows, width = query.shape
    groups = key.shape[1]
    scale = width**-0.5 if scaling is None else scaling
    folded = query.reshape(batch, groups, -1, width)
    scores = (folded @ key.transpose(2, 3)).mul_(scale).view(batch, heads, rows, -1)
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    if attention_mask is not None:
        scores = scores + attention_mask[..., : key.shape[2]]
    if s_aux is None:
        weights = torch.softmax(scores, dim=-1, dtype=torch.float32)
    else:
        sinks = s_aux.reshape(1, -1, 1, 1).expand(batch, heads, rows, 1)
        weights = torch.softmax(torch.cat([scores, sinks], dim=-1), dim=-1, dtype=torch.float32)
        weights = weights[..., :-1]
    mixed = weights.to(value.dtype).reshape(batch, groups, -1, weights.shape[-1]) @ value
    output = mixed.view(batch, heads, rows, -1).transpose(1, 2).contiguous()
    if observe is not None:
        observe.attended(module, weights, value, output)
    return output, None


def register() -> None:
    """Make NAME known to transformers, with its mask function."""
    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, eager_mask)
