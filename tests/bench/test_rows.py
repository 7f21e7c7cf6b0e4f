"""The rows of the bench run, at tiny size."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench import ablation, beside, large
from tests.bench.contestants import WAYS
from tests.bench.lane import lane

PLAIN, EVERYTHING = "unpadded SDPA (the limit)", "headprobe + copying"


def test_judging_many_words_with_many_heads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(large, "LONG_PASSAGES", 2)
    rows = {what: (found, target) for what, found, target in beside.everything(500, 1, 3, tmp_path)}
    (judged,) = [what for what in rows if what.startswith("s to judge of")]
    assert "3 heads, 80 relations" in judged
    found, target = rows[judged]
    assert target == 30 and (found > 0).all()
    parts = [rows[what][0] for what in rows if what.startswith("s for ")]
    assert found == pytest.approx(sum(parts))
    (saved,) = [what for what in rows if what.startswith("MB of sums on disk")]
    assert rows[saved][0] > 0 and rows[saved][1] == 150
    (memory,) = [what for what in rows if what.startswith("MiB")]
    assert rows[memory][0] > 0 and rows[memory][1] == 1536


def test_judging_a_run_beside_its_measuring(tmp_path: Path) -> None:
    run = tmp_path / "run"
    scan = ["scan", "--max-passages", "12", "-o", str(run), "--quiet"]
    subprocess.run([sys.executable, "-m", "headprobe", *scan], check=True, capture_output=True)
    measured = json.loads((run / "manifest.json").read_text("utf-8"))["seconds"]["measure"]
    rows = {what: target for what, _, target in beside.saved_run(run)}
    assert rows["s to judge of run"] == pytest.approx(0.15 * measured)


@pytest.mark.parametrize("way", [PLAIN, EVERYTHING])
def test_ways_in_half_precision(way: str) -> None:
    assert way in WAYS
    with lane("6-layer", "bfloat16", "short", 2, 1, way) as run:
        assert run()["wall"] > 0


def test_ablation_beside_hooks_by_hand() -> None:
    """Both ways find the same losses, which ``measure`` asserts."""
    seconds = ablation.measure("6-layer", 60)
    assert list(seconds) == ["headprobe", "hooks by hand"]
    assert all((each > 0).all() for each in seconds.values())
