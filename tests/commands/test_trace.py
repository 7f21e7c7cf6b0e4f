"""``headprobe trace``: what is known of a training is read exactly, and steps are measured once."""

import inspect
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import httpx
import pandas as pd
import pytest
import torch
from huggingface_hub import constants
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError
from transformers import AutoModelForCausalLM

import headprobe
from headprobe.cli.main import run as command_line
from headprobe.commands import trace as module
from headprobe.commands.trace import TraceRequest, step_numbers, trace
from headprobe.commands.trace_folder import load_trace
from headprobe.config import ScanConfig
from headprobe.errors import HeadprobeError
from headprobe.planted.checkpoint import Case
from headprobe.planted.weights import CheckpointShape
from headprobe.planted.words import read_lexicon, write_sample
from headprobe.probes.catalog import find_probe_files
from headprobe.results.trace import Trace
from headprobe.runs.folder import Run
from headprobe.vocabulary import head_name
from tests.helpers.checkpoints import save_checkpoint
from tests.helpers.once import once, session_folder
from tests.helpers.probes import PROBES
from tests.helpers.progress import Remembering
from tests.helpers.series import plant_series
from tests.helpers.tiny import tiny_model

STEPS = (0, 100, 200, 400, 800, 1600)

SCHEDULE = {
    "determiner": (100, 200, 400, 800, 1600),
    "mark": (200, 400, 800, 1600),
    "duplicate": (200, 400),
    "verb": (400, 800, 1600),
    "agreement": (800, 1600),
    "noun": (1600,),
}
"""The steps at which planted heads are there."""

EVENTS = {
    ("determiner", "syntax", "onset", 0, 100),
    ("mark", "punctuation", "onset", 100, 200),
    ("duplicate", "duplicate-token", "onset", 100, 200),
    ("duplicate", "duplicate-token", "end", 400, 800),
    ("verb", "syntax", "onset", 200, 400),
    ("verb", "word-class", "onset", 200, 400),
    ("agreement", "coreference", "onset", 400, 800),
    ("noun", "word-class", "onset", 800, None),
}


def known_training(folder: Path) -> None:
    files = find_probe_files(("natural", "dialogue"))
    lexicon = read_lexicon(files)
    write_sample(files, folder / "probes", 0.5)
    case = Case(CheckpointShape(3, 8, 8, 32), adds_start=True, seed=0)
    seats = plant_series(folder / "planted", case, lexicon, STEPS, SCHEDULE)
    names = {head_name(*seat): plan.name for seat, plan in seats.items()}
    (folder / "seats.json").write_text(json.dumps(names), encoding="utf-8")
    models = tuple(str(folder / "planted" / f"step{step}") for step in reversed(STEPS))
    probes = (str(folder / "probes"),)
    request = TraceRequest(models, ScanConfig(probes=probes, device="cpu"), out=folder / "trace")
    trace(request, Remembering())


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return once(session_folder(tmp_path_factory) / "training", known_training)


@pytest.mark.xdist_group("trace")
def test_heads_that_are_switched_on_and_off_are_read_exactly(known: Path) -> None:
    found = load_trace(known / "trace")
    names = json.loads((known / "seats.json").read_text("utf-8"))
    assert [step.step for step in found.steps] == list(STEPS)
    assert not any(step.twin for step in found.steps)
    read = {
        (names[each.head], each.role, each.event.kind, each.event.after, each.event.by)
        for each in found.events
    }
    assert read == EVENTS
    assert found.first["coreference"].event.by == 800
    assert all(step.equal_to is None for step in found.steps)
    assert (known / "trace" / "onsets.csv").read_text("utf-8").count("\n") == len(EVENTS) + 1


