"""When the state of a scan is saved, and which signals it survives."""

import os
import signal
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from headprobe.errors import Terminated, terminate
from headprobe.runs import checkpoint as checkpoints
from headprobe.runs.checkpoint import CheckpointWriter, ScanCheckpoint


class State:
    """A measurement of ``seconds`` that has lasted as long as the clock says."""

    def __init__(self, clock: "Clock", seconds: float, nbytes: int = 1000) -> None:
        self._clock, self._seconds, self.nbytes = clock, seconds, nbytes

    @property
    def share(self) -> float:
        return self._clock.now / self._seconds

    def arrays(self) -> dict[str, np.ndarray]:
        return {"now": np.array(self._clock.now)}


class Clock:
    """A clock that stands still."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("headprobe.runs.checkpoint.time.monotonic", made)
    return made


def saved_at(
    clock: Clock, folder: Path, patch: pytest.MonkeyPatch, *, seconds: float, cost: float
) -> list[float]:
    """The times at which a measurement that shows its state ten times a second is saved."""
    writer, times = CheckpointWriter(ScanCheckpoint(folder / "run"), pytest.fail, resumed=False), []

    def save(*_: object) -> None:
        times.append(clock.now)
        clock.now += cost

    patch.setattr(ScanCheckpoint, "save", save)
    writer.begin(dict)
    part = writer.part("checkpoint")
    state = State(clock, seconds, nbytes=int(cost / checkpoints._SECONDS_PER_BYTE))
    while clock.now < seconds:
        clock.now += 0.1
        part.save_if_due(state)
    return times


@pytest.mark.parametrize("cost", [0.01, 0.1, 1.0, 10.0])
@pytest.mark.parametrize("seconds", [5.0, 60.0, 600.0, 36_000.0])
def test_saving_costs_less_than_a_hundredth(
    clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, cost: float
) -> None:
    times = saved_at(clock, tmp_path, monkeypatch, seconds=seconds, cost=cost)
    assert len(times) * cost < 0.01 * seconds


def test_the_first_saves_are_early_and_the_later_ones_rare(
    clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long scan is saved in its first seconds, and later once a minute."""
    times = saved_at(clock, tmp_path, monkeypatch, seconds=3600.0, cost=0.1)
    assert times[0] < 3
    assert times[1] < 7
    later = np.diff([each for each in times if each > 120])
    assert later.min() >= 60
    assert later.max() < 62
    for before, after in pairwise(times):
        assert after - before <= before + 3  # about half of the work is lost at most


def test_a_save_waits_as_long_as_it_is_expensive(
    clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = saved_at(clock, tmp_path, monkeypatch, seconds=3600.0, cost=4.0)
    assert len(times) > 3
    assert np.diff(times)[2:].min() >= 4.0 * checkpoints.WRITE_COST_FACTOR


def test_final_states_are_saved_with_the_next_part(
    clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part that ends before it is time to save is not lost in the part that follows."""
    checkpoint = ScanCheckpoint(tmp_path / "run")
    writer, state = CheckpointWriter(checkpoint, pytest.fail, resumed=False), State(clock, 1e6)
    writer.begin(dict)
    writer.part("checkpoint").save_final(state)
    assert not checkpoint.has("checkpoint")
    twin = writer.part("twin")
    clock.now = 100.0
    twin.save_if_due(state)
    assert checkpoint.has("twin")
    assert checkpoint.has("checkpoint")


@pytest.fixture
def handlers() -> Iterator[None]:
    """The handlers of the command line, whatever the test runner has."""
    own = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: terminate}
    usual = {number: signal.signal(number, handler) for number, handler in own.items()}
    yield
    for number, handler in usual.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_until_the_state_is_saved(
    clock: Clock, tmp_path: Path, number: signal.Signals
) -> None:
    checkpoint = ScanCheckpoint(tmp_path / "run")
    writer, state = CheckpointWriter(checkpoint, pytest.fail, resumed=False), State(clock, 1e6)
    writer.begin(dict)
    part, steps = writer.part("checkpoint"), []
    with pytest.raises(KeyboardInterrupt) as ended, part.deferring_interrupts():
        part.save_if_due(state)
        assert not checkpoint.has("checkpoint")
        os.kill(os.getpid(), number)
        steps.append("the chunk ends")
        part.save_if_due(state)
        steps.append("not reached")
    assert steps == ["the chunk ends"]
    assert checkpoint.has("checkpoint")
    assert isinstance(ended.value, Terminated) == (number == signal.SIGTERM)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGTERM) is terminate


@pytest.mark.usefixtures("handlers")
def test_another_signal_does_not_spoil_the_save(clock: Clock, tmp_path: Path) -> None:
    """torchrun sends SIGTERM after the Ctrl-C that all processes of the terminal get."""
    checkpoint = ScanCheckpoint(tmp_path / "run")
    writer = CheckpointWriter(checkpoint, pytest.fail, resumed=False)
    writer.begin(dict)
    part = writer.part("checkpoint")
    with pytest.raises(KeyboardInterrupt), part.deferring_interrupts():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        part.save_if_due(State(clock, 1e6))
    assert checkpoint.has("checkpoint")


@pytest.mark.usefixtures("handlers")
def test_the_same_signal_twice_ends_at_once(clock: Clock, tmp_path: Path) -> None:
    checkpoint = ScanCheckpoint(tmp_path / "run")
    writer = CheckpointWriter(checkpoint, pytest.fail, resumed=False)
    writer.begin(dict)
    part = writer.part("checkpoint")
    with pytest.raises(Terminated), part.deferring_interrupts():
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        part.save_if_due(State(clock, 1e6))
    assert not checkpoint.has("checkpoint")


def test_handlers_of_other_programs_stay(clock: Clock, tmp_path: Path) -> None:
    heard: list[int] = []
    usual = signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    try:
        writer = CheckpointWriter(ScanCheckpoint(tmp_path / "run"), pytest.fail, resumed=False)
        with writer.part("checkpoint").deferring_interrupts():
            os.kill(os.getpid(), signal.SIGTERM)
            assert heard == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, usual)
