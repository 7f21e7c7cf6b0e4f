"""What a checkpoint or what lies beside a run may not do: run code, or pass for something else."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import headprobe
from headprobe.cli.main import run
from headprobe.commands.judge import judge_run
from headprobe.commands.show_text import show_text
from headprobe.config import ScanConfig
from headprobe.errors import HeadprobeError
from headprobe.model.load import CheckpointSource, load_config, load_model
from headprobe.runs.checkpoint import ScanCheckpoint
from headprobe.runs.folder import Run
from tests.helpers.probes import PROBES
from tests.helpers.progress import Remembering

Scan = Callable[..., Run]


@pytest.fixture
def model(checkpoint: Path, tmp_path: Path) -> Path:
    """A copy that may be changed."""
    return shutil.copytree(checkpoint, tmp_path / "model")


def change(path: Path, **values: Any) -> None:
    """Set keys of a JSON file, nested ones with double underscores."""
    whole = json.loads(path.read_text("utf-8"))
    for name, value in values.items():
        *outer, last = name.split("__")
        place = whole
        for key in outer:
            place = place[key]
        place[last] = value
    path.write_text(json.dumps(whole), encoding="utf-8")


def other_weights(model: Path, name: str) -> None:
    weights = {key: value * 2 for key, value in load_file(model / "model.safetensors").items()}
    save_file(weights, model / name, metadata={"format": "pt"})


PLANTED = """
from pathlib import Path
Path({marker!r}).write_text("executed")
from transformers import LlamaConfig
class Planted(LlamaConfig):
    model_type = "planted"
"""


@pytest.fixture
def planted(model: Path, tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    """What would be executed if the model's code were, and a note that is kept beside ``run``."""
    marker = tmp_path / "executed"
    (model / "planted.py").write_text(PLANTED.format(marker=str(marker)))
    change(model / "config.json", model_type="planted", auto_map={"AutoConfig": "planted.Planted"})
    config = ScanConfig.from_options(
        {"model": str(model), "probes": str(PROBES), "out": "run", "device": "cpu"}
    )
    note = {
        "request": config.to_json(),
        "in_memory": False,
        "folder": str(tmp_path),
        "terms": {},
        "started": "2026-11-28T00:00:00+00:00",
        "seconds": {},
        "resumed": 0,
    }
    return marker, note


def keep(note: object) -> None:
    ScanCheckpoint(Path("run")).save("checkpoint", note, {})  # type: ignore[arg-type]


