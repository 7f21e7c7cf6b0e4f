"""Judging again: other rules, the same sums, nothing lost."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import headprobe
from headprobe.cli import main as command_line
from headprobe.commands import judge as judge_module
from headprobe.commands.judge import judge_run
from headprobe.commands.judging import text_warning
from headprobe.commands.scan import scan
from headprobe.config import ScanConfig
from headprobe.errors import HeadprobeError
from headprobe.roles.rules import load_rules
from headprobe.runs.folder import Run
from headprobe.runs.manifest import BitsNote
from tests.helpers.progress import Remembering

Scan = Callable[..., Run]
LAX = "margin: 0\nmin_n: 1\nmin_mass: 0\nmax_q: 1\nmin_forms: 0\nmin_form_folds: 0\n"
LAX += "confidence: 0.01\nidle: {residual_share: 0}\nmax_bits: 99\nmin_lift: 0\nmin_share_gain: 0\n"
LAX += "unnamed: {agreement: 0, moved: 0, min_attention: 0}\n"
RESULTS = ("heads.csv", "relations.csv", "pairs.csv", "skipped.csv", "examples.jsonl", "rules.yaml")


@pytest.fixture
def lax(tmp_path: Path) -> Path:
    path = tmp_path / "lax.yaml"
    path.write_text(LAX)
    return path


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Run:
    """A run with enough documents for random heads to pass rules that ask for nothing."""
    folder = tmp_path_factory.mktemp("measured") / "run"
    config = ScanConfig(
        model=str(checkpoint), probes=("story",), out=folder, device="cpu", max_passages=40, seed=1
    )
    return scan(config, Remembering())


@pytest.fixture
def run(measured: Run, tmp_path: Path) -> Run:
    """A copy of it."""
    return Run.load(shutil.copytree(measured.path, tmp_path / "run"))


def silent(_: str) -> None:
    """Warnings are looked at elsewhere."""


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_judge_equals_a_scan_with_the_same_rules(
    run: Run, scanned: Scan, lax: Path, tmp_path: Path
) -> None:
    wanted = scanned(probes="story", max_passages=40, seed=1, rules=lax, out=tmp_path / "wanted")
    sums = {name: (run.path / name).stat().st_ino for name in ("tallies.npz", "instances.npz")}
    done = judge_run(run, lax, None, False, silent)
    for name in RESULTS:
        assert (run.path / name).read_bytes() == (wanted.path / name).read_bytes(), name
    assert {name: (run.path / name).stat().st_ino for name in sums} == sums
    assert done.run.manifest.rules_sha256 == wanted.manifest.rules_sha256
    assert load_rules(run.path / "rules.yaml").sha256 == wanted.manifest.rules_sha256
    assert done.run.heads["role"].ne("none").any()
    assert {change.name for change in done.changes} == set(
        done.run.heads.loc[done.run.heads["role"] != "none", "name"]
    )
    assert all(change.was != change.now for change in done.changes)
    back = judge_run(Run.load(run.path), None, None, False, silent)
    assert {(c.name, c.was, c.now) for c in back.changes} == {
        (c.name, c.now, c.was) for c in done.changes
    }


def test_judge_keeps_other_files_of_the_folder(run: Run, lax: Path) -> None:
    (run.path / "notes").mkdir()
    (run.path / "notes" / "mine.txt").write_text("keep")
    (run.path / "gone").symlink_to("nowhere")
    headprobe.judge(run.path, lax)
    assert (run.path / "notes" / "mine.txt").read_text() == "keep"
    assert (run.path / "gone").readlink() == Path("nowhere")
    assert [path.name for path in run.path.parent.iterdir() if path.name.startswith(".")] == []


def test_judge_with_out_leaves_the_run_unchanged(run: Run, lax: Path, tmp_path: Path) -> None:
    before = contents(run.path)
    done = judge_run(run, lax, tmp_path / "other", False, silent)
    assert contents(run.path) == before
    assert done.run.path == tmp_path / "other"
    assert set(contents(done.run.path)) == set(before)
    with pytest.raises(HeadprobeError, match="exists already"):
        judge_run(run, lax, tmp_path / "other", False, silent)
    judge_run(run, None, tmp_path / "other", True, silent)
    assert (tmp_path / "other" / "heads.csv").read_bytes() == before["heads.csv"]


def test_a_failed_judge_changes_nothing(
    run: Run, lax: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(run.path)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(judge_module, "link_files", interrupted)
    with pytest.raises(KeyboardInterrupt):
        judge_run(run, lax, None, False, silent)
    assert contents(run.path) == before
    assert [path.name for path in run.path.parent.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (lambda path: (path / "tallies.npz").write_bytes(b"PK\x03\x04 cut"), "cannot be read"),
        (lambda path: (path / "instances.npz").unlink(), "cannot be read"),
        (lambda path: (path / "heads.csv").unlink(), "no such table"),
    ],
)
def test_a_damaged_run_is_said_in_one_line(
    spoil: Callable[[Path], object], what: str, run: Run
) -> None:
    spoil(run.path)
    before = contents(run.path)
    with pytest.raises(HeadprobeError, match=what) as error:
        judge_run(Run.load(run.path), None, None, False, silent)
    assert "\n" not in str(error.value)
    assert contents(run.path) == before


def test_unusable_targets_and_method_versions_are_refused(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(HeadprobeError, match="is the run itself"):
        judge_run(run, None, run.path, False, silent)
    monkeypatch.chdir(run.path)
    with pytest.raises(HeadprobeError, match="is the current folder"):
        judge_run(Run.load(Path()), None, None, False, silent)
    monkeypatch.chdir(run.path.parent)
    manifest = json.loads((run.path / "manifest.json").read_text())
    (run.path / "manifest.json").write_text(json.dumps(manifest | {"method_version": 1}))
    with pytest.raises(HeadprobeError, match="measured by version 1 of the method"):
        judge_run(Run.load(run.path), None, None, False, silent)


def test_changed_rules_that_act_while_measuring_are_a_warning(run: Run, tmp_path: Path) -> None:
    rules = tmp_path / "idle.yaml"
    rules.write_text("idle: {output_norm: 0.2}\nsinks: {weight: 0.5}\nmax_bits: 0.1\n")
    said: list[str] = []
    judge_run(run, rules, None, False, said.append)
    assert [line.split(":")[0] for line in said[:2]] == ["idle.output_norm", "sinks.weight"]
    assert "the scan measured with 0.3" in said[0]
    assert "predicts this text badly" in said[2]
    assert len(said) == 3


@pytest.mark.parametrize(
    ("bits", "warned"),
    [
        (BitsNote(4.6, 9, 1000, 3000, 1.53), False),  # Chinese that the model knows
        (BitsNote(2.6, 9, 1000, 1000, 2.6), True),  # English that it does not know
        (BitsNote(8.98, 9, 100, 272, 3.3), True),  # Chinese that it does not know
        (BitsNote(2.6, 9, 1000), False),  # a run that did not count bytes
        (None, False),
    ],
)
def test_the_warning_of_unknown_text_counts_bytes(bits: BitsNote | None, warned: bool) -> None:
    warning = text_warning(bits, load_rules())
    assert (warning is not None) is warned
    assert warning is None or "bits per byte" in warning


def test_bad_rules_stop_a_scan_before_probes_are_read(
    scanned: Scan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def touched(*_: object, **__: object) -> None:
        raise AssertionError("went on")

    monkeypatch.setattr("headprobe.commands.prepare.load_config", touched)
    rules = tmp_path / "bad.yaml"
    rules.write_text("margn: 0.2\n")
    with pytest.raises(HeadprobeError, match=r"unknown rule 'margn'. Did you mean margin"):
        scanned(rules=rules)
    assert not (tmp_path / "run").exists()


def test_the_judge_command_prints_changes(
    run: Run, lax: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command_line.run(["judge", str(run.path), "--rules", str(lax)]) == 0
    out, _ = capsys.readouterr()
    assert "roles by layer" in out
    assert " changed its role" in out or " changed their role" in out
    assert command_line.run(["judge", str(run.path), "--rules", str(lax), "--quiet"]) == 0
    assert capsys.readouterr().out == f"{run.path}\n"
    assert command_line.run(["judge", str(run.path), "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["changes"]
    assert {"name", "was", "now", "reason"} == set(values["changes"][0])
    before = contents(run.path)
    assert command_line.run(["judge", str(run.path), "--rules", str(tmp_path / "none.yaml")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert contents(run.path) == before


def test_a_role_that_no_relation_can_earn_is_a_warning(
    run: Run, scanned: Scan, tmp_path: Path
) -> None:
    """A misspelt family or relation would pass in silence else."""
    rules = tmp_path / "typo.yaml"
    rules.write_text(
        "roles:\n"
        "  lost: {family: usr}\n"
        "  lookout: {family: syntax, relation: nsbj}\n"
        "  found: {family: syntax, relation: nsubj}\n"
    )
    said: list[str] = []
    judge_run(run, rules, tmp_path / "other", False, said.append)
    doubts = [line for line in said if line.startswith("role ")]
    assert [line.split(";")[0] for line in doubts] == [
        f"role {role}: no head can earn it, because the probes have no relation {relation}"
        for role, relation in (("lost", "of family usr"), ("lookout", "nsbj of family syntax"))
    ]
    assert doubts[0].endswith("they have coreference, punctuation, syntax, word-class")
    assert "nsubj" in doubts[1]
    progress = Remembering()
    scanned(rules=rules, progress=progress, out=tmp_path / "scanned")
    assert [line for line in progress.warnings if line.startswith("role lost")]
    assert not [line for line in progress.warnings if line.startswith("role found")]
