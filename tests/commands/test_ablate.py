"""``headprobe ablate`` on the demo model."""

import json
from pathlib import Path

import numpy as np
import pytest

import headprobe
from headprobe.cli.main import run as run_command
from headprobe.commands.ablate import choose_sets
from headprobe.errors import HeadprobeError
from headprobe.runs.folder import Run

pytestmark = pytest.mark.xdist_group("ablate")


@pytest.fixture(scope="module")
def scanned(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return headprobe.scan(out=tmp_path_factory.mktemp("ablate") / "run", max_passages=12)


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """BLiMP-style pairs."""
    path = tmp_path / "blimp.jsonl"
    lines = [
        {"sentence_good": f"The {noun} was here.", "sentence_bad": f"The {noun} were here."}
        for noun in ("cat", "dog", "house", "boy", "girl", "tree", "king", "queen")
    ]
    path.write_text("\n".join(map(json.dumps, lines)), "utf-8")
    return path


def ablate(run: Run, capsys: pytest.CaptureFixture[str], *words: str) -> list[dict]:
    assert run_command(["ablate", *words, "-r", str(run.path), "--json", "--tokens", "300"]) == 0
    return json.loads(capsys.readouterr().out)


def test_named_heads(scanned: Run, pairs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = ablate(scanned, capsys, "L0H1", "L1H2", "--pairs", str(pairs), "--sets", "5")
    assert [row["outcome"] for row in rows] == ["loss", "blimp"]
    loss = rows[0]
    assert loss["heads"] == ["L0H1", "L1H2"]
    assert loss["ablated"] - loss["base"] == pytest.approx(loss["effect"])
    assert loss["effect_low"] <= loss["effect"] <= loss["effect_high"]
    assert (loss["null"], loss["sets"]) == ("too few", 5)
    written = Run.load(scanned.path).ablation
    assert written["effect"][0] == pytest.approx(loss["effect"], rel=1e-5)

    again = ablate(scanned, capsys, "L0H1", "--by", "zero", "--pairs", str(pairs), "--sets", "0")
    assert len(again) == 2
    assert len(Run.load(scanned.path).ablation) == 4  # earlier sets stay


def test_each_head_and_the_same_head_by_name_agree(
    scanned: Run, pairs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    every = ablate(scanned, capsys, "--each", "--pairs", str(pairs))
    losses = {row["set"]: row["effect"] for row in every if row["outcome"] == "loss"}
    model = scanned.manifest.model
    assert len(losses) == model.n_layers * model.n_heads
    [alone, _] = ablate(scanned, capsys, "L2H3", "--pairs", str(pairs), "--sets", "0")
    assert np.isclose(losses["L2H3"], alone["effect"], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("target", ["role:nothing", "cluster:99", "group:L0G99", "L99H0", "x:y"])
def test_unknown_heads_are_one_line(scanned: Run, target: str) -> None:
    with pytest.raises(HeadprobeError):
        choose_sets(scanned, [target], each=False)
    with pytest.raises(HeadprobeError):
        choose_sets(scanned, [], each=False)


def test_bad_pairs_leave_nothing(scanned: Run, tmp_path: Path) -> None:
    path, table = tmp_path / "bad.jsonl", scanned.path / "ablation.csv"
    path.write_text('{"good": "same", "bad": "same"}\n', "utf-8")
    before = table.read_bytes() if table.exists() else None
    words = ["ablate", "L0H0", "-r", str(scanned.path), "--pairs", str(path)]
    assert run_command(words) == 2
    assert (table.read_bytes() if table.exists() else None) == before