@pytest.mark.xdist_group("trace")
def test_python_shows_what_the_command_line_writes(known: Path, tmp_path: Path) -> None:
    found = headprobe.load_trace(known / "trace")
    for name, table in (("trace", found.roles), ("onsets", found.onsets), ("steps", found.steps)):
        written = pd.read_csv(known / "trace" / f"{name}.csv")
        assert list(table.columns) == list(written.columns) and len(table) == len(written)
    assert str(found.summary()).startswith("5 of 24 heads gain a role")
    with pytest.raises(HeadprobeError, match=r"is a trace, not a run\. .*headprobe\.load_trace"):
        headprobe.load(known / "trace")
    with pytest.raises(HeadprobeError, match=r"is a run, not a trace\. .*headprobe\.load"):
        headprobe.load_trace(found.run(800).path)
    assert set(found.plot()) == {"roles-by-step", "bits-by-step", "onsets"}
    assert found.run(800).path == known / "trace" / "step800"
    assert found.report(tmp_path / "atlas.html").read_text("utf-8").startswith("<!doctype html>")
    with pytest.raises(HeadprobeError, match="step 3: is not in the trace"):
        found.run(3)
    with pytest.raises(HeadprobeError, match="overwrite=True"):
        found.report(tmp_path / "atlas.html")
    with pytest.raises(TypeError, match="twin"):
        headprobe.trace([known / "planted" / "step0"], twin=True)
    assert {"checkpoints", "drop", "max_passages"} <= set(
        inspect.signature(headprobe.trace).parameters
    )


@pytest.mark.xdist_group("trace")
def test_the_atlas_and_the_figures_of_a_trace(known: Path, here: Path) -> None:
    folder = str(known / "trace")
    assert command_line(["report", folder, "-o", "page.html"]) == 0
    page = (here / "page.html").read_text("utf-8")
    data = json.loads(page.partition('id="data">')[2].partition("</script>")[0])
    assert data["slider"] and [view["label"] for view in data["views"]][:2] == [
        "step 0",
        "step 100",
    ]
    for view, step in zip(data["views"], load_trace(known / "trace").steps, strict=True):
        shown = [view["kinds"][kind]["name"] for kind in view["heads"]]
        assert tuple(shown) == step.roles
    assert len(data["section"]["rows"]) == len(EVENTS)
    assert command_line(["report", folder, "--png", "figures"]) == 0
    assert {path.name for path in (here / "figures").iterdir()} == {
        "roles-by-step.png",
        "bits-by-step.png",
        "onsets.png",
    }
    assert command_line(["report", folder, "--compare", folder]) == 2


# --- small trainings, of which nothing is known but that nothing happens


def untrained(seed: int) -> torch.nn.Module:
    config = tiny_model("llama-gqa").config
    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(config).eval()


@pytest.fixture
def series(tmp_path: Path) -> Callable[[int], list[str]]:
    """Folders of untrained checkpoints, whose names give the steps 10, 20, ..."""

    def folders(count: int) -> list[str]:
        names = [tmp_path / "series" / f"checkpoint-{10 * (n + 1)}" for n in range(count)]
        for seed, folder in enumerate(names):
            if not folder.exists():
                save_checkpoint(folder, untrained(seed))
        return [str(folder) for folder in names]

    return folders


def traced(models: list[str], out: Path, *, resume: bool = False, **options: object) -> Trace:
    config = ScanConfig(probes=(str(PROBES),), device="cpu", **options)
    return trace(TraceRequest(tuple(models), config, out=out, resume=resume), Remembering())


