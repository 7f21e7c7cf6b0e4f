"""Ways to pass the same tokens through the same model, from the cheapest that there is."""

from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise
from unittest.mock import patch

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel

from headprobe.batching.batches import Batcher
from headprobe.batching.corpus import Corpus
from headprobe.batching.layout import PackedSequence, pack_passages, plan_chunks
from headprobe.measure.copying import repeat_tokens
from headprobe.measure.loop import measure
from headprobe.measure.similarity import SimilarityStatistic
from headprobe.model.heads import ObservedModel
from headprobe.vocabulary import LAGS
from tests.bench.by_hand import Look, look_eagerly, reduction
from tests.bench.peers import PEERS, checked

CPU = torch.device("cpu")
TOGETHER = 16
"""Passages of a padded batch, sorted by length."""


class Contest:
    """All ways, for one model (``observed``) and one corpus. Those named ``+ copying`` pass the
    repeated random tokens too, which every scan adds to the probes."""

    def __init__(self, observed: ObservedModel, corpus: Corpus) -> None:
        self._grid, self._corpus = observed, corpus
        self.model = observed.model
        self._base: PreTrainedModel = observed.model.base_model
        edges = corpus.token_first
        passages = [corpus.token_ids[a:b].astype(np.int64) for a, b in pairwise(edges)]
        numbers = Batcher(corpus, CPU).distinct_tokens
        copying = repeat_tokens(corpus.token_ids[: corpus.starts], numbers, observed.context, 0)
        self._passages = passages
        self._flat = _lay(passages)
        self._flat_with_copying = _lay([*passages, *(ids for ids in copying if len(ids))])
        AttentionInterface.register("unpadded", _attend_flat)
        AttentionMaskInterface.register("unpadded", lambda *_, **__: None)

    def limit(self, *, copying: bool) -> None:
        """No padding anywhere: passages of one length attend as one. Windows, soft caps and learned
        sinks are left out: what they cost more is no part of the limit."""
        self._base.set_attn_implementation("unpadded")
        with torch.inference_mode():
            for flat in self._flat_with_copying if copying else self._flat:
                self._base(
                    input_ids=flat.token_ids,
                    position_ids=flat.positions,
                    use_cache=False,
                    tiles=flat.tiles,
                )

    def padded(self) -> None:
        """What a careful script does: sorted by length, padded, SDPA (eager attention without its
        maps where transformers has no other for the model)."""
        self._base.set_attn_implementation("sdpa" if self._base._supports_sdpa else "eager")
        with torch.inference_mode():
            for ids, real, _ in self._batches(by_length=True):
                self._base(input_ids=ids, attention_mask=real, use_cache=False)

    def headprobe(self, *, likeness: bool, copying: bool) -> None:
        """From the loaded model to the last sum."""
        self.model.set_attn_implementation("headprobe")
        of_pairs = SimilarityStatistic if likeness else _Nothing
        repeated = repeat_tokens if copying else _no_sequences
        with (
            patch("headprobe.measure.collector.SimilarityStatistic", of_pairs),
            patch("headprobe.measure.loop.repeat_tokens", repeated),
        ):
            measure(self._grid, self._corpus, seed=0, idle_line=0.3, advance=_no)

    def one_by_one(self) -> None:
        """As BertViz is used: a sentence at a time through the causal language model, its maps
        joined as its ``head_view`` joins them, [L, H, T, T]. What it does then, to write them into
        a page, is left out: the maps alone are the least that it takes, and nothing is reduced."""
        look = look_eagerly(self.model)
        with torch.inference_mode():
            for passage in self._passages:
                maps, ids = list[Tensor](), torch.from_numpy(passage)[None]
                look(ids, torch.ones_like(ids), maps.append)
                torch.stack(maps).squeeze(1)

    def by_hand(self, look: Look) -> None:
        """What a script does: batches in file order, every map looked at and reduced."""
        with torch.inference_mode():
            for ids, real, words in self._batches(by_length=False):
                look(ids, real, reduction(words))

    def by_peer(self, name: str) -> Callable[[], None]:
        """By hand with another tool, once it is seen to find eager's attention."""
        ids, real, _ = self._batches(by_length=False)[0]
        return partial(self.by_hand, checked(PEERS[name], self.model, ids[:2, :64], real[:2, :64]))

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


def _lay(passages: list[np.ndarray]) -> list[PackedSequence]:
    """Chunks of at most 2,048 tokens, whose tiles hold passages of one length."""
    lengths = np.array([len(ids) for ids in passages])
    with patch.multiple("headprobe.batching.layout", MIN_LENGTH_RATIO=1, MAX_PADDING_WEIGHTS=0):
        plan = plan_chunks(np.arange(len(passages)), lengths, 1, tokens=2048, scores=1 << 40)
    return [pack_passages(dict(enumerate(passages)), blocks, CPU) for blocks in plan]


def _attend_flat(
    module: object, query: Tensor, key: Tensor, value: Tensor, _mask: None, **given: object
) -> tuple[Tensor, None]:
    output = value.new_empty(1, query.shape[2], query.shape[1], value.shape[-1])
    for tile in given["tiles"]:  # type: ignore[attr-defined]
        batch, length = tile.rows.shape
        rows = slice(tile.start, tile.start + batch * length)
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


WAYS: Mapping[str, Callable[[Contest], Callable[[], object]]] = {
    "unpadded SDPA (the limit)": lambda given: partial(given.limit, copying=False),
    "unpadded SDPA + copying": lambda given: partial(given.limit, copying=True),
    "padded SDPA": lambda given: given.padded,
    "headprobe, no likeness": lambda given: partial(given.headprobe, likeness=False, copying=False),
    "headprobe": lambda given: partial(given.headprobe, likeness=True, copying=False),
    "headprobe + copying": lambda given: partial(given.headprobe, likeness=True, copying=True),
    "eager CausalLM by hand": lambda given: partial(given.by_hand, look_eagerly(given.model)),
    **{name: partial(Contest.by_peer, name=name) for name in PEERS},
    "a sentence at a time (BertViz)": lambda given: given.one_by_one,
}
"""Each prepares what is then timed."""
