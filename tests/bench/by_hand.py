"""Looking at every map: what a script that does without headprobe makes of them."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from transformers import PreTrainedModel

Read = Callable[[Tensor], object]
"""Is shown the attention [B, H, T, T] of a layer."""

Look = Callable[[Tensor, Tensor, Read], None]
"""Passes token ids [B, T], of which some are real [B, T], and lets each layer's attention be read,
the first layer's first."""


def look_eagerly(model: PreTrainedModel) -> Look:
    """The causal language model, every map returned at the end."""
    model.set_attn_implementation("eager")

    def look(ids: Tensor, real: Tensor, read: Read) -> None:
        found: Any = model(
            input_ids=ids, attention_mask=real, use_cache=False, output_attentions=True
        )
        for weights in found.attentions:
            read(weights)

    return look


def reduction(words: Tensor) -> Read:
    """Reduces a layer in torch to sinks, self, entropy, and attention from word to word with its
    winners, given the word [B, T] of each token (or -1); no relation, no fold, no norm, no
    likeness."""
    columns = F.one_hot(words + 1)[..., 1:].float()
    last = columns.shape[1] - 1 - columns.flip(1).argmax(1)
    row = torch.arange(len(words))[:, None]

    def reduce(weights: Tensor) -> None:
        rows = weights.transpose(1, 2)[row, last]
        torch.special.entr(rows).sum((0, 1, 3))
        rows[..., 0].sum((0, 1))
        to_words = torch.einsum("bwht,btk->bwhk", rows, columns)
        to_words.diagonal(dim1=1, dim2=3).sum((0, 2))
        earlier = to_words * torch.ones_like(to_words[0, :, 0]).tril(-1)[:, None]
        share = earlier / earlier.sum(-1, keepdim=True).clamp(min=1e-9)
        earlier.argmax(-1)
        share.sum((0, 1))

    return reduce
