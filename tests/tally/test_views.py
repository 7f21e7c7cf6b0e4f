"""Compiled loops say of a layer what tensor operations say, in every number that is read."""

import numpy as np
import pytest
import torch

from headprobe.align.encoder import Encoder
from headprobe.align.pairs import KINDS
from headprobe.tally.sweep import SweptView
from headprobe.tally.tensors import TensorView
from headprobe.workflows.limits import BatchLimits
from tests.checkpoints import toy_tokenizer
from tests.model.tiny import tiny_model
from tests.tally.test_against_eager import PROBES, passages_of, run

NUMBERS = ("sampled", "over_rows", "drawn", "kept", "targets", "columns", "by_distance")
PLACES = ("winner", "link_winner")


def compare(swept: SweptView, tensors: TensorView) -> None:
    batch = swept.batch
    for name in NUMBERS:
        found, expected = getattr(swept, name), getattr(tensors, name)
        if name == "by_distance":  # as far as words reach; tensors may have zeros beyond
            assert not expected[:, found.shape[1] :].any()
            expected = expected[:, : found.shape[1]]
        torch.testing.assert_close(found, expected.to(found.dtype), rtol=2e-5, atol=2e-6, msg=name)
    for name in PLACES:
        assert torch.equal(getattr(swept, name), getattr(tensors, name)), name
    rows = torch.randperm(batch.queries * len(batch.usable))[:7]
    (share, word), (expected, places) = (view.strongest(rows, 3) for view in (swept, tensors))
    torch.testing.assert_close(share, expected, rtol=2e-6, atol=1e-7)
    lone = (expected > 0) & (expected.diff(dim=-1, append=expected[..., :1] * 0) < -1e-6)
    lone[..., 1:] &= lone[..., :-1]
    assert torch.equal(word[lone], places[lone])
    sums = [torch.zeros(swept.kept.shape[-1], KINDS, dtype=torch.float64) for _ in range(2)]
    swept.add_by_kind(sums[0])
    tensors.add_by_kind(sums[1])
    torch.testing.assert_close(*sums, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("scores", [1 << 12, 1 << 24])
@pytest.mark.parametrize(
    "name", ["llama", "llama-gqa", "mistral-window", "qwen3", "gpt_oss", "gemma2"]
)
def test_both_views_agree(
    monkeypatch: pytest.MonkeyPatch, name: str, scores: int, threads: int
) -> None:
    """Whole passages, and blocks of a few rows of them."""
    seen, firsts = [], []

    def both(batch, layer, weights, scores, loudness):
        swept = SweptView(batch, layer, weights, scores, loudness)
        compare(swept, TensorView(batch, layer, weights.clone(), scores.clone(), loudness))
        seen.append(batch.words)
        firsts.append(batch.first_word)
        return swept

    monkeypatch.setattr("headprobe.tally.tallier.SweptView", both)
    monkeypatch.setattr("headprobe.tally.sweep.ALONE", 0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    encoder = Encoder(toy_tokenizer(), "toy")
    passages = passages_of(PROBES, encoder, 90, most=8)
    run(tiny_model(name), passages, encoder, BatchLimits(tokens=300, scores=scores))
    assert len(set(seen)) > 1
    assert (max(firsts) > 0) == (scores == 1 << 12)


def test_rows_with_nothing_left_and_ties() -> None:
    """Equal weights win nowhere; rows that give all to the start have no share."""
    from headprobe.align.batches import Batcher
    from headprobe.align.corpus import align
    from headprobe.align.flat import Block

    encoder = Encoder(toy_tokenizer(), "toy")
    corpus = align(passages_of(PROBES, encoder, 40, most=2), encoder, lambda _: None, seed=0)
    chunk = Batcher(corpus, torch.device("cpu"), 2).build(
        [Block(np.array([0, 1]), 0, int(corpus.lengths[:2].max()))]
    )
    (batch,) = chunk.batches
    rectangle = batch.rectangle
    rows, keys = rectangle.rows[:, None, :], rectangle.keys[:, :, None]
    seen = (rows >= keys) & (keys >= 0)
    seen[:, -1] = rectangle.rows == -1
    shape = len(rows), 2, keys.shape[1], 2, rows.shape[2]
    even = torch.where(seen, 0.0, -1e30)[:, None, :, None, :].expand(shape).clone()
    even[:, 0, batch.words] += 200  # the first two heads: all to the start token
    weights = torch.softmax(even, 2)
    weights[:, 0, : batch.words] = 0
    loudness = torch.rand(chunk.flat.token_ids.shape[1], 4)
    swept = SweptView(batch, None, weights, even, loudness)
    compare(swept, TensorView(batch, None, weights.clone(), even.clone(), loudness))
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
