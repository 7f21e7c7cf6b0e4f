"""What all tests share: skipped tests are counted aloud."""

import gc
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from torch import get_num_threads, set_num_threads  # as they are before tests patch them

from headprobe.commands.scan import scan
from headprobe.config import ScanConfig
from headprobe.runs.folder import Run
from headprobe.runs.recent import STATE_VARIABLE
from tests.helpers.checkpoints import save_checkpoint
from tests.helpers.probes import PROBES
from tests.helpers.progress import Remembering
from tests.helpers.synthetic import write_run

OUTSIDE = "../shared"


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Fail where pytest-xdist does not group tests, so that each worker repeats shared work."""
    if getattr(config.option, "loadgroup", False):
        for item in items:
            if item.get_closest_marker("xdist_group") and "@" not in item.nodeid:
                raise pytest.UsageError("pytest-xdist does not group tests with this pytest")


def pytest_collection_finish() -> None:
    """Exclude imported modules from garbage collections. Each scan runs a full one, which would
    take half of the time of a small scan."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many tests were skipped, for what reason, and which data they would need."""
    reports = terminalreporter.stats.get("skipped", [])
    if not reports:
        return
    reasons: dict[str, int] = {}
    for report in reports:
        place = report.longrepr
        text = place[2] if isinstance(place, tuple) else str(place)
        reason = text.removeprefix("Skipped: ")
        reasons[reason] = reasons.get(reason, 0) + 1
    outside = sum(count for reason, count in reasons.items() if OUTSIDE in reason)
    line = f"{len(reports)} tests skipped"
    if outside:
        line += f", {outside} of them because data in {OUTSIDE} is missing"
    terminalreporter.section(line, sep="=", yellow=True, bold=True)
    for reason, count in sorted(reasons.items()):
        terminalreporter.write_line(f"{count:4}  {reason}")


@pytest.fixture(scope="session", autouse=True)
def state_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Iterator[str]]:
    """Keep all tests away from the state of the user; yields names of new state folders."""
    folder = tmp_path_factory.mktemp("state")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(STATE_VARIABLE, str(folder / "session"))
        yield (str(folder / str(number)) for number in itertools.count())


@pytest.fixture(autouse=True)
def nothing_remembered(state_folders: Iterator[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """No test knows the run that another test wrote last."""
    monkeypatch.setenv(STATE_VARIABLE, next(state_folders))


@pytest.fixture(autouse=True)
def threads_are_restored() -> Iterator[None]:
    """A scan that another test started with other threads could not be resumed."""
    threads = get_num_threads()
    yield
    after = get_num_threads()
    set_num_threads(threads)
    assert after == threads


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return write_run(tmp_path_factory.mktemp("runs") / "tiny")


@pytest.fixture(scope="session")
def hostile_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return write_run(tmp_path_factory.mktemp("runs") / "hostile", hostile=True)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture
def scanned(tmp_path: Path, checkpoint: Path) -> Callable[..., Run]:
    """Scan the tiny checkpoint, or another, on the tiny probes, or others."""

    def run(model: Path | str = checkpoint, probes: Path = PROBES, **options: object) -> Run:
        progress = options.pop("progress", Remembering())
        asked = {"out": tmp_path / "run", "device": "cpu", **options}
        return scan(ScanConfig(model=str(model), probes=(str(probes),), **asked), progress)

    return run
