"""Chunks that run at once give the same sums, bit by bit, as chunks that run one by one."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from headprobe.batching.batches import Batcher
from headprobe.batching.corpus import Corpus, align
from headprobe.batching.encoder import Encoder
from headprobe.batching.layout import plan_chunks
from headprobe.measure import scheduler as abreast
from headprobe.measure.collector import StatisticsCollector
from headprobe.measure.memory import MIB, BatchLimits, WorkingSet
from headprobe.model.heads import observe_model
from headprobe.runs import checkpoint as journal
from headprobe.runs.checkpoint import CheckpointWriter
from tests.helpers.checkpoints import toy_tokenizer
from tests.helpers.corpora import SHARED_GRID, measured
from tests.helpers.passes import passages_of
from tests.helpers.probes import PROBES
from tests.helpers.tiny import build, random_ids, tiny_model

LIMITS = BatchLimits(tokens=60, scores=1 << 12)


@cache
def corpus_again() -> Corpus:
    """Return the same passages four times, about ten chunks."""
    encoder = Encoder(toy_tokenizer(), "toy")
    return align(4 * passages_of(PROBES, encoder, 40), encoder, lambda _: None, seed=0)


def equal(one, other) -> None:
    for name, array in one.arrays.items():
        assert np.array_equal(array, other[name]), name


@pytest.mark.parametrize("workers", [2, 3])
@pytest.mark.parametrize("seconds", [0, 15])
def test_concurrent_chunks_give_bitwise_equal_sums(
    monkeypatch: pytest.MonkeyPatch, workers: int, seconds: float
) -> None:
    monkeypatch.setattr(abreast, "ROUND_SECONDS", seconds)
    threads, names = torch.get_num_threads(), set()
    whole = StatisticsCollector.attended

    def attended(self, *given) -> None:
        names.add(threading.current_thread().name)
        time.sleep(0.001 * np.random.default_rng(len(names)).random())
        whole(self, *given)

    corpus, observed = corpus_again(), SHARED_GRID()
    alone = measured(observed, corpus, limits=LIMITS)
    monkeypatch.setattr(StatisticsCollector, "attended", attended)
    together = measured(observed, corpus, limits=replace(LIMITS, workers=workers))
    assert len({name for name in names if name.startswith("chunk")}) == workers
    assert torch.get_num_threads() == threads
    equal(alone, together)


@pytest.mark.parametrize("workers", [2, 3, 5])
def test_few_chunks_are_divided_evenly_among_workers(
    monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    """Every worker gets the same number of chunks of similar size, and no passage is left out."""
    corpus, planned, run = corpus_again(), [], abreast.ChunkScheduler.run

    def noting(self, chunks, *passed):
        planned.extend(chunks)
        return run(self, chunks, *passed)

    monkeypatch.setattr(abreast.ChunkScheduler, "run", noting)
    monkeypatch.setattr("headprobe.measure.loop.SCORED_TOKENS", 1)
    measured(SHARED_GRID(), corpus, limits=replace(LIMITS, tokens=200, workers=workers))
    passages = [np.unique(np.concatenate([b.passages for b in c.blocks])) for c in planned]
    assert len(planned) % workers == 0
    assert np.sort(np.concatenate(passages)).tolist() == list(range(len(corpus.lengths)))
    sizes = [corpus.lengths[some].sum() for some in passages[1:]]  # the first is scored
    assert min(sizes) > max(sizes) / 2


@pytest.mark.usefixtures("four_threads")
@pytest.mark.parametrize(("passages", "threads"), [(1, 4), (2, 2), (3, 1)])
def test_threads_are_divided_among_few_passages(
    monkeypatch: pytest.MonkeyPatch, passages: int, threads: int
) -> None:
    """Some threads would be idle if each passage had one thread."""
    encoder, of_passes, whole = Encoder(toy_tokenizer(), "toy"), set(), StatisticsCollector.begin
    corpus = align(passages_of(PROBES, encoder, 40)[:passages], encoder, lambda _: None, seed=0)

    def begin(self, chunk) -> None:
        of_passes.add(torch.get_num_threads())
        whole(self, chunk)

    monkeypatch.setattr(StatisticsCollector, "begin", begin)
    measured(SHARED_GRID(), corpus, limits=replace(LIMITS, workers=4))
    assert of_passes == {threads}


@pytest.mark.parametrize("method", ["attended", "end_layer", "end"])
@pytest.mark.parametrize("at", [3, 10])
def test_measurement_is_repeated_if_one_chunk_runs_out_of_memory(
    monkeypatch: pytest.MonkeyPatch, method: str, at: int
) -> None:
    """The other chunks end first; then all is measured again with half the memory."""
    corpus, observed = corpus_again(), SHARED_GRID()
    calls, warnings = [], []
    whole = getattr(StatisticsCollector, method)

    def failing(self, *given) -> None:
        calls.append(method)
        if len(calls) == at:
            raise MemoryError
        whole(self, *given)

    monkeypatch.setattr(StatisticsCollector, method, failing)
    found = measured(observed, corpus, warnings, limits=replace(LIMITS, workers=3))
    assert len(warnings) == 1
    for name, array in measured(observed, corpus, limits=LIMITS).arrays.items():
        # float32 products of other sizes round differently: relative to the largest value
        atol = 1e-6 * max(10.0, float(np.abs(array).max(initial=0)))
        np.testing.assert_allclose(array, found[name], rtol=1e-6, atol=atol, err_msg=name)


def test_other_errors_in_a_chunk_are_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(self, *given) -> None:
        raise ZeroDivisionError(threading.current_thread().name)

    monkeypatch.setattr(StatisticsCollector, "end_layer", failing)
    with pytest.raises(ZeroDivisionError):
        measured(SHARED_GRID(), corpus_again(), limits=replace(LIMITS, workers=2))


def many_chunks(workers: int, tallier: object) -> tuple[abreast.ChunkScheduler, list]:
    corpus, observed = corpus_again(), SHARED_GRID()
    numbers = np.arange(len(corpus.lengths))
    chunks = plan_chunks(numbers, corpus.lengths, observed.n_heads, tokens=20, scores=1 << 12)
    assert len(chunks) >= 20
    batcher = Batcher(corpus, observed.device, observed.n_kv_heads)
    planned = [abreast.PlannedChunk(blocks) for blocks in chunks]
    return abreast.ChunkScheduler(observed, batcher, tallier, workers), planned


class Slow:
    """A collector that only waits."""

    weights_per_call = None

    def __init__(self, fault: BaseException | None, at: int) -> None:
        self.begun, self.fault, self.at = [], fault, at

    def worker_copy(self) -> "Slow":
        return self

    def begin(self, chunk) -> None:
        self.begun.append(chunk)
        if len(self.begun) == self.at and self.fault is not None:
            raise self.fault
        time.sleep(0.04)

    def quiet(self, *_: object) -> None: ...

    residual = begin_layer = attended = end_layer = end = quiet


def test_a_round_that_ends_early_counts_what_has_begun_and_no_more() -> None:
    observer, done = Slow(None, at=0), []
    scheduler, planned = many_chunks(3, observer)
    with scheduler:
        rounds = scheduler.run(planned, lambda chunk, _: done.append(chunk), lambda: len(done) == 2)
        next(rounds)
        assert 2 <= len(done) < 3 * abreast.FIRST_ROUND_CHUNKS
        assert len(observer.begun) == len(done)
        assert len(list(rounds)) > 0
    assert done == planned


def test_waiting_chunks_do_not_begin_after_a_failure() -> None:
    tallier = Slow(ZeroDivisionError(), at=9)
    passing, chunks = many_chunks(2, tallier)
    with passing, pytest.raises(ZeroDivisionError):
        list(passing.run(chunks, lambda *_: None))
    assert 9 <= len(tallier.begun) < 14  # of a round that would go on to 14


def test_an_interrupt_stops_waiting_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if a thread takes the next chunk while others are being cancelled."""
    cancel = Future.cancel

    def slowly(future: Future) -> bool:
        called_off = cancel(future)
        time.sleep(0.01)
        return called_off

    def told(*_: object) -> None:
        done.append(1)
        if len(done) == 7:
            raise KeyboardInterrupt

    monkeypatch.setattr(Future, "cancel", slowly)
    done: list[int] = []
    passing, chunks = many_chunks(2, Slow(None, at=0))

    def until_the_end() -> None:
        with passing, suppress(KeyboardInterrupt):
            list(passing.run(chunks, told))

    thread = threading.Thread(target=until_the_end, daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()


def test_each_chunk_is_reported_in_order_as_soon_as_it_is_done() -> None:
    """Not only at the end of a round, because other ranks wait for the report."""
    tallier = Slow(None, at=0)
    passing, chunks = many_chunks(2, tallier)
    told, begun = [], []

    def passed(chunk, bits) -> None:
        assert bits == 0
        told.append(chunk)
        begun.append(len(tallier.begun))

    with passing:
        rounds = list(passing.run(chunks, passed))
    assert told == chunks
    assert 1 < len(rounds) < len(chunks) / 2
    assert all(of <= place + 4 for place, of in enumerate(begun, 1))


def test_checkpoints_between_rounds_contain_whole_chunks(
    monkeypatch: pytest.MonkeyPatch, tmp_path
) -> None:
    """A resumed measurement gives bitwise equal sums."""
    from headprobe.runs.checkpoint import ScanCheckpoint

    monkeypatch.setattr(journal, "WRITE_INTERVAL", 0.0)
    monkeypatch.setattr(journal, "WRITE_COST_FACTOR", 0)
    monkeypatch.setattr(abreast, "ROUND_SECONDS", 0)
    monkeypatch.setattr(abreast, "FIRST_ROUND_CHUNKS", 1)
    corpus, observed, limits = corpus_again(), SHARED_GRID(), replace(LIMITS, workers=2)
    undisturbed = measured(observed, corpus, limits=limits)
    checkpoint, ends = ScanCheckpoint(tmp_path / "run"), []
    first = CheckpointWriter(checkpoint, pytest.fail, resumed=False)
    first.begin(dict)
    whole = StatisticsCollector.end

    def end(self) -> None:
        ends.append(1)
        if len(ends) == 8:
            raise KeyboardInterrupt
        whole(self)

    with monkeypatch.context() as patched:
        patched.setattr(StatisticsCollector, "end", end)
        with pytest.raises(KeyboardInterrupt):
            measured(observed, corpus, limits=limits, checkpoint=first.part("checkpoint"))
    again = CheckpointWriter(checkpoint, pytest.fail, resumed=True).part("checkpoint")
    assert 0 < again.saved_arrays()["passages"].sum() < len(corpus.lengths)
    equal(undisturbed, measured(observed, corpus, checkpoint=again))


@pytest.fixture
def four_threads() -> Iterator[None]:
    """Set torch's threads to four, and restore them afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("four_threads")
def test_one_chunk_at_a_time_with_little_memory_or_stateful_models(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Several workers need ample memory and a model that passes do not change."""
    corpus, observed = corpus_again(), SHARED_GRID()
    working = WorkingSet(observed, corpus, 0)
    assert working.limits(None).workers == 4
    assert working.limits(working.minimum).workers == 1
    more = (working.minimum + memory * MIB for memory in (8, 16, 64, 256))
    by_memory = [working.limits(memory).workers for memory in more]
    assert by_memory == sorted(by_memory)
    assert by_memory[-1] > 1
    rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}
    scaled = observe_model(build("llama", {"rope_parameters": rope}), "tiny", random_ids(9))
    assert WorkingSet(scaled, corpus, 0).limits(None).workers == 1
    hooked = tiny_model("llama-gqa")
    observed = observe_model(hooked, "tiny", random_ids(9))
    hooked.model.layers[0]._hf_hook = object()
    assert WorkingSet(observed, corpus, 0).limits(None).workers == 1
    threads, whole = set(), StatisticsCollector.begin

    def begin(self, chunk) -> None:
        threads.add(threading.current_thread())
        whole(self, chunk)

    monkeypatch.setattr(StatisticsCollector, "begin", begin)
    measured(observed, corpus, limits=replace(LIMITS, workers=2))  # as where it was begun
    assert threads == {threading.current_thread()}
    own = tiny_model("llama-gqa")
    observed = observe_model(own, "tiny", random_ids(9))
    block = own.model.layers[0]
    module = {"__module__": "transformers_modules.own.modeling_own"}
    block.__class__ = type("OwnLayer", (type(block),), module)
    assert WorkingSet(observed, corpus, 0).limits(None).workers == 1
