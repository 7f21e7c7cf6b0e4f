"""Measuring keeps within a given memory, and sums stay correct if memory runs out."""

import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from headprobe.config import parse_size
from headprobe.errors import HeadprobeError
from headprobe.measure import collector as tallier
from headprobe.measure.collector import StatisticsCollector
from headprobe.measure.memory import LIBRARY_BYTES, MIB, BatchLimits, WorkingSet
from headprobe.model.heads import observe_model
from headprobe.model.load_errors import is_out_of_memory
from headprobe.runs import checkpoint as journals
from headprobe.runs.checkpoint import CheckpointWriter, ScanCheckpoint
from tests.bench.live import LiveBytes
from tests.helpers.corpora import SHARED_GRID, corpus_of, measured
from tests.helpers.tiny import build, random_ids

CPU_FAULT = RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: tried 1 bytes")


LIMITS = BatchLimits(tokens=150, scores=1 << 13)
SHARED_CORPUS = cache(corpus_of)
UNDISTURBED = cache(lambda: measured(SHARED_GRID(), SHARED_CORPUS(), limits=LIMITS))


def same(one, other) -> None:
    for name, array in one.arrays.items():
        np.testing.assert_allclose(array, other[name], rtol=1e-6, atol=1e-5, err_msg=name)


STATISTICS = [
    getattr(tallier, f"{name}Statistic")
    for name in ["Relation", "Shape", "Pair", "Winner", "Output", "Similarity", "Column", "Example"]
]


@pytest.mark.parametrize("kind", STATISTICS)
@pytest.mark.parametrize(
    ("method", "at", "fault"),
    [
        ("add", 4, torch.OutOfMemoryError("CUDA out of memory")),
        ("add_output", 5, CPU_FAULT),
        ("finish", 2, MemoryError()),
    ],
)
def test_sums_stay_correct_if_memory_runs_out(
    monkeypatch: pytest.MonkeyPatch, kind: type, method: str, at: int, fault: Exception
) -> None:
    """The error is raised after a statistic has added to its sums."""
    corpus, observed = SHARED_CORPUS(), SHARED_GRID()
    undisturbed, calls, warnings = UNDISTURBED(), [], []
    whole = getattr(kind, method)

    def failing(self, given) -> None:
        whole(self, given)
        calls.append(given)
        if len(calls) == at:
            raise fault

    monkeypatch.setattr(kind, method, failing)
    found = measured(observed, corpus, warnings, limits=LIMITS)
    assert len(calls) > 2 * at
    assert len(warnings) == 1
    same(undisturbed, found)


def test_measurement_continues_from_the_checkpoint_if_memory_runs_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(journals, "WRITE_INTERVAL", 0.0)
    monkeypatch.setattr(journals, "WRITE_COST_FACTOR", 0)
    corpus, observed, undisturbed = SHARED_CORPUS(), SHARED_GRID(), UNDISTURBED()
    limits, warnings, begun = BatchLimits(tokens=80, scores=1 << 13), [], []
    writer = CheckpointWriter(ScanCheckpoint(tmp_path / "run"), pytest.fail, resumed=False)
    writer.begin(dict)
    whole = StatisticsCollector.begin

    def begin(self, chunk) -> None:
        begun.append(chunk.passages)
        if len(begun) == 4:
            raise MemoryError
        whole(self, chunk)

    monkeypatch.setattr(StatisticsCollector, "begin", begin)
    found = measured(
        observed, corpus, warnings, limits=limits, checkpoint=writer.part("checkpoint")
    )
    same(undisturbed, found)
    again = np.concatenate(begun[3:])
    assert not set(again.tolist()) & set(np.concatenate(begun[:3]).tolist())  # not once more
    assert len(warnings) == 1


def test_too_little_memory_for_one_passage_gives_a_one_line_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    corpus, observed = SHARED_CORPUS(), SHARED_GRID()
    with pytest.raises(
        HeadprobeError, match="--memory 1MiB: the measurement needs at least"
    ) as told:
        measured(observed, corpus, memory=MIB)
    least = parse_size(re.search(r"at least (\d+MiB)", str(told.value))[1])
    same(measured(observed, corpus, memory=least), UNDISTURBED())

    def always(self, chunk) -> None:
        raise MemoryError

    monkeypatch.setattr(StatisticsCollector, "begin", always)
    with pytest.raises(HeadprobeError, match="out of memory: the measurement needs at least"):
        measured(observed, corpus, [])


def test_other_errors_are_not_taken_for_out_of_memory() -> None:
    assert not is_out_of_memory(RuntimeError("size mismatch"))
    assert not is_out_of_memory(ValueError("out of memory"))


@pytest.mark.parametrize("budget", [25, 120])
def test_live_tensors_fit_the_memory_limit(budget: int) -> None:
    """The peak of all tensors' bytes is measured by intercepting every operation."""
    wide = {"num_attention_heads": 8, "hidden_size": 64, "intermediate_size": 256}
    observed = observe_model(build("llama", wide), "tiny", random_ids(9))
    corpus = corpus_of(budget)
    working = WorkingSet(observed, corpus, 0)
    room = working.minimum + MIB
    with LiveBytes() as live:
        measured(observed, corpus, limits=working.limits(room))
    sums = StatisticsCollector(
        observed, corpus.instances, 200, corpus.starts, seed=0, idle_line=0.3
    ).held_bytes
    assert (room - LIBRARY_BYTES) / 4 < live.peak - sums < room - LIBRARY_BYTES


@pytest.mark.parametrize(
    ("text", "size"),
    [("2GiB", 2**31), ("500 MiB", 500 * 2**20), ("1.5gb", 1_500_000_000), ("7kB", 7000)],
)
def test_parse_size_accepts_sizes_with_units(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["2", "GiB", "-1GiB", "2 furlongs", "1e9B", "0MiB", "½GiB"])
def test_parse_size_refuses_other_text(text: str) -> None:
    with pytest.raises(HeadprobeError, match="not a size"):
        parse_size(text)
