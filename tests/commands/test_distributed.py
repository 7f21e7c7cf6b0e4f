"""Ranks in real processes: the run of one, and an end to all where one ends."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

import headprobe
from headprobe.cli import main as command_line
from headprobe.commands.distributed import GlooGroup, OtherProcessFailed
from headprobe.errors import HeadprobeError
from headprobe.runs.folder import Run
from headprobe.runs.manifest import WorkNote
from tests.helpers.durable import FAST, assert_alike, write_many

Scan = Callable[..., Run]

DIES = (
    FAST
    + """
def dies(self, told):
    show(self, told)
    if os.environ["RANK"] == "1":
        os.kill(os.getpid(), signal.SIGKILL)

show, journal.CheckpointPart.save_if_due = journal.CheckpointPart.save_if_due, dies
from headprobe.cli.main import main
main()
"""
)

TOGETHER = """
import os, sys
import numpy as np
from headprobe.errors import HeadprobeError
from headprobe.progress import PlainProgress
from headprobe.runs.sums import Tallies
from headprobe.commands import distributed as ranks
try:
    with ranks.process_group() as all:
        progress = all.wrap_progress(PlainProgress(sys.stdout))
        assert all.broadcast(all.index) == 0 and all.gather(all.index) == [0, 1]
        kinds = (np.int16, np.int32, np.int64, np.float32, np.float64)
        own = {kind.__name__: np.arange(3, dtype=kind) + all.index for kind in kinds}
        added = all.reduce_sums(Tallies(own))
        if all.index == 0:
            for name, array in added.arrays.items():
                print(name, array.dtype, array.tolist())
        progress.stage("added")
        if all.index == 1:
            raise HeadprobeError("here", "it went wrong", "Mend it")
        while True:
            progress.advance()
except HeadprobeError as error:
    print(error)
    os._exit(2)
"""


def environment(**more: str) -> dict[str, str]:
    root = str(Path(headprobe.__file__).parents[1])
    return {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1", **more}


def torchrun(*words: str) -> subprocess.CompletedProcess[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    return subprocess.run(
        [*launcher, "--master-port", str(free_port()), *words],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
        env=environment(),
    )


def free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


def test_two_ranks_resume_after_one_dies_and_write_the_run_of_one_process(
    scanned: Scan, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    probes = write_many(tmp_path)
    program = tmp_path / "dies.py"
    program.write_text(DIES)
    words = ["scan", str(checkpoint), "-p", str(probes), "--device", "cpu", "--shuffle"]
    died = torchrun(str(program), *words, "-o", "runs/run")
    assert died.returncode != 0
    assert died.stdout == ""
    assert "SIGKILL" in died.stderr  # torchrun tells of it
    kept = [path.name for path in Path("runs").iterdir()]
    assert kept and all(name.endswith(".unfinished") for name in kept)
    assert command_line.run(["scan", "--resume", "runs/run"]) == 2  # by one alone

    done = torchrun("-m", "headprobe", "scan", "--resume", "runs/run", "-q")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "runs/run\n"
    assert [path.name for path in Path("runs").iterdir()] == ["run"]
    run, whole = headprobe.load("runs/run"), scanned(probes=probes, shuffle=True)
    assert_alike(whole, run)
    assert run.manifest.work == WorkNote(shards=1, ranks=2, resumed=1)
    assert run.manifest.controls == whole.manifest.controls


def test_ranks_add_sums_and_end_after_a_failure() -> None:
    """Without torchrun, which would end the other rank by itself."""
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2"}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", TOGETHER],
            stdout=subprocess.PIPE,
            text=True,
            env=environment(RANK=str(rank), **where),
        )
        for rank in range(2)
    ]
    try:
        said, of_second = (each.communicate(timeout=60)[0] for each in started)
    finally:
        for each in started:
            each.kill()
    sums = {line.split()[0]: line for line in said.splitlines()}
    for kind in (np.int16, np.int32, np.int64, np.float32, np.float64):
        name, both = kind.__name__, (2 * np.arange(3, dtype=kind) + 1).tolist()
        assert sums[name] == f"{name} {name} {both}"
    assert said.splitlines()[-1] == "added"  # the first rank ends without a word
    assert of_second == "here: it went wrong. Mend it.\n"
    assert [each.returncode for each in started] == [2, 2]


def test_a_silent_rank_counts_as_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    class Store:
        """A store that another rank wrote to, once."""

        held: ClassVar = {"steps/1": b"1"}

        def set(self, name: str, value: str) -> None:
            self.held[name] = value.encode()

        def get(self, name: str) -> bytes:
            return self.held[name]

        def check(self, names: list[str]) -> bool:
            return all(name in self.held for name in names)

    monkeypatch.setattr("headprobe.commands.distributed.BARRIER_TIMEOUT", 0.1)
    group = object.__new__(GlooGroup)
    vars(group).update(index=0, count=2, _store=Store(), _barriers=0, _steps=0, _last_heartbeat=0.0)
    with pytest.raises(HeadprobeError, match=r"rank 0: rank 1 has not moved for 0\.1 seconds"):
        group.barrier()
    Store.held["here/2/1"] = b""
    group.barrier()
    Store.held["failed"] = b"1"
    vars(group)["_last_heartbeat"] = 0.0
    with pytest.raises(OtherProcessFailed):
        group.barrier()
