"""What an earlier version wrote: finished runs are shown, partial work is refused in one line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from headprobe.cli.main import run as run_command
from headprobe.runs.checkpoint import ScanCheckpoint
from headprobe.runs.folder import Run

NEW_MODEL_KEYS = {"gguf", "quantization", "adapter", "adapter_sha256", "dtype_reason"}
NEW_EXAMPLE_KEYS = {"expected", "same_form"}


def edit_manifest(path: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    values = json.loads(path.read_text("utf-8"))
    edit(values)
    path.write_text(json.dumps(values), "utf-8")


def as_written_by_0_1_0(values: dict[str, Any]) -> None:
    values["versions"]["headprobe"] = "0.1.0"
    values["model"] = {k: v for k, v in values["model"].items() if k not in NEW_MODEL_KEYS}


def test_a_finished_run_of_0_1_0_is_shown(
    scanned: Callable[..., Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = scanned().path
    edit_manifest(path / "manifest.json", as_written_by_0_1_0)
    examples = path / "examples.jsonl"
    rows = [json.loads(line) for line in examples.read_text("utf-8").splitlines()]
    old = [{k: v for k, v in row.items() if k not in NEW_EXAMPLE_KEYS} for row in rows]
    examples.write_text("".join(f"{json.dumps(row)}\n" for row in old), "utf-8")

    assert run_command(["show", str(path)]) == 0
    assert "roles by layer" in capsys.readouterr().out
    assert run_command(["show-head", "L0H0", "-r", str(path)]) == 0
    assert "L0H0" in capsys.readouterr().out
    assert run_command(["judge", str(path), "-o", str(tmp_path / "judged"), "-q"]) == 0
    assert run_command(["export", str(path), "--csv", str(tmp_path / "csv"), "-q"]) == 0


def test_shards_of_0_1_0_are_refused(
    scanned: Callable[..., Run],
    checkpoint: Path,
    here: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["scan", str(checkpoint), "-p", "natural", "--max-passages", "4", "--device", "cpu"]
    for shard in ("1/2", "2/2"):
        assert run_command([*words, "-o", "run", "--shard", shard, "-q"]) == 0
    [draft] = [
        each for each in Path("run.shard-1-of-2").glob("*.json") if '"versions"' in each.read_text()
    ]
    edit_manifest(draft, lambda values: _find_versions(values).update(headprobe="0.1.0"))
    capsys.readouterr()
    assert run_command(["merge", "run"]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "was scanned by headprobe 0.1.0" in line


def _find_versions(values: dict[str, Any]) -> dict[str, str]:
    return values["versions"] if "versions" in values else values["draft"]["versions"]


def test_a_partial_scan_of_0_1_0_is_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved = {
        "request": {},
        "folder": str(here),
        "terms": {"the version of headprobe": "0.1.0"},
        "started": "2026-11-28T00:00:00+00:00",
        "seconds": {},
        "resumed": 0,
    }
    ScanCheckpoint(Path("run")).save("checkpoint", saved, {})
    assert run_command(["scan", "--resume", "run"]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("run: was started by headprobe 0.1.0")
