"""``headprobe compare``: what is known to be the same is recovered, and chance matches nothing."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

import headprobe
from headprobe.cli.main import run as command_line
from headprobe.commands.compare import compare_runs
from headprobe.commands.scan import scan
from headprobe.config import ScanConfig
from headprobe.errors import HeadprobeError
from headprobe.report.comparison import answer
from headprobe.results.comparison import Comparison, comparison_table
from headprobe.runs.folder import Run
from headprobe.runs.sums import Tallies
from headprobe.vocabulary import head_name
from tests.helpers.checkpoints import save_checkpoint
from tests.helpers.once import once, session_folder
from tests.helpers.permuted import permute_heads
from tests.helpers.probes import PROBES
from tests.helpers.progress import Remembering
from tests.helpers.tiny import random_ids, tiny_model

BUNDLED = Path(__file__).parents[2] / "configs" / "probes"
NATURAL, NEWS = BUNDLED / "natural.conllu", BUNDLED / "news.conllu"

Scans = Callable[[str], Run]


def scan_all(folder: Path) -> None:
    """Runs of a tiny model, of the same with permuted heads, and of an untrained one."""
    model = tiny_model("llama-gqa")
    permuted, seats = permute_heads(model, seed=1)
    torch.manual_seed(7)
    untrained = AutoModelForCausalLM.from_config(model.config).eval()
    models = {"model": model, "permuted": permuted, "untrained": untrained}
    for name, each in models.items():
        save_checkpoint(folder / "checkpoints" / name, each)
        measure(folder, name, name, twin=True)
    measure(folder, "no-twin", "permuted", budget=50)
    for name, probes, dtype in (
        ("text", NATURAL, "float32"),
        ("narrow", NATURAL, "bfloat16"),
        ("other-text", NEWS, "float32"),
    ):
        measure(folder, name, "model", probes=probes, dtype=dtype, max_passages=60)
    pairs = [[head_name(*old), head_name(*new)] for old, new in seats.items()]
    (folder / "seats.json").write_text(json.dumps(pairs), encoding="utf-8")


def measure(folder: Path, name: str, model: str, probes: Path = PROBES, **options: object) -> None:
    config = ScanConfig(
        model=str(folder / "checkpoints" / model),
        probes=(str(probes),),
        out=folder / name,
        device="cpu",
        **options,
    )
    scan(config, Remembering())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return once(session_folder(tmp_path_factory) / "compared", scan_all)


@pytest.fixture(scope="module")
def runs(folder: Path) -> Scans:
    return lambda name: Run.load(folder / name)


def test_permuted_heads_compute_the_same_function() -> None:
    model = tiny_model("llama-gqa")
    other, seats = permute_heads(model, seed=1)
    assert sum(old != new for old, new in seats.items()) > 6
    ids = random_ids(30)[None]
    with torch.inference_mode():
        torch.testing.assert_close(model(ids).logits, other(ids).logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("other", ["permuted", "no-twin"])
def test_a_permutation_of_heads_is_recovered_entirely(
    folder: Path, runs: Scans, other: str
) -> None:
    """Also from passages of another length."""
    found = compare_runs(runs("model"), runs(other))
    assert not found.same_model and found.rows > 40
    assert [[h.head_a, h.head_b] for h in found.heads] == sorted(
        json.loads((folder / "seats.json").read_text("utf-8"))
    )
    assert all(head.nearest for head in found.heads)
    if other == "permuted":
        assert all(head.affinity == pytest.approx(1, abs=1e-5) for head in found.heads)
        assert all(head.matched and head.floor95 < 0.999 for head in found.heads)
        assert all(head.gains_r == pytest.approx(1, abs=1e-6) for head in found.heads)
    else:
        assert all(head.matched is None and head.floor95 is None for head in found.heads)
        assert len(found.notes) == 1 and str(folder / "no-twin") in found.notes[0]


def test_an_untrained_model_matches_nothing(runs: Scans) -> None:
    for one, other in (("model", "untrained"), ("untrained", "permuted")):
        found = compare_runs(runs(one), runs(other))
        assert [head.head_a for head in found.heads if head.matched] == []
        assert sum(head.nearest for head in found.heads) > 0  # so the floor is what decides
        assert " 0 of the 12 heads" in f" {answer(found)}"


def test_one_model_in_two_dtypes(runs: Scans) -> None:
    found = compare_runs(runs("text"), runs("narrow"))
    assert found.same_model and found.text == "same"
    assert [head.head_b for head in found.heads] == [head.head_a for head in found.heads]
    frame, narrow = runs("text").relations, runs("narrow").relations
    asked = [head for head in found.heads if head.relation is not None]
    assert len(asked) > 6
    for head in asked:
        one, other = (
            each[
                (each["name"] == head.head_a)
                & (each["family"] == head.family)
                & (each["relation"] == head.relation)
                & (each["looks_to"] == head.looks_to)
            ].iloc[0]
            for each in (frame, narrow)
        )
        assert head.n == one["n"]
        assert head.gain_a == one["gain"] and head.gain_b == other["gain"]
        assert head.change == pytest.approx(other["top1"] - one["top1"], abs=1e-6)
    assert any(head.change for head in found.heads)
    compared = [head for head in found.heads if head.change_low is not None]
    assert all(head.change_low <= head.change <= head.change_high for head in compared)
    assert found.agreement == np.mean(
        (runs("text").heads["role"] == runs("narrow").heads["role"]).to_numpy()
    )


def test_one_model_on_two_texts(runs: Scans) -> None:
    """The difference of gains, with the standard errors of both tables."""
    found = compare_runs(runs("text"), runs("other-text"))
    assert found.same_model and found.text == "other" and found.rows == 0
    known = [head for head in found.heads if head.change is not None]
    assert len(known) > 6
    for head in known:
        assert head.change == pytest.approx(head.gain_b - head.gain_a) and head.n is None
        assert head.change_high - head.change == pytest.approx(head.change - head.change_low)
        assert 0 <= head.q <= 1


def test_the_same_run_twice_and_copies(folder: Path, runs: Scans) -> None:
    with pytest.raises(HeadprobeError, match="is named twice"):
        compare_runs(runs("model"), runs("model"))
    with pytest.raises(HeadprobeError, match=r"share 0 of the words .* Scan both models on the sa"):
        compare_runs(runs("permuted"), runs("other-text"))
    declared = compare_runs(runs("model"), runs("permuted"), same_model=True)
    assert declared.same_model and [h.head_b for h in declared.heads] == [
        h.head_a for h in declared.heads
    ]
    seats = json.loads((folder / "seats.json").read_text("utf-8"))
    kept = sorted(old for old, new in seats if old == new)
    assert [head.head_a for head in declared.heads if head.nearest] == kept


def test_runs_without_a_sketch_are_refused_across_models(
    runs: Scans, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Runs of earlier versions; they are read as before, and compared with their own model."""
    old = tmp_path / "old"
    shutil.copytree(runs("model").path, old)
    sums = Tallies.load(old / "tallies.npz").arrays
    Tallies({k: v for k, v in sums.items() if k != "sketch"}).save(old / "tallies.npz")
    assert "sketch" not in Run.load(old).tallies
    with pytest.raises(HeadprobeError, match=r"old: has no sketch .*\. Scan its model again\."):
        compare_runs(Run.load(old), runs("permuted"))
    assert compare_runs(Run.load(old), runs("text")).rows == 0
    assert command_line(["compare", str(old), str(runs("permuted").path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_command_prints_and_writes(
    runs: Scans, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [str(runs(name).path) for name in ("model", "permuted")]
    assert command_line(["compare", *paths, "-o", str(tmp_path / "c"), "--quiet"]) == 0
    sentence = capsys.readouterr().out
    assert sentence.startswith("12 of the 12 heads of A have a counterpart in B")
    written = (tmp_path / "c" / "compare.csv").read_text("utf-8").splitlines()
    assert written[0].startswith("head_a,head_b,affinity,floor95,matched,") and len(written) == 13
    assert command_line(["compare", *paths, "-o", str(tmp_path / "c")]) == 2
    assert "exists already" in capsys.readouterr().err
    assert command_line(["compare", *paths, "--csv", str(tmp_path / "c"), "--overwrite"]) == 0
    page = capsys.readouterr().out
    answered = page.partition("\n\n")[0]
    assert answered.split() == sentence.split()
    for part in ("counterparts", "roles by depth", "equal seats"):
        assert part in page
    assert command_line(["compare", *paths, "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values == json.loads((tmp_path / "c" / "compare.json").read_text("utf-8"))
    assert len(values["heads"]) == 12 and values["b"]["run"] == paths[1]


def test_a_comparison_is_not_written_into_a_run(runs: Scans, capsys) -> None:
    paths = [str(runs(name).path) for name in ("model", "permuted")]
    assert command_line(["compare", *paths, "-o", f"{paths[1]}/x"]) == 2
    assert "is one of the runs, or in it" in capsys.readouterr().err
    assert not Path(paths[1], "x").exists()


def test_python(runs: Scans, tmp_path: Path) -> None:
    found = headprobe.compare(runs("text").path, runs("narrow"))
    assert isinstance(found.comparison, Comparison)
    assert list(found.heads["head_a"]) == list(found.heads["head_b"])
    assert found.heads.equals(comparison_table(found.comparison))
    assert str(found.summary()).splitlines()[0] in answer(found.comparison)
    assert "<pre" in found._repr_html_()


def test_the_atlas_shows_another_run(runs: Scans, here: Path, capsys) -> None:
    model, permuted = (str(runs(name).path) for name in ("model", "permuted"))
    assert command_line(["report", model, "--compare", permuted, "-o", "a.html"]) == 0
    page = (here / "a.html").read_text("utf-8")
    assert "12 of the 12 heads of A have a counterpart in B" in page
    headprobe.load(model).report("b.html", compare=permuted)
    assert (here / "b.html").read_text("utf-8") == page
    assert command_line(["report", model, "--compare", model, "-o", "c.html"]) == 2
    assert "is named twice" in capsys.readouterr().err
    assert command_line(["report", model, "--compare", permuted, "--png", "figures"]) == 2
    assert "Leave out --compare" in capsys.readouterr().err


def without_rows(folder: Path) -> None:
    lines = (folder / "relations.csv").read_text("utf-8").splitlines()
    (folder / "relations.csv").write_text("\n".join(lines[:-1]) + "\n", "utf-8")


def with_array(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        sums = dict(Tallies.load(folder / "tallies.npz").arrays)
        Tallies({**sums, name: change(sums[name])}).save(folder / "tallies.npz")

    return write


@pytest.mark.parametrize(
    "spoil",
    [
        without_rows,
        with_array("hits", lambda hits: hits[:5]),
        with_array("sketch", lambda sketch: sketch[..., :3]),
        with_array("sketch", lambda sketch: sketch[1:]),
        with_array("sketch", lambda sketch: -1 - sketch),
        lambda folder: (folder / "power.csv").unlink(),
        lambda folder: (folder / "rules.yaml").unlink(),
    ],
)
def test_damaged_runs_are_one_line(
    runs: Scans,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[Path], None],
) -> None:
    shutil.copytree(runs("text").path, tmp_path / "run")
    spoil(tmp_path / "run")
    assert command_line(["compare", str(tmp_path / "run"), str(runs("narrow").path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(str(tmp_path / "run")) and error.count("\n") == 1
