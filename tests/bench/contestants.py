"""Ways to pass the same tokens through the same model, from the cheapest that there is."""

from collections.abc import Callable, Mapping
from itertools import pairwise
from unittest.mock import patch

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel

from headprobe.align.batches import Batcher
from headprobe.align.corpus import Corpus
from headprobe.align.flat import Flat, lay_flat, plan_chunks
from headprobe.model.heads import HeadGrid
from headprobe.store.copying import LAGS
from headprobe.tally.copying import repeat_tokens
from headprobe.tally.likeness import LikenessStatistic
from headprobe.workflows.measuring import measure

CPU = torch.device("cpu")
TOGETHER = 16
"""Passages of a padded batch, sorted by length."""


class Contest:
    """All ways, for one model (``grid``) and one corpus. Those named ``+ copying`` pass the
    repeated random tokens too, which every scan adds to the probes."""

    def __init__(self, grid: HeadGrid, corpus: Corpus) -> None:
        self._grid, self._corpus = grid, corpus
        self._base: PreTrainedModel = grid.model.base_model
        edges = corpus.token_first
        passages = [corpus.token_ids[a:b].astype(np.int64) for a, b in pairwise(edges)]
        numbers = Batcher(corpus, CPU).token_numbers
        copying = repeat_tokens(corpus.token_ids[: corpus.starts], numbers, grid.context, 0)
        self._passages = passages
        self._flat = _lay(passages)
        self._flat_with_copying = _lay([*passages, *(ids for ids in copying if len(ids))])
        AttentionInterface.register("flat_sdpa", _attend_flat)
        AttentionMaskInterface.register("flat_sdpa", lambda *_, **__: None)

    def limit(self, *, copying: bool) -> None:
        """No padding anywhere: passages of one length attend as one."""
        self._base.set_attn_implementation("flat_sdpa")
        with torch.inference_mode():
            for flat in self._flat_with_copying if copying else self._flat:
                self._base(
                    input_ids=flat.token_ids,
                    position_ids=flat.positions,
                    use_cache=False,
                    rectangles=flat.rectangles,
                )

    def padded(self) -> None:
        """What a careful script does: sorted by length, padded, SDPA."""
        self._base.set_attn_implementation("sdpa")
        with torch.inference_mode():
            for ids, real, _ in self._batches(by_length=True):
                self._base(input_ids=ids, attention_mask=real, use_cache=False)

    def headprobe(self, *, likeness: bool, copying: bool) -> None:
        """From the loaded model to the last sum."""
        self._grid.model.set_attn_implementation("headprobe")
        of_pairs = LikenessStatistic if likeness else _Nothing
        repeated = repeat_tokens if copying else _no_sequences
        with (
            patch("headprobe.tally.tallier.LikenessStatistic", of_pairs),
            patch("headprobe.workflows.measuring.repeat_tokens", repeated),
        ):
            measure(self._grid, self._corpus, seed=0, idle_line=0.3, advance=_no)

    def by_hand(self) -> None:
        """What a script does: the causal language model, in file order, every map returned and
        reduced in torch to sinks, self, entropy, and attention from word to word with its winners;
        no relation, no fold, no norm, no likeness."""
        model = self._grid.model
        model.set_attn_implementation("eager")
        with torch.inference_mode():
            for ids, real, words in self._batches(by_length=False):
                maps = model(
                    input_ids=ids, attention_mask=real, use_cache=False, output_attentions=True
                ).attentions
                columns = F.one_hot(words + 1)[..., 1:].float()
                last = columns.shape[1] - 1 - columns.flip(1).argmax(1)
                row = torch.arange(len(ids))[:, None]
                for weights in maps:
                    rows = weights.transpose(1, 2)[row, last]
                    torch.special.entr(rows).sum((0, 1, 3))
                    rows[..., 0].sum((0, 1))
                    to_words = torch.einsum("bwht,btk->bwhk", rows, columns)
                    to_words.diagonal(dim1=1, dim2=3).sum((0, 2))
                    earlier = to_words * torch.ones_like(to_words[0, :, 0]).tril(-1)[:, None]
                    share = earlier / earlier.sum(-1, keepdim=True).clamp(min=1e-9)
                    earlier.argmax(-1)
                    share.sum((0, 1))

    def _batches(self, *, by_length: bool) -> list[tuple[Tensor, Tensor, Tensor]]:
        edges = self._corpus.token_first
        words = [self._corpus.word_of_token[a:b] for a, b in pairwise(edges)]
        order = np.argsort([-len(ids) * by_length for ids in self._passages], kind="stable")
        batches = []
        for start in range(0, len(order), TOGETHER):
            rows = order[start : start + TOGETHER]
            ids = [torch.from_numpy(self._passages[p]) for p in rows]
            batches.append(
                (
                    _pad(ids, 0),
                    _pad([torch.ones_like(row) for row in ids], 0),
                    _pad([torch.from_numpy(words[p].astype(np.int64)) for p in rows], -1),
                )
            )
        return batches


def _lay(passages: list[np.ndarray]) -> list[Flat]:
    """Chunks of at most 2,048 tokens, whose rectangles hold passages of one length."""
    lengths = np.array([len(ids) for ids in passages])
    with patch.multiple("headprobe.align.flat", ALIKE=1, SPARED=0):
        plan = plan_chunks(np.arange(len(passages)), lengths, 1, tokens=2048, scores=1 << 40)
    return [lay_flat(dict(enumerate(passages)), blocks, CPU) for blocks in plan]


def _attend_flat(
    module: object, query: Tensor, key: Tensor, value: Tensor, _mask: None, **given: object
) -> tuple[Tensor, None]:
    output = torch.empty(1, query.shape[2], query.shape[1], value.shape[-1])
    for rectangle in given["rectangles"]:  # type: ignore[attr-defined]
        batch, length = rectangle.rows.shape
        rows = slice(rectangle.start, rectangle.start + batch * length)
        parts = (
            x[0, :, rows].unflatten(1, (batch, length)).transpose(0, 1) for x in (query, key, value)
        )
        found = F.scaled_dot_product_attention(
            *parts, is_causal=True, enable_gqa=query.shape[1] != key.shape[1]
        )
        output[0, rows] = found.transpose(1, 2).flatten(0, 1)
    return output, None


def _pad(rows: list[Tensor], fill: int) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=fill)


def _no(*_: object) -> None:
    """Hears nothing."""


def _no_sequences(*_: object) -> list[np.ndarray]:
    return [np.empty(0, dtype=np.int64) for _ in LAGS]


class _Nothing:
    """Stands where the likeness of heads would be added up."""

    def __init__(self, *_: object) -> None:
        """Needs nothing."""

    def add(self, view: object) -> None:
        """Adds nothing."""

    begin = add_output = finish = add

    def sums(self) -> dict[str, Tensor]:
        return {}


WAYS: Mapping[str, Callable[[Contest], None]] = {
    "unpadded SDPA (the limit)": lambda given: given.limit(copying=False),
    "unpadded SDPA + copying": lambda given: given.limit(copying=True),
    "padded SDPA": Contest.padded,
    "headprobe, no likeness": lambda given: given.headprobe(likeness=False, copying=False),
    "headprobe": lambda given: given.headprobe(likeness=True, copying=False),
    "headprobe + copying": lambda given: given.headprobe(likeness=True, copying=True),
    "eager CausalLM by hand": Contest.by_hand,
}
