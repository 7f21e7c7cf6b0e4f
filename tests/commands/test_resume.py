"""Interrupted scans go on, and end as if nothing had happened."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import headprobe
from headprobe.cli import main as command_line
from headprobe.commands.scan import scan
from headprobe.config import Partition, ScanConfig
from headprobe.errors import HeadprobeError
from headprobe.runs.checkpoint import CheckpointPart, CheckpointState
from headprobe.runs.folder import Run
from tests.helpers.durable import FAST, assert_same_files, hurry, write_many
from tests.helpers.progress import Remembering

Scan = Callable[..., Run]
Stop = Callable[..., None]

DIES = (
    FAST
    + """
due, seen = journal.CheckpointWriter.is_due, []

def dies(self, state):
    seen.append(0)
    if len(seen) == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return due(self, state)

journal.CheckpointWriter.is_due = dies
from headprobe.cli.main import main
main()
"""
)


@pytest.fixture
def probes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    hurry(monkeypatch)
    monkeypatch.chdir(tmp_path)
    return write_many(tmp_path)


@pytest.fixture
def stop_after(monkeypatch: pytest.MonkeyPatch) -> Stop:
    """Ctrl-C when so many chunks of a part have passed from here; 0 for never again."""
    left, stopped = [0], ["checkpoint"]
    show = CheckpointPart.save_if_due

    def interrupted(self: CheckpointPart, told: CheckpointState) -> None:
        show(self, told)
        left[0] -= self.part == stopped[0]
        if left[0] == 0 and self.part == stopped[0]:
            raise KeyboardInterrupt

    def stop(chunks: int, part: str = "checkpoint") -> None:
        left[0], stopped[0] = chunks, part

    monkeypatch.setattr(CheckpointPart, "save_if_due", interrupted)
    return stop


class Counting(Remembering):
    """Remembers the passages alone."""

    passages = 0

    def advance(self, n: int = 1) -> None:
        self.passages += n * self.stages[-1].startswith("measuring")


def kept(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob(".*"))


def test_a_killed_scan_can_be_resumed(scanned: Scan, checkpoint: Path, probes: Path) -> None:
    whole = scanned(probes=probes, out=Path("whole"))
    words = ["scan", str(checkpoint), "-p", str(probes), "-o", "run", "--device", "cpu"]
    killed = subprocess.run(
        [sys.executable, "-c", DIES, *words],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={
            **os.environ,
            "PYTHONPATH": str(Path(headprobe.__file__).parents[1]),
            "OMP_NUM_THREADS": str(torch.get_num_threads()),
        },
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not Path("run").exists()
    assert kept(Path()) == [".run.unfinished"]
    progress = Counting()
    run = headprobe.resume("run", progress=progress)
    assert_same_files(whole, run)
    assert run.manifest.work.resumed == 1
    assert progress.passages == run.manifest.passages
    assert kept(Path()) == []


def test_an_interrupted_scan_is_resumed_with_its_controls(
    scanned: Scan, probes: Path, stop_after: Stop
) -> None:
    """Interrupted in the model's passes, then in those of both controls. In folders of their own,
    for controls are taken over from runs beside."""
    asked = {"probes": probes, "twin": True, "shuffle": True, "seed": 3}
    whole = scanned(out=Path("whole/run"), **asked)
    stop_after(2)
    with pytest.raises(KeyboardInterrupt, match="scan --resume stopped/run"):
        scanned(out=Path("stopped/run"), **asked)
    for part in ("shuffled", "twin"):
        stop_after(2, part)
        with pytest.raises(KeyboardInterrupt, match="scan --resume stopped/run"):
            headprobe.resume("stopped/run", progress=Remembering())
    parts = {path.stem for path in Path("stopped/.run.unfinished").iterdir()}
    assert parts == {"checkpoint", "shuffled", "twin"}
    stop_after(0)
    run = headprobe.resume("stopped/run", progress=Remembering())
    assert_same_files(whole, run)
    assert run.manifest.work.resumed == 3


def test_a_shard_can_be_resumed(
    scanned: Scan, checkpoint: Path, probes: Path, stop_after: Stop
) -> None:
    for index in range(2):
        stop_after(3)
        words = ["scan", str(checkpoint), "-p", str(probes), "--device", "cpu"]
        assert command_line.run([*words, "--shard", f"{index + 1}/2", "-o", "run"]) == 130
        stop_after(0)
        assert command_line.run(["scan", "--resume", f"run.shard-{index + 1}-of-2"]) == 0
    for index in range(2):
        scanned_shard(checkpoint, probes, Partition(index, 2))
    merged, undisturbed = (
        headprobe.merge(name, progress=Remembering()) for name in ("run", "other")
    )
    assert merged.manifest.work.resumed == 2
    assert_same_files(undisturbed, merged)


def scanned_shard(checkpoint: Path, probes: Path, shard: Partition) -> None:
    config = ScanConfig(str(checkpoint), (str(probes),), Path("other"), device="cpu", shard=shard)
    with pytest.raises(HeadprobeError, match="not a run folder"):
        scan(config, Remembering())


def test_a_partial_scan_is_not_replaced_by_mistake(
    scanned: Scan,
    checkpoint: Path,
    probes: Path,
    stop_after: Stop,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = shutil.copytree(checkpoint, tmp_path / "model")
    words = ["scan", str(model), "-p", str(probes), "--device", "cpu"]
    run = "headprobe-runs/mine"
    stop_after(3)
    assert command_line.run([*words, "-o", run]) == 130
    said = capsys.readouterr().err.splitlines()[-1]
    again = f"Resume it with headprobe scan --resume {run}"
    assert said == f"interrupted: what was measured is saved. {again}."
    stop_after(0)

    def refused(*asked: str) -> str:
        assert command_line.run(list(asked)) == 2
        return capsys.readouterr().err.splitlines()[-1]

    assert again in refused(*words, "-o", run)
    assert "Give no model" in refused("scan", "--resume", run, "--seed", "1")
    assert "nothing to resume" in refused("scan", "--resume", "other")
    assert command_line.run(["runs"]) == 0
    assert f"unfinished: {run}. {again}." in capsys.readouterr().err

    before = probes.read_bytes()
    probes.write_bytes(before + b"\n")
    assert "differs from the scan that was started in the probes many" in refused(
        "scan", "--resume", run
    )
    probes.write_bytes(before)
    weights = model / "model.safetensors"
    good = weights.read_bytes()
    weights.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    assert "differs from the scan that was started in the weights" in refused(
        "scan", "--resume", run
    )
    weights.write_bytes(good)
    monkeypatch.chdir(tmp_path / "headprobe-runs")
    assert f"was started in {tmp_path}" in refused("scan", "--resume", "mine")
    monkeypatch.chdir(tmp_path)

    assert command_line.run(["scan", "--resume", run, "-q"]) == 0
    assert "is already finished" in refused("scan", "--resume", run)
    assert kept(Path("headprobe-runs")) == []


def test_a_damaged_partial_scan_is_an_error_and_can_be_overwritten(
    scanned: Scan, probes: Path, stop_after: Stop
) -> None:
    stop_after(3)
    with pytest.raises(KeyboardInterrupt):
        scanned(probes=probes, out=Path("run"))
    stop_after(0)
    (part,) = Path(".run.unfinished").glob("*.npz")
    part.write_bytes(part.read_bytes()[:-100])
    with pytest.raises(HeadprobeError, match="Start again with overwrite=True"):
        headprobe.resume("run", progress=Remembering())
    assert scanned(probes=probes, out=Path("run"), overwrite=True).manifest.work.resumed == 0
    assert kept(Path()) == []


def test_a_full_disk_does_not_end_a_scan(
    scanned: Scan, probes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("headprobe.runs.checkpoint.atomic_write", full)
    progress = Remembering()
    scanned(probes=probes, out=Path("run"), progress=progress)
    (said,) = (each for each in progress.warnings if "no longer saved" in each)
    assert "No space left on device); progress is no longer saved for --resume" in said


def test_nothing_is_saved_within_the_first_minute(
    scanned: Scan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "headprobe.runs.checkpoint.ScanCheckpoint.save", None
    )  # would not be called
    assert scanned().manifest.work.resumed == 0
