"""No operation of a pass makes the host wait for the device."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from headprobe.batching.batches import Batcher
from headprobe.batching.layout import pack_passages, plan_chunks
from headprobe.measure.collector import StatisticsCollector
from headprobe.measure.copying import CopyingObserver, repeat_tokens
from headprobe.model.forward import observe_packed, run_chunk
from headprobe.model.heads import observe_model
from tests.helpers.corpora import corpus_of
from tests.helpers.tiny import random_ids, tiny_model

WAITING = {
    *("nonzero", "masked_select", "_local_scalar_dense", "item", "equal", "is_nonzero", "allclose"),
    *("_unique2", "unique_dim", "unique_consecutive", "bincount", "repeat_interleave"),
}
"""Operations whose result, or its shape, only the device knows."""

COPIES = ("cpu", "numpy", "tolist")
"""What ends on the host, if not by an operation of a device."""


def _before_the_layers() -> bool:
    """transformers asks once a pass whether places start anew."""
    return any(f.name == "find_packed_sequence_indices" for f in traceback.extract_stack())


class NoWaiting(TorchDispatchMode):
    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        by_mask = operation.overloadpacket.__name__ in {"index", "index_put", "index_put_"} and any(
            index is not None and index.dtype in {torch.bool, torch.uint8} for index in args[1]
        )
        repeats = str(operation) == "aten.repeat_interleave.self_int"
        waits = by_mask or (operation.overloadpacket.__name__ in WAITING and not repeats)
        if waits and not _before_the_layers():
            pytest.fail(f"{operation} waits\n{''.join(traceback.format_stack(limit=8))}")
        return operation(*args, **(kwargs or {}))


@contextmanager
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def refused(*_: object) -> None:
        pytest.fail(f"a copy to the host waits\n{''.join(traceback.format_stack(limit=8))}")

    with monkeypatch.context() as patched, NoWaiting():
        for name in COPIES:
            patched.setattr(torch.Tensor, name, refused)
        yield


def test_waiting_operations_are_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = torch.arange(3.0)
    waiting = [
        lambda: numbers[numbers > 1],
        lambda: float(numbers.sum()),
        lambda: bool((numbers > 1).any()),
        lambda: torch.nonzero(numbers),
        lambda: numbers.index_put_((numbers > 1,), torch.tensor(0.0)),
        lambda: numbers.tolist(),  # noqa: PLW0108
        lambda: numbers.cpu(),  # noqa: PLW0108
    ]
    for wait in waiting:
        with no_waiting(monkeypatch), pytest.raises(pytest.fail.Exception, match="waits"):
            wait()
    with no_waiting(monkeypatch):
        numbers.repeat_interleave(2, 0)[torch.tensor([0, 2])] *= 2


@pytest.mark.parametrize("name", ["llama-gqa", "gemma2", "gpt_oss"])
@pytest.mark.parametrize("scores", [1 << 12, 1 << 20])
def test_passes_contain_no_waiting_operation(
    monkeypatch: pytest.MonkeyPatch, name: str, scores: int
) -> None:
    """With tensor operations, as on an accelerator, where waiting would stop the host."""
    corpus = corpus_of()
    observed = observe_model(tiny_model(name), name, random_ids(9))
    batcher = Batcher(corpus, observed.device)
    distinct = batcher.distinct_tokens
    collector = StatisticsCollector(
        observed, corpus.instances, len(distinct), corpus.starts, seed=0, idle_line=0.3
    )
    collector._use_numba = False  # as off a CPU
    copying = CopyingObserver(observed, corpus.starts)
    lengths = corpus.lengths
    plan = plan_chunks(
        np.arange(len(lengths)), lengths, observed.n_heads, tokens=200, scores=scores
    )
    sequences = dict(enumerate(repeat_tokens(distinct[:1], distinct, observed.context, 0)))
    asked = np.array([n for n, tokens in sequences.items() if len(tokens)])
    sizes = np.array([len(sequences[n]) for n in asked])
    with no_waiting(monkeypatch):
        for blocks in plan[:2]:
            run_chunk(observed, batcher, blocks, collector)
        for blocks in plan_chunks(asked, sizes, observed.n_heads, tokens=500, scores=scores):
            copying.begin(blocks)
            observe_packed(observed, pack_passages(sequences, blocks, observed.device), copying)
