"""The valid inputs that hostile cases spoil: a checkpoint, probes, a run and shards of it."""

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

from tests.helpers.checkpoints import save_checkpoint
from tests.helpers.durable import hurry
from tests.helpers.probes import PROBES
from tests.hostile.driver import OUT, Outcome, Workplace, run_here


@pytest.fixture(scope="session")
def masters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the valid inputs."""
    folder = tmp_path_factory.mktemp("masters")
    save_checkpoint(folder / "model")
    shutil.copyfile(PROBES, folder / "probes.conllu")
    before = Path.cwd()
    os.chdir(folder)
    try:
        scan = ["scan", "model", "-p", "probes.conllu", "--device", "cpu", "-q"]
        _succeed(run_here([*scan, "-o", "run", "--shuffle"], seconds=300))
        for index in (1, 2):
            _succeed(run_here([*scan, "-o", "parts", "--shard", f"{index}/2"], seconds=300))
        with pytest.MonkeyPatch.context() as patch:
            hurry(patch)
            patch.setattr("headprobe.commands.scan.write_run", _interrupt)
            outcome = run_here([*scan, "-o", OUT], seconds=300)
            assert outcome.code == 130, outcome.err
    finally:
        os.chdir(before)
    return folder


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _succeed(outcome: Outcome) -> None:
    assert outcome.code == 0, outcome.err


@pytest.fixture
def workplace(tmp_path: Path, masters: Path, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    """An empty current folder, with access to copies of the valid inputs."""
    here = tmp_path / "here"
    here.mkdir()
    return Workplace(here, masters, monkeypatch)
