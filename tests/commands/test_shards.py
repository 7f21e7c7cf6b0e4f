"""Shards of a scan, and the run that they make."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import headprobe
from headprobe.cli import main as command_line
from headprobe.runs.folder import Run
from headprobe.runs.shards import find_shards
from headprobe.runs.sums import Tallies
from tests.helpers.durable import assert_alike
from tests.helpers.probes import PROBES
from tests.helpers.progress import Remembering

Scan = Callable[..., Run]


@pytest.fixture
def words(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The command, but for the shard; two passages."""
    monkeypatch.chdir(tmp_path)
    return ["scan", str(checkpoint), "-p", str(PROBES), "--device", "cpu", "-q", "-o", "run"]


def test_merged_shards_equal_the_run(scanned: Scan, words: list[str], tmp_path: Path) -> None:
    """Of two passages the third shard has none; one of the sequences of random tokens it has."""
    whole = scanned(out=Path("elsewhere/whole"), shuffle=True)
    for number in (2, 3, 1):
        assert command_line.run([*words, "--shuffle", "--shard", f"{number}/3"]) == 0
    merged = headprobe.merge("run", progress=Remembering())
    assert_alike(whole, merged)
    theirs = Tallies.load(merged.path / "shuffled.npz")
    for name, sums in Tallies.load(whole.path / "shuffled.npz").arrays.items():
        assert sums == pytest.approx(theirs[name], rel=1e-5, abs=1e-5), name
    assert merged.manifest.controls == whole.manifest.controls
    assert merged.manifest.work.shards == 3
    assert merged.manifest.sinks_flagged == whole.manifest.sinks_flagged
    again = headprobe.merge(find_shards(Path("run")), out="again", progress=Remembering())
    assert (again.path / "heads.csv").read_bytes() == (merged.path / "heads.csv").read_bytes()


def test_incomplete_or_unequal_shards_are_refused(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*asked: str) -> str:
        assert command_line.run(list(asked)) == 2
        (said,) = capsys.readouterr().err.splitlines()[-1:]
        return said

    one, two = "run.shard-1-of-2", "run.shard-2-of-2"
    assert "has no run to be a shard of. Name it: --out RUN" in refused(
        *words[:-2], "--shard", "1/2"
    )
    assert "Write 3/8" in refused(*words, "--shard", "3/2")
    assert "has no tables" in refused(*words, "--shard", "1/2", "--csv", "tables")
    assert "run: has no shards" in refused("merge", "run")
    assert command_line.run([*words, "--shard", "1/2"]) == 0
    assert capsys.readouterr().out == f"{one}\n"
    assert "exists already" in refused(*words, "--shard", "1/2")
    assert "run: shard 2/2 is missing" in refused("merge", "run")
    assert command_line.run([*words, "--shard", "2/2", "--seed", "1"]) == 0
    assert f"{two}: differs from {one} in the seed (0 and 1)" in refused("merge", "run")
    assert command_line.run([*words, "--shard", "2/2", "--overwrite"]) == 0
    assert "both shard 2" in refused("merge", one, two, two)
    other = shutil.copytree(two, tmp_path / "odd" / "run.shard-2-of-2")
    assert "both shard 2" in refused("merge", one, two, str(other))
    assert command_line.run([*words, "--shard", "1/3"]) == 0
    assert "is one of 3 shards, " in refused("merge", "run")
    assert "is not a shard" in refused("merge", str(tmp_path / "odd"))
    (Path(two) / "tallies.npz").write_bytes(b"")
    assert "Scan this shard again" in refused("merge", one, two)
    assert not Path("run").exists()
