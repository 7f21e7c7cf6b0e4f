"""What headprobe prints and writes is what it printed and wrote before.

After a change on purpose: ``python -m tests.golden --write``.
"""

from pathlib import Path

import pytest

from tests.golden import stored
from tests.golden.cases import CASES, record
from tests.golden.recorder import Recording
from tests.helpers.once import session_folder


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return session_folder(tmp_path_factory) / "golden"


OF_DEMO = {"demo", "judge", "show-head"}
"""Cases that need the scan of the demo model, as the tests of that model do."""


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.xdist_group("demo")] if name in OF_DEMO else [])
        for name in CASES
    ],
)
def test_screens_and_numbers(name: str, root: Path) -> None:
    new = Recording.load(record(name, root))
    found = stored.number_differences(name, new) + stored.screen_differences(name, new)
    if stored.same_environment():
        found += stored.hash_differences(name, new)
    lines = "\n".join(found[:40])
    assert not found, f"{lines}\nIf it is meant: python -m tests.golden {name} --write"


def test_hashes_were_compared() -> None:
    """Says so where the cases above were compared within tolerances only."""
    if not stored.same_environment():
        pytest.skip("golden hashes are of another processor or other versions: not compared")