@pytest.fixture
def scans(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The runs that are scanned, not reused."""
    names: list[str] = []
    real = module.run_scan

    def watched(attempt: module.ScanAttempt, *others: object) -> Path:
        names.append(attempt.config.out.name)
        return real(attempt, *others)

    monkeypatch.setattr(module, "run_scan", watched)
    return names


def test_a_series_of_twins_has_no_onset(
    series: Callable[[int], list[str]], tmp_path: Path, scans: list[str]
) -> None:
    found = traced(series(3), tmp_path / "t")
    assert found.onsets == () and not found.warnings
    assert [(step.step, step.twin) for step in found.steps] == [
        (0, True),
        (10, False),
        (20, False),
        (30, False),
    ]
    assert len({step.weights for step in found.steps}) == 4
    assert scans == ["step0", "step10", "step20", "step30"]
    assert Run.load(tmp_path / "t" / "step0").manifest.model.asked == "random weights"


def test_finished_steps_are_reused_and_others_refused(
    series: Callable[[int], list[str]], tmp_path: Path, scans: list[str]
) -> None:
    out = tmp_path / "t"
    traced(series(1), out)
    with pytest.raises(HeadprobeError, match=r"is a trace already\. Go on with --resume"):
        traced(series(2), out)
    found = traced(series(2), out, resume=True)
    assert scans == ["step0", "step10", "step20"] and len(found.steps) == 3
    with pytest.raises(HeadprobeError, match=r"differs from the trace .* in the seed"):
        traced(series(2), out, resume=True, seed=1)
    save_checkpoint(Path(series(2)[0]), untrained(9))
    with pytest.raises(HeadprobeError, match="step10: was measured on a checkpoint that has chang"):
        traced(series(2), out, resume=True)
    shutil.rmtree(out / "step10")  # the remedy
    traced(series(2), out, resume=True)
    assert scans[3:] == ["step10"]


def test_an_interrupted_trace_goes_on(
    series: Callable[[int], list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, real = tmp_path / "t", module.run_scan

    def interrupted(attempt: module.ScanAttempt, *others: object) -> Path:
        if attempt.config.out.name == "step10":
            raise KeyboardInterrupt
        return real(attempt, *others)

    with monkeypatch.context() as patch:
        patch.setattr(module, "run_scan", interrupted)
        with pytest.raises(KeyboardInterrupt, match=r"Resume with the same command and -o .*--res"):
            traced(series(1), out)
    unfinished = load_trace(out)
    assert [step.step for step in unfinished.steps] == [0]
    assert unfinished.warnings == ("1 step is not measured yet: --resume",)
    assert [step.step for step in traced(series(1), out, resume=True).steps] == [0, 10]


def test_equal_weights_count_once(series: Callable[[int], list[str]], tmp_path: Path) -> None:
    models = series(2)
    shutil.copytree(models[0], tmp_path / "series" / "checkpoint-30")
    found = traced([*models, str(tmp_path / "series" / "checkpoint-30")], tmp_path / "t")
    assert [step.equal_to for step in found.steps] == [None, None, None, 10]
    assert found.warnings == ("steps 10 and 30 have equal weights: they count once",)
    assert [step.step for step in found.counted] == [0, 10, 20]


def test_half_precision_that_underflows_is_reported(
    series: Callable[[int], list[str]], tmp_path: Path
) -> None:
    models = series(2)
    small = untrained(0)
    with torch.no_grad():
        for layer in small.model.layers:
            layer.self_attn.o_proj.weight.mul_(1e-4)
    save_checkpoint(Path(models[0]), small.half())
    save_checkpoint(Path(models[1]), untrained(1).half())
    found = traced(models, tmp_path / "t", dtype="float32")
    [warning] = found.warnings
    assert warning.startswith("step 10: ") and "too small for float16" in warning


def test_nothing_remains_where_the_first_checkpoint_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "step1").mkdir()
    (tmp_path / "step1" / "config.json").write_text("{}")
    with pytest.raises(HeadprobeError, match="step1"):
        traced([str(tmp_path / "step1")], tmp_path / "new" / "t")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("names", "steps"),
    [
        (["step1000", "step2000", "step0"], [1000, 2000, 0]),
        (["stage1-step500-tokens2B", "stage1-step1000-tokens4B"], [500, 1000]),
        (["run7-10", "run7-20"], [10, 20]),
        (["a/checkpoint_3", "checkpoint-12"], [3, 12]),
        (["v2"], [2]),
    ],
)
def test_steps_are_read_from_names(names: list[str], steps: list[int]) -> None:
    assert step_numbers(names) == steps


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "trace: names no checkpoints. Name folders, or a Hub id with --revisions 'step*'."),
        (["first"], "first: has no number in its name, by which steps are sorted. Rename it, such"),
        (["a/step1", "b/step1"], "step1 and step1: are both step 1."),
        (["step1", "--drop"], "--drop: removes downloaded revisions, and none is downloaded."),
        (["a", "b", "--revisions", "x"], "--revisions: names more than one model."),
        ([".", "--revisions", "x"], "--revisions: . is a local folder."),
        (["step1", "--resume"], "--resume: which trace?. Name its folder: -o DIR."),
        (["step1", "-o", "t", "--resume"], "t: is not the folder of a trace (no trace.json)."),
        (["step1", "-o", "full"], "full: exists already. Name another folder: -o DIR."),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], said: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "full").mkdir()
    (here / "full" / "file").touch()
    assert command_line(["trace", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith(said) and error.count("\n") == 1
    assert [path.name for path in here.iterdir()] == ["full"]


# --- revisions of the Hub, which answers from memory

MODEL = "somebody/model"
COMMITS = {"step0": "a" * 40, "step10": "b" * 40, "main": "c" * 40}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A Hub that lists three revisions and has a cache of its own; the cache's folder."""
    refs = [SimpleNamespace(name=name, target_commit=commit) for name, commit in COMMITS.items()]
    listing = SimpleNamespace(branches=refs[2:], tags=refs[:2])
    monkeypatch.setattr("headprobe.model.revisions.hub_is_reachable", lambda: True)
    monkeypatch.setattr("huggingface_hub.HfApi.list_repo_refs", lambda *_: listing)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.setattr(constants, name, str(tmp_path / "hub"), raising=False)
    folder = tmp_path / "hub" / "models--somebody--model"
    (folder / "refs").mkdir(parents=True)
    (folder / "snapshots").mkdir()
    (folder / "blobs").mkdir()
    real, seeds = module.run_scan, {"step0": 1, "step10": 2}

    def downloading(attempt: module.ScanAttempt, *others: object) -> Path:
        for name, seed in seeds.items():
            snapshot = folder / "snapshots" / COMMITS[name]
            if attempt.config.revision == COMMITS[name] and not snapshot.exists():
                save_checkpoint(snapshot, untrained(seed))
        return real(attempt, *others)

    monkeypatch.setattr(module, "run_scan", downloading)
    yield folder / "snapshots"


def revisions(out: Path, pattern: str = "step*", **options: bool) -> Trace:
    config = ScanConfig(probes=(str(PROBES),), device="cpu")
    return trace(TraceRequest((MODEL,), config, pattern, out, **options), Remembering())


def test_revisions_are_listed_sorted_and_dropped(hub: Path, tmp_path: Path) -> None:
    save_checkpoint(hub / COMMITS["step0"], untrained(1))  # here before, so it stays
    found = revisions(tmp_path / "t", drop=True)
    assert [(step.step, step.name) for step in found.steps] == [(0, "step0"), (10, "step10")]
    assert [path.name for path in hub.iterdir()] == [COMMITS["step0"]]
    manifest = Run.load(tmp_path / "t" / "step10").manifest
    assert (manifest.model.asked, manifest.model.revision) == (MODEL, COMMITS["step10"])


def test_revisions_stay_in_the_cache_and_a_moved_one_is_noticed(
    hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    revisions(tmp_path / "t")
    assert {path.name for path in hub.iterdir()} == {COMMITS["step0"], COMMITS["step10"]}
    assert len(revisions(tmp_path / "t", resume=True).steps) == 2
    moved = SimpleNamespace(
        branches=[], tags=[SimpleNamespace(name="step0", target_commit="d" * 40)]
    )
    monkeypatch.setattr("huggingface_hub.HfApi.list_repo_refs", lambda *_: moved)
    with pytest.raises(HeadprobeError, match="was measured on a checkpoint that has changed"):
        revisions(tmp_path / "t", resume=True)


def answered(error: type[Exception]) -> Callable[..., None]:
    def fail(*_: object) -> None:
        request = httpx.Request("GET", "https://huggingface.co")
        raise error("refused", response=httpx.Response(401, request=request))

    return fail


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (GatedRepoError, "its licence must be accepted on the Hub first"),
        (RepositoryNotFoundError, "no such model on the Hub"),
    ],
)
def test_errors_of_the_hub_are_one_line(
    hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception], said: str
) -> None:
    monkeypatch.setattr("huggingface_hub.HfApi.list_repo_refs", answered(error))
    with pytest.raises(HeadprobeError, match=said):
        revisions(tmp_path / "t")
    assert not (tmp_path / "t").exists()


def test_a_pattern_without_a_match_and_no_network(
    hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(HeadprobeError, match=r"has no branch or tag that matches\. .*step0"):
        revisions(tmp_path / "t", "stop*")
    monkeypatch.setattr("headprobe.model.revisions.hub_is_reachable", lambda: False)
    with pytest.raises(HeadprobeError, match="the Hub cannot be reached"):
        revisions(tmp_path / "t")
