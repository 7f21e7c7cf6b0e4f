"""The compiled kernels with index checks: they stay inside their arrays and fill all results."""

from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import numba
import numpy as np
import pytest
import torch
from numba.core.registry import CPUDispatcher
from torch import Tensor

from headprobe.batching.batches import AlignedBatch, Batcher
from headprobe.batching.corpus import Corpus, align
from headprobe.batching.encoder import Encoder
from headprobe.batching.layout import plan_chunks
from headprobe.measure import numba_kernels as gather
from headprobe.measure import numba_kernels as strip
from headprobe.measure import numba_view as sweep
from headprobe.measure.torch_view import TorchView
from tests.helpers.checkpoints import toy_tokenizer
from tests.helpers.passes import passages_of
from tests.helpers.probes import PROBES
from tests.helpers.views import compare
from tests.helpers.views import sweep as swept_whole

pytestmark = pytest.mark.xdist_group("bounds")  # the checked kernels are compiled once

CPU = torch.device("cpu")


@pytest.fixture(scope="module", autouse=True)
def _checked() -> Iterator[None]:
    """Compile the kernels with index checks, and fill uninitialised arrays with NaN."""
    empty = torch.empty

    def spoiled(*shape, **options) -> Tensor:
        found = empty(*shape, **options)
        if found.is_floating_point():
            return found.fill_(torch.nan)
        return found.fill_(255 if found.dtype == torch.uint8 else -(1 << 30))

    with pytest.MonkeyPatch.context() as patched:
        for module in (strip, gather, sweep):
            for name, kernel in list(vars(module).items()):
                if isinstance(kernel, CPUDispatcher):
                    checked = numba.njit(kernel.py_func, boundscheck=True, error_model="numpy")
                    patched.setattr(module, name, checked)
                    patched.setattr(sweep, name, checked, raising=False)
        patched.setattr(sweep.torch, "empty", spoiled)
        yield


def test_checked_kernels_raise_for_an_index_out_of_bounds() -> None:
    with pytest.raises(IndexError):
        gather.gather_pairs(np.zeros(6, np.float32), np.array([8]), 2, np.zeros(1, np.float32))


@cache
def whole() -> Corpus:
    encoder = Encoder(toy_tokenizer(), "toy")
    return align(passages_of(PROBES, encoder, 60, most=12), encoder, lambda _: None, seed=0)


def thinned(corpus: Corpus, unusable: np.ndarray) -> Corpus:
    """Return the corpus without the words ``unusable`` [W] and the links to or from them."""
    found = corpus.instances
    usable = found.usable & ~unusable
    tokens = np.repeat(np.arange(len(corpus.lengths)), corpus.lengths)
    word = found.passage_first[tokens] + corpus.word_of_token
    owned = (corpus.word_of_token >= 0) & usable[np.minimum(word, len(usable) - 1)]
    ends = np.split(found.link_targets, found.link_first[1:-1])
    kept = [
        usable[query] and usable[of].all() for query, of in zip(found.link_query, ends, strict=True)
    ]
    left = [of for of, stays in zip(ends, kept, strict=True) if stays]
    instances = replace(
        found,
        usable=usable,
        link_relation=found.link_relation[kept],
        link_query=found.link_query[kept],
        link_first=np.cumsum([0, *map(len, left)]),
        link_targets=np.concatenate([np.zeros(0, np.int64), *left]),
        sampled_words=found.sampled_words[usable[found.sampled_words]],
        example_words=found.example_words[usable[found.example_words]],
    )
    return replace(
        corpus,
        instances=instances,
        word_of_token=np.where(owned, corpus.word_of_token, -1).astype(np.int32),
        last_token=np.where(usable, corpus.last_token, -1).astype(np.int32),
    )


def attention(
    batch: AlignedBatch, groups: int, shared: int, window: int, dtype: torch.dtype, sink: float
) -> tuple[Tensor, Tensor]:
    """Return random weights and scores like those of a model, with a learned ``sink``."""
    rows, keys = batch.tile.rows[:, None, :], batch.tile.keys[:, :, None]
    seen = (rows >= keys) & (keys >= 0) & (rows - keys < window)
    seen[:, -1] = batch.tile.rows == -1
    shape = len(rows), groups, keys.shape[1], shared, rows.shape[2]
    hidden = torch.where(seen, 0.0, torch.finfo(dtype).min / 2)[:, None, :, None, :]
    scores = (3 * torch.randn(shape) + hidden).to(dtype)
    learned = torch.full_like(scores[:, :, :1], sink)
    joined = torch.softmax(torch.cat([scores, learned], 2), 2, dtype=torch.float32)
    return joined[:, :, :-1], scores


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("scores", [1, 1 << 9, 1 << 12, 1 << 20])
@pytest.mark.parametrize("lost", [0.0, 0.3, 1.0])
def test_kernels_stay_in_bounds_and_fill_their_results_for_unusual_shapes(
    dtype: torch.dtype, scores: int, lost: float
) -> None:
    """Blocks of one row, without words or without usable words; windows, sinks, half precision."""
    generator = np.random.default_rng([scores, int(10 * lost)])
    torch.manual_seed(scores)
    first = whole().instances.passage < 2  # the first passages have no usable word at all
    corpus = thinned(whole(), first | (generator.random(len(first)) < lost))
    numbers, shapes = np.arange(len(corpus.lengths)), set()
    chunks = plan_chunks(numbers, corpus.lengths, 4, tokens=150, scores=scores)
    for number, blocks in enumerate(chunks):
        groups, shared = [(2, 2), (1, 3), (3, 1)][number % 3]
        for batch in Batcher(corpus, CPU, groups).build(blocks).batches:
            shapes.add((batch.first_word > 0, batch.queries > 0))
            if not batch.queries:
                continue
            window, sink = [(1000, -1e4), (3, 1.0), (5, 200.0)][(number // 3) % 3]
            weights, asked = attention(batch, groups, shared, window, dtype, sink)
            loudness = torch.rand(int(batch.tile.key_places.max()) + 1, groups * shared)
            swept = swept_whole(batch, weights, asked, loudness)
            copies = weights.contiguous(), asked.float(), loudness
            compare(swept, TorchView(batch, None, *copies))
            assert lost != 1.0 or not swept.columns.any()
    assert len(shapes) > (scores < 1 << 12)
    # another layout of memory is compiled anew, for seconds
    assert len(sweep.fill_view.signatures) == 1
