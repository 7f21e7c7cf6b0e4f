"""A tiny checkpoint on disk, and a progress that remembers."""

from collections.abc import Callable
from pathlib import Path

import pytest

from headprobe.store.run_folder import Run
from headprobe.workflows.request import ScanRequest
from headprobe.workflows.scan import scan
from tests.checkpoints import save_checkpoint

PROBES = Path(__file__).parents[1] / "data" / "tiny.conllu"


class Remembering:
    """Progress for tests: what was told."""

    def __init__(self) -> None:
        self.stages: list[str] = []
        self.warnings: list[str] = []
        self.steps = 0

    def stage(self, name: str, total: int | None = None, unit: str = "") -> None:
        self.stages.append(name)

    def advance(self, n: int = 1) -> None:
        self.steps += n

    def warn(self, text: str) -> None:
        self.warnings.append(text)

    def finish(self) -> None:
        pass


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture
def scanned(tmp_path: Path, checkpoint: Path) -> Callable[..., Run]:
    """Scan the tiny checkpoint, or another, on the tiny probes, or others."""

    def run(model: Path | str = checkpoint, probes: Path = PROBES, **options: object) -> Run:
        progress = options.pop("progress", Remembering())
        asked = {"out": tmp_path / "run", "device": "cpu", **options}
        return scan(ScanRequest(model=str(model), probes=(str(probes),), **asked), progress)

    return run