def test_a_planted_partial_scan_executes_no_code(
    planted: tuple[Path, dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Neither by the consent in the note, nor, where consent is given, before all is compared."""
    monkeypatch.chdir(tmp_path)
    marker, note = planted
    keep(note)
    for consent in ([], ["--trust-remote-code"]):
        assert run(["scan", "--resume", "run", *consent]) == 2
        assert (
            "run: differs from the scan that was started in"
            in capsys.readouterr().err.splitlines()[-1]
        )
        assert not marker.exists()
    with pytest.raises(HeadprobeError, match="differs from the scan that was started"):
        headprobe.resume("run", trust_remote_code=True, progress=Remembering())
    assert not marker.exists()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda note: [],
        lambda note: {},
        lambda note: note | {"request": []},
        lambda note: note | {"terms": {"a": 1}},
        lambda note: note | {"started": 5},
        lambda note: note | {"resumed": "x"},
        lambda note: note | {"request": note["request"] | {"model": 7}},
        lambda note: note | {"request": note["request"] | {"shard": {"index": 0}}},
        lambda note: note | {"request": note["request"] | {"out": "another"}},
        lambda note: note | {"request": note["request"] | {"trust_remote_code": True}},
    ],
)
def test_a_damaged_note_is_a_one_line_error(
    spoil: Callable[[dict[str, Any]], object],
    planted: tuple[Path, dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    keep(spoil(planted[1]))
    with pytest.raises(HeadprobeError, match=r"Start again with overwrite=True\.$"):
        headprobe.resume("run", progress=Remembering())


def test_resuming_with_other_threads_is_refused(
    scanned: Scan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from headprobe.runs.checkpoint import CheckpointPart
    from tests.helpers.durable import hurry

    hurry(monkeypatch)
    monkeypatch.chdir(tmp_path)
    show = CheckpointPart.save_if_due

    def interrupted(self: CheckpointPart, told: Any) -> None:
        show(self, told)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(CheckpointPart, "save_if_due", interrupted)
        scanned(out=Path("run"))
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        with pytest.raises(HeadprobeError, match=r"in the number of threads \(OMP_NUM_THREADS\)"):
            headprobe.resume("run", progress=Remembering())
    finally:
        torch.set_num_threads(threads)
    assert headprobe.resume("run", progress=Remembering()).manifest.work.resumed == 1


def test_a_configuration_cannot_request_a_kernel(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetched(*_: object, **__: object) -> None:
        raise AssertionError("a kernel was asked for")

    monkeypatch.setattr("transformers.modeling_utils.lazy_import_flash_attention", fetched)
    change(model / "config.json", attn_implementation="org/kernel")
    config = load_config(CheckpointSource(str(model)))
    loaded = load_model(
        CheckpointSource(str(model)), config, torch.device("cpu"), torch.float32, print
    )
    assert loaded.config._attn_implementation == "eager"


def test_the_hash_covers_the_loaded_weights(scanned: Scan, model: Path) -> None:
    before = scanned(model)
    other_weights(model, "other.safetensors")
    change(model / "config.json", transformers_weights="other.safetensors")
    after = scanned(model, overwrite=True)
    assert after.manifest.model.weights_sha256 != before.manifest.model.weights_sha256
    (model / "model.safetensors").unlink()
    alone = scanned(model, overwrite=True)
    assert alone.manifest.model.weights_sha256 == after.manifest.model.weights_sha256
    assert np.array_equal(alone.tallies["mass"], after.tallies["mass"])


@pytest.mark.parametrize("name", ["../outside.safetensors", "{}/outside.safetensors", "", 5])
@pytest.mark.parametrize("key", ["index", "config"])
def test_weights_outside_of_the_checkpoint_are_refused(
    key: str, name: object, scanned: Scan, model: Path, tmp_path: Path
) -> None:
    (model / "model.safetensors").rename(tmp_path / "outside.safetensors")
    name = name.format(tmp_path) if isinstance(name, str) else name
    if key == "index":
        index = {"metadata": {}, "weight_map": {"lm_head.weight": name}}
        (model / "model.safetensors.index.json").write_text(json.dumps(index))
    else:
        change(model / "config.json", transformers_weights=name)
    with pytest.raises(HeadprobeError, match="names weights outside of the checkpoint"):
        scanned(model)


def test_a_distributed_checkpoint_does_not_replace_the_weights(scanned: Scan, model: Path) -> None:
    other_weights(model, "shard-00001-model-00001-of-00001.safetensors")
    with pytest.raises(HeadprobeError, match="contains a distributed checkpoint"):
        scanned(model)


def test_links_to_weights_are_followed(scanned: Scan, model: Path, tmp_path: Path) -> None:
    """As in the Hub's cache."""
    before = scanned(model)
    (model / "model.safetensors").rename(tmp_path / "blob")
    (model / "model.safetensors").symlink_to("../blob")
    after = scanned(model, overwrite=True)
    assert after.manifest.model.weights_sha256 == before.manifest.model.weights_sha256


def test_show_text_requires_the_measured_model(
    scanned: Scan, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    measured = scanned(model)
    words = ["show-head", "L0H0", "-r", str(measured.path), "--text", "The dog saw it."]
    assert run(words) == 0
    assert capsys.readouterr().err == f"loading the model that was measured: {model}\n"
    good = (model / "model.safetensors").read_bytes()
    other_weights(model, "model.safetensors")
    assert run(words) == 2
    assert f"its weights are not those that {measured.path} measured" in capsys.readouterr().err
    (model / "model.safetensors").write_bytes(good)
    good_manifest = (measured.path / "manifest.json").read_text()
    for values, said in (
        ({"model__dtype": "nn"}, "model.dtype is nn"),
        ({"model__n_layers": 50}, "model.n_kv_heads has a value that no run has"),
        ({"model__n_heads": 9}, "model.n_kv_heads has a value that no run has"),
        ({"model__kind": "hub"}, "is a folder here, and the model"),
        ({"model__asked": "org/gone"}, "is not here"),
    ):
        (measured.path / "manifest.json").write_text(good_manifest)
        change(measured.path / "manifest.json", **values)
        with pytest.raises(HeadprobeError, match=said) as caught:
            show_text(Run.load(measured.path), 0, 0, "The dog saw it.")
        assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_sums_that_are_not_finite_are_not_judged(scanned: Scan, value: float) -> None:
    run = scanned()
    path = run.path / "tallies.npz"
    with np.load(path) as archive:
        arrays = dict(archive)
    arrays["mass"].flat[0] = value
    np.savez(path, **arrays)
    before = path.read_bytes()
    with pytest.raises(HeadprobeError, match=r"tallies\.npz: cannot be read \(mass holds NaN"):
        judge_run(run, None, None, False, print)
    assert path.read_bytes() == before


def test_sums_that_are_not_finite_are_not_written(
    scanned: Scan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from headprobe.commands.distributed import SingleProcess
    from headprobe.runs.sums import Tallies

    def overflow(self: SingleProcess, tallies: Tallies) -> Tallies:
        return Tallies({**tallies.arrays, "mass": tallies["mass"] * np.inf})

    monkeypatch.setattr(SingleProcess, "reduce_sums", overflow)
    with (
        np.errstate(invalid="ignore"),
        pytest.raises(HeadprobeError, match=r"values that are not finite \(mass\)"),
    ):
        scanned()
    assert not (tmp_path / "run").exists()
