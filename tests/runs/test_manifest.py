"""The manifest loads unchanged, and damaged manifests give one-line errors."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from headprobe.errors import HeadprobeError
from headprobe.runs.manifest import SCHEMA_VERSION, Manifest
from tests.helpers.synthetic import HOSTILE, manifest


@pytest.mark.parametrize(
    "made",
    [
        manifest(),
        replace(manifest(name=HOSTILE), bits_per_character=None, peak_memory_mib=None),
        replace(manifest(), probes=(), sinks_flagged=("position 3", "\ud800")),
    ],
)
def test_saved_manifest_loads_unchanged(tmp_path: Path, made: Manifest) -> None:
    path = tmp_path / "manifest.json"
    made.save(path)
    assert Manifest.load(path) == made


def changed(path: Path, **changes: Any) -> Path:
    manifest().save(path)
    read = json.loads(path.read_text())
    path.write_text(json.dumps({**read, **changes}))
    return path


def test_unknown_keys_are_ignored(tmp_path: Path) -> None:
    path = changed(tmp_path / "manifest.json", later="more")
    read = json.loads(path.read_text())
    read["model"]["later"] = {"more": 1}
    path.write_text(json.dumps(read))
    assert Manifest.load(path) == manifest()


def test_integers_are_accepted_as_floats(tmp_path: Path) -> None:
    path = changed(tmp_path / "manifest.json", unusable_words=0)
    assert Manifest.load(path).unusable_words == 0.0


@pytest.mark.parametrize(
    "changes",
    [
        {"model": None},
        {"model": {}},
        {"seed": "zero"},
        {"probes": {}},
        {"seconds": [1]},
        {"seconds": {"read": "long"}},
        {"schema_version": SCHEMA_VERSION + 1},
    ],
)
def test_damaged_manifest_gives_a_one_line_error_with_the_path(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    path = changed(tmp_path / "manifest.json", **changes)
    with pytest.raises(HeadprobeError) as caught:
        Manifest.load(path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"3", b"null"])
def test_other_files_are_refused_as_manifests(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "manifest.json"
    path.write_bytes(content)
    with pytest.raises(HeadprobeError):
        Manifest.load(path)
    with pytest.raises(HeadprobeError):
        Manifest.load(tmp_path / "absent.json")
