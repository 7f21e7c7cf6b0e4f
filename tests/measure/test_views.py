"""``NumbaView`` and ``TorchView`` agree in every number that statistics read."""

from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from headprobe.batching.encoder import Encoder
from headprobe.measure.memory import BatchLimits
from headprobe.measure.numba_view import NumbaView
from headprobe.measure.torch_view import TorchView
from headprobe.model.attention import TilePart
from tests.helpers.checkpoints import toy_tokenizer
from tests.helpers.passes import passages_of, run
from tests.helpers.probes import PROBES
from tests.helpers.tiny import tiny_model
from tests.helpers.views import compare, sweep


class Beside(NumbaView):
    """Keeps the parts that it receives, and compares the result with ``TorchView``."""

    seen: ClassVar[list[tuple[int, int, int]]] = []

    def __init__(self, batch, layer, loudness, by_kind) -> None:
        self.by_kind, self._whole, self._loud = torch.zeros_like(by_kind), None, loudness
        self._real, self._parts = by_kind, 0
        super().__init__(batch, layer, loudness, self.by_kind)

    def add_part(self, part: TilePart, weights: Tensor, scores: Tensor) -> None:
        if self._whole is None:
            passages, keys = self.batch.tile.keys.shape
            groups = self._loud.shape[1] // weights.shape[3]
            whole = torch.empty(passages, groups, keys, *weights.shape[3:])
            self._whole = whole, whole.clone()
        for kept, given in zip(self._whole, (weights, scores), strict=True):
            kept[part.passages, part.groups] = given
        super().add_part(part, weights, scores)
        self._parts += 1
        if part.last:
            compare(self, TorchView(self.batch, self.layer, *self._whole, self._loud))
            self.seen.append((self.batch.words, self.batch.first_word, self._parts))
            self._real += self.by_kind


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("at_once", [1, 1 << 11, 1 << 17])
@pytest.mark.parametrize("scores", [1 << 12, 1 << 24])
@pytest.mark.parametrize(
    "name", ["llama", "llama-gqa", "mistral-window", "qwen3", "gpt_oss", "gemma2"]
)
def test_numba_view_equals_torch_view(
    monkeypatch: pytest.MonkeyPatch, name: str, scores: int, at_once: int, threads: int
) -> None:
    """For whole passages and for blocks of few rows; for one head at a time, several, and all."""
    monkeypatch.setattr(Beside, "seen", [])
    monkeypatch.setattr("headprobe.measure.collector.NumbaView", Beside)
    monkeypatch.setattr("headprobe.measure.collector.WEIGHTS_PER_THREAD", at_once)
    monkeypatch.setattr("headprobe.measure.numba_view.MIN_PARALLEL_WEIGHTS", 0)
    monkeypatch.setattr("headprobe.batching.layout.MAX_PADDING_WEIGHTS", 0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)  # scans restore their number
    encoder = Encoder(toy_tokenizer(), "toy")
    passages = passages_of(PROBES, encoder, 90, most=8)
    run(tiny_model(name), passages, encoder, BatchLimits(tokens=300, scores=scores))
    words, firsts, parts = zip(*Beside.seen, strict=True)
    assert len(set(words)) > 1
    assert (max(firsts) > 0) == (scores == 1 << 12)
    assert (max(parts) > 1) == (at_once * threads < min(scores, 1 << 17))


def test_views_agree_for_ties_and_for_rows_without_stripped_attention() -> None:
    """Equal weights have no winner; rows that attend only to the start token have no share."""
    from headprobe.batching.batches import Batcher
    from headprobe.batching.corpus import align
    from headprobe.batching.layout import Block

    encoder = Encoder(toy_tokenizer(), "toy")
    corpus = align(passages_of(PROBES, encoder, 40, most=2), encoder, lambda _: None, seed=0)
    chunk = Batcher(corpus, torch.device("cpu"), 2).build(
        [Block(np.array([0, 1]), 0, int(corpus.lengths[:2].max()))]
    )
    (batch,) = chunk.batches
    tile = batch.tile
    rows, keys = tile.rows[:, None, :], tile.keys[:, :, None]
    seen = (rows >= keys) & (keys >= 0)
    seen[:, -1] = tile.rows == -1
    shape = len(rows), 2, keys.shape[1], 2, rows.shape[2]
    even = torch.where(seen, 0.0, -1e30)[:, None, :, None, :].expand(shape).clone()
    even[:, 0, batch.words] += 200  # the first two heads: all to the start token
    weights = torch.softmax(even, 2)
    weights[:, 0, : batch.words] = 0
    loudness = torch.rand(chunk.flat.token_ids.shape[1], 4)
    swept = sweep(batch, weights, even, loudness)
    compare(swept, TorchView(batch, None, weights.clone(), even.clone(), loudness))
    assert not swept.kept[..., :2].any()
    assert not swept.columns[..., :2].any()
    assert (swept.winner[..., :2] == -1).all()
    for b, usable in enumerate(batch.usable.tolist()):
        # every token gets the same, so that the word of most tokens wins
        tokens = [int(known) for known in usable]
        for passage, _, word in batch.extra.T.tolist():
            tokens[word] += passage == b
        for word in range(batch.queries):
            most = max(tokens[:word], default=0)
            lone = usable[word] and tokens[:word].count(most) == 1 and most > 0
            expected = tokens.index(most) if lone else -1
            assert swept.winner[b, word, 2:].tolist() == [expected] * 2
