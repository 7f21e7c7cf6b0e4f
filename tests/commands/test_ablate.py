"""``headprobe ablate`` on the demo model."""

import json
from pathlib import Path

import numpy as np
import pytest

import headprobe
from headprobe.causal.losses import ResumablePass
from headprobe.cli.main import run as run_command
from headprobe.commands.ablate import choose_sets
from headprobe.commands.causal_text import read_run_corpus
from headprobe.commands.measured_model import measured_source
from headprobe.errors import HeadprobeError
from headprobe.model.load import load_encoder
from headprobe.progress import SilentProgress
from headprobe.runs.folder import UNFINISHED_ABLATION, Run

pytestmark = pytest.mark.xdist_group("ablate")


@pytest.fixture(scope="module")
def scanned(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return headprobe.scan(
        out=tmp_path_factory.mktemp("ablate") / "run", probes=["natural"], max_passages=12
    )


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


def test_an_interrupted_ablation_continues(
    scanned: Run, pairs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was done is not run again, and the results are the same; another set is refused."""
    words = ["L1H0", "--pairs", str(pairs), "--sets", "3"]
    whole = ablate(scanned, capsys, *words)
    calls = 0

    def interrupt(progress: object, count: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt

    base = ["ablate", "-r", str(scanned.path), "--json", "--tokens", "300"]
    with monkeypatch.context() as patch:
        patch.setattr("headprobe.commands.ablation_progress.AblationProgress.advance", interrupt)
        assert run_command([*base, *words]) == 130
    assert "--resume" in capsys.readouterr().err
    state = scanned.path / UNFINISHED_ABLATION
    assert state.exists()
    assert run_command([*base, "L1H1", *words[1:], "--resume"]) == 2
    assert "differs in the heads" in capsys.readouterr().err
    runs = []
    resume = ResumablePass.resume
    monkeypatch.setattr(
        ResumablePass, "resume", lambda self, *rest: runs.append(1) or resume(self, *rest)
    )
    assert ablate(scanned, capsys, *words, "--resume") == whole
    assert not state.exists()
    full = len(runs)
    ablate(scanned, capsys, *words)
    assert len(runs) - full == full + 3
    assert run_command([*base, *words, "--resume"]) == 2
    assert "no unfinished ablation" in capsys.readouterr().err


def test_the_plan_runs_nothing(
    scanned: Run, pairs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headprobe.commands.ablate.measured_model", None)
    words = ["ablate", "L1H0", "-r", str(scanned.path), "--pairs", str(pairs), "--dry-run"]
    assert run_command([*words, "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    model = scanned.manifest.model
    assert plan["interventions"] == model.n_heads
    assert plan["passes"] == pytest.approx(model.n_heads * (1 - 1 / model.n_layers))
    assert plan["pairs"] == 8
    assert run_command(words) == 0
    assert "8 (" in capsys.readouterr().out


def test_chance_on_pairs_is_judged_by_templates(
    scanned: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Pairs of one template prove nothing, however many they are: no set is run on them."""
    path = tmp_path / "one.jsonl"
    lines = [
        {"good": f"The {noun} was here.", "bad": f"The {noun} xqz here.", "template": "one"}
        for noun in ("cat", "dog", "house", "boy", "girl", "tree", "king", "queen")
    ]
    path.write_text("\n".join(map(json.dumps, lines)), "utf-8")
    [_, row] = ablate(scanned, capsys, "L1H0", "--pairs", str(path), "--sets", "0")
    assert (row["usable"], row["important"]) == (False, False)
    assert row["base"] > 0 and row["accuracy"] > 0.5
    assert row["effect"] is row["random_median"] is row["q"] is None


def test_a_run_is_cut_again_with_its_own_budget(tmp_path: Path) -> None:
    run = headprobe.scan(out=tmp_path / "run", max_passages=2, budget=64, probes=["story"])
    source = measured_source(run, trust_remote_code=False)
    corpus = read_run_corpus(run, load_encoder(source), SilentProgress())
    own = set(run.instances.passage_ids.tolist())
    assert own <= set(corpus.instances.passage_ids.tolist())
    assert corpus.lengths.max() <= 64 + 64


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
    path.write_text('{"good": "same"}\n', "utf-8")
    before = table.read_bytes() if table.exists() else None
    words = ["ablate", "L0H0", "-r", str(scanned.path), "--pairs", str(path)]
    assert run_command(words) == 2
    assert (table.read_bytes() if table.exists() else None) == before
