"""GGUF files: the loaded model equals the one written, from the file and from the cached copy."""

import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch

import headprobe
from headprobe.commands.controls import config_text
from headprobe.commands.scan import plan
from headprobe.commands.show_text import show_text
from headprobe.config import ScanConfig
from headprobe.errors import HeadprobeError
from headprobe.model import gguf as gguf_module
from headprobe.model.load import (
    CheckpointSource,
    hash_weights,
    load_config,
    load_encoder,
    load_model,
)
from tests.helpers.checkpoints import save_checkpoint, toy_tokenizer
from tests.helpers.gguf import KINDS, make_model, write_gguf
from tests.helpers.probes import PROBES
from tests.helpers.progress import Remembering
from tests.helpers.tiny import random_ids

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("HEADPROBE_CACHE", str(folder))
    return folder


def load(path: Path, told: list[str] | None = None, dtype=torch.float32, **options: bool):
    source = CheckpointSource(str(path), **options)
    warn = (lambda _: None) if told is None else told.append
    return load_model(source, load_config(source), CPU, dtype, warn)


def scan(model: Path, out: Path, **options: object):
    progress = Remembering()
    return headprobe.scan(
        model, PROBES, out=out, device="cpu", dtype="float32", progress=progress, **options
    )


def same_sums(one, other, tolerance: float = 1e-6) -> None:
    first, second = (np.load(run.path / "tallies.npz") for run in (one, other))
    assert set(first.files) == set(second.files)
    for name in first.files:
        if first[name].dtype.kind == "f":
            np.testing.assert_allclose(
                second[name], first[name], rtol=tolerance, atol=tolerance, err_msg=name
            )
        else:
            np.testing.assert_array_equal(first[name], second[name], err_msg=name)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("cached", [True, False])
def test_loaded_model_equals_the_written_model(tmp_path: Path, name: str, cached: bool) -> None:
    """A wrong order of the rows of q would change the logits."""
    ids = random_ids(24)[None]
    with torch.no_grad():
        expected = make_model(name)(ids).logits
        loaded = load(write_gguf(tmp_path / "m.gguf", name), gguf_cache=cached)(ids).logits
    torch.testing.assert_close(loaded, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", KINDS)
def test_gguf_file_and_checkpoint_folder_give_the_same_sums(
    tmp_path: Path, cache: Path, name: str
) -> None:
    path = write_gguf(tmp_path / "m.gguf", name)
    file = scan(path, tmp_path / "file")
    [copy] = cache.glob("gguf/*/float32")
    same_sums(file, scan(copy, tmp_path / "copy"))
    if name == "llama-gqa":
        folder = save_checkpoint(tmp_path / "folder", make_model(name))
        same_sums(file, scan(folder, tmp_path / "saved"), 1e-5)


def test_gguf_run_is_recorded_shown_and_used_for_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    path = write_gguf(folder / "m.gguf", file_type=gguf.LlamaFileType.MOSTLY_Q4_1)
    run = scan(folder, tmp_path / "run")
    note = run.manifest.model
    assert (note.kind, note.dtype) == ("gguf", "float32")
    assert note.quantization == "Q4_1, dequantised to float32"
    assert (
        note.weights_sha256
        == gguf_module._digest(path)
        == hash_weights(CheckpointSource(str(path)), None)
    )
    from rich.console import Console

    from headprobe.report.summary import draw_summary

    draw_summary(run, Console(width=120))
    assert "Q4_1, dequantised to float32 on cpu" in capsys.readouterr().out
    assert show_text(run, 0, 0, "The dog saw a cat.").words[:2] == ("The", "dog")


def test_gguf_option_selects_a_file_of_a_folder(tmp_path: Path) -> None:
    write_gguf(tmp_path / "a.gguf")
    write_gguf(tmp_path / "b.gguf", "qwen2")
    with pytest.raises(HeadprobeError, match=r"contains 2 GGUF files .* --gguf a\.gguf"):
        load_config(CheckpointSource(str(tmp_path)))
    assert load_config(CheckpointSource(str(tmp_path), gguf="b.gguf")).model_type == "qwen2"
    run = scan(tmp_path, tmp_path / "run", gguf="b.gguf")
    assert run.manifest.model.gguf == "b.gguf"
    assert show_text(run, 0, 0, "The dog saw a cat.").words[:2] == ("The", "dog")
    with pytest.raises(HeadprobeError, match=r"no such GGUF file. It contains a\.gguf, b\.gguf"):
        load_config(CheckpointSource(str(tmp_path), gguf="c.gguf"))


def test_shards_of_a_gguf_run_can_be_merged(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf")
    whole = scan(path, tmp_path / "whole")
    from headprobe.commands.distributed import SingleProcess
    from headprobe.commands.resume import ScanAttempt
    from headprobe.commands.scan import run_scan
    from headprobe.config import Partition

    for number, cached in enumerate((True, False), 1):  # the copy and the file are one model
        config = ScanConfig(
            str(path),
            (str(PROBES),),
            out=tmp_path / "run",
            device="cpu",
            dtype="float32",
            shard=Partition.parse(f"{number}/2"),
            gguf_cache=cached,
        )
        run_scan(ScanAttempt(config), Remembering(), SingleProcess())
    same_sums(whole, headprobe.merge(tmp_path / "run", progress=Remembering()), 1e-5)


def test_dry_run_reads_no_weights(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gguf_module, "AutoModelForCausalLM", None)
    path = write_gguf(tmp_path / "m.gguf")
    planned = plan(ScanConfig(str(path), (str(PROBES),), out=tmp_path / "run"), Remembering())
    assert (planned.n_layers, planned.n_kv_heads) == (3, (2, 2, 2))
    assert [folder.name for folder in cache.glob("gguf/*/*") if folder.is_dir()] == ["text"]


@pytest.mark.parametrize("name", ["llama-gqa", "gemma3_text"])
def test_configuration_and_tokens_are_equal_with_and_without_a_cache(
    tmp_path: Path, name: str
) -> None:
    path = write_gguf(tmp_path / "m.gguf", name)
    copy, file = CheckpointSource(str(path)), CheckpointSource(str(path), gguf_cache=False)
    assert config_text(load_config(copy)) == config_text(load_config(file))
    text = ["The old dog saw a cat, and it ran."]
    ids = [load_encoder(source).encode(text)[0].ids.tolist() for source in (copy, file)]
    assert ids[0] == ids[1]
    if name == "llama-gqa":
        assert ids[0] == toy_tokenizer()(text[0], add_special_tokens=False)["input_ids"]


def test_gguf_file_is_converted_once(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_gguf(tmp_path / "m.gguf")
    first = load(path)
    monkeypatch.setattr(gguf_module.GgufFile, "_make", None)
    moved = path.rename(tmp_path / "renamed.gguf")
    second = load(moved)
    for name, weight in first.state_dict().items():
        assert torch.equal(weight, second.state_dict()[name])
    assert load_encoder(CheckpointSource(str(moved))).start == (1,)


def spoil_weights(copy: Path) -> None:
    weights = copy / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-7] ^= 1
    weights.unlink()  # a model that was loaded from it still maps it
    weights.write_bytes(content)


def make_stale(copy: Path) -> None:
    listed = json.loads((copy / "copy.json").read_text("utf-8"))
    listed["versions"]["transformers"] = "4.0"
    (copy / "copy.json").write_text(json.dumps(listed))


@pytest.mark.parametrize(
    "spoil",
    [
        spoil_weights,
        make_stale,
        lambda copy: (copy / "model.safetensors").unlink(),
        lambda copy: (copy / "copy.json").write_text("{"),
        lambda copy: (copy / "copy.json").write_text("[]"),
    ],
)
def test_damaged_or_outdated_copy_is_converted_again(
    tmp_path: Path, cache: Path, spoil: Callable[[Path], object]
) -> None:
    path = write_gguf(tmp_path / "m.gguf")
    first = load(path)
    [copy] = cache.glob("gguf/*/float32")
    spoil(copy)
    told: list[str] = []
    again = load(path, told)
    assert told == []
    for name, weight in first.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name])
    assert gguf_module._is_valid(copy)
    assert not list(copy.parent.glob(".*"))


def test_unusable_cache_gives_a_warning(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_gguf(tmp_path / "m.gguf")
    expected = load(path).state_dict()
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HEADPROBE_CACHE", str(tmp_path / "file"))
    told: list[str] = []
    model = load(path, told)
    assert len(told) == 1
    assert "cannot be written" in told[0]
    assert all(torch.equal(expected[name], w) for name, w in model.state_dict().items())
    assert not hasattr(model.config, "quantization_config")


def test_full_disk_gives_a_warning(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    told: list[str] = []
    load(write_gguf(tmp_path / "m.gguf"), told)
    assert len(told) == 1
    assert "are free" in told[0]
    assert not list(cache.glob("gguf/*/.*"))


def test_concurrent_loads_convert_once(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_gguf(tmp_path / "m.gguf")
    made: list[Path] = []
    make = gguf_module.GgufFile._make
    monkeypatch.setattr(
        gguf_module.GgufFile,
        "_make",
        lambda self, copy, save: (made.append(copy), make(self, copy, save)),
    )
    places: list[str] = []
    threads = [
        threading.Thread(
            target=lambda: places.append(gguf_module.GgufFile(path, "m").text_place()[0])
        )
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert len(places) == 4
    assert len(set(places)) == 1


def test_quantization_type_defaults_to_that_of_most_values(tmp_path: Path) -> None:
    file = gguf_module.GgufFile(write_gguf(tmp_path / "m.gguf", file_type=None), "m")
    assert file.quantization == "F32"
    assert (file.describe("float32"), file.describe("bfloat16")) == (
        "F32",
        "F32, converted to bfloat16",
    )


def test_scaled_rotary_positions_are_read(tmp_path: Path) -> None:
    told: list[str] = []
    scaled = write_gguf(
        tmp_path / "m.gguf", spoil=lambda w: w.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
    )
    load(scaled, told)
    assert len(told) == 1
    assert "scaled rotary positions" in told[0]


def cut(size: int) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(path.read_bytes()[:size])


FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (cut(0), "the file is empty"),
    "no magic": (lambda p: p.write_bytes(b"GGML" + p.read_bytes()[4:]), "is not a GGUF file"),
    "stub": (cut(20), "damaged"),
    "half a header": (cut(3000), "damaged"),
    "truncated": (lambda p: p.write_bytes(p.read_bytes()[:-5000]), "truncated"),
    "garbage": (lambda p: p.write_bytes(p.read_bytes()[:24] + b"\xff" * 4000), "damaged"),
    "version": (lambda p: p.write_bytes(b"GGUF\x00\x00\x00\x03" + p.read_bytes()[8:]), "version"),
    "unknown architecture": (
        lambda p: write_gguf(p, architecture="zorkmid"),
        "cannot load GGUF files of architecture 'zorkmid'",
    ),
    "projector": (lambda p: write_gguf(p, architecture="clip"), "projector"),
    "adapter": (lambda p: write_gguf(p, spoil=lambda w: w.add_type("adapter")), "but adapter"),
    "vocabulary": (lambda p: write_gguf(p, tensors=False), "no weights"),
    "split": (
        lambda p: write_gguf(p, spoil=lambda w: w.add_uint16("split.count", 3)),
        "one of 3 parts",
    ),
}


@pytest.mark.parametrize("case", FILES)
@pytest.mark.parametrize("cached", [True, False])
def test_unloadable_gguf_file_gives_a_one_line_error(
    tmp_path: Path, cache: Path, case: str, cached: bool
) -> None:
    path = write_gguf(tmp_path / "m.gguf")
    spoil, reason = FILES[case]
    spoil(path)
    with pytest.raises(HeadprobeError, match=reason) as error:
        load(path, gguf_cache=cached)
    assert "\n" not in str(error.value)
    assert not list(cache.rglob("*"))


def test_part_of_a_split_file_is_refused_with_the_merge_command(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m-00002-of-00003.gguf")
    with pytest.raises(HeadprobeError, match=r"--merge m-00001-of-00003\.gguf"):
        load_config(CheckpointSource(str(path)))


def test_missing_weights_are_refused(tmp_path: Path, cache: Path) -> None:
    def more_layers(writer: gguf.GGUFWriter) -> None:
        writer.kv_data[0]["llama.block_count"].value = 5

    path = write_gguf(tmp_path / "m.gguf", spoil=more_layers)
    for cached in (True, False):
        with pytest.raises(HeadprobeError, match="weights of LlamaForCausalLM are missing"):
            load(path, gguf_cache=cached)
    assert not list(cache.glob("gguf/*/float32"))


def test_missing_gguf_file_is_not_looked_up_on_the_hub() -> None:
    with pytest.raises(HeadprobeError, match="no such GGUF file"):
        load_config(CheckpointSource("nosuch.gguf"))


def test_remedies_for_gguf_paths_work_when_followed(tmp_path: Path) -> None:
    other = tmp_path / "model.bin"
    other.write_bytes(b"x")
    with pytest.raises(HeadprobeError, match="Name a GGUF file, or a folder with config"):
        load_config(CheckpointSource(str(other)))
    folder = save_checkpoint(tmp_path / "model")
    with pytest.raises(HeadprobeError, match=f"Name its folder: {folder}"):
        load_config(CheckpointSource(str(folder / "model.safetensors")))
    (folder / "model.safetensors").unlink()
    write_gguf(folder / "m.gguf")
    with pytest.raises(HeadprobeError, match=r"Choose one: --gguf m\.gguf"):
        load_config(CheckpointSource(str(folder)))
    assert load_config(CheckpointSource(str(folder), gguf="m.gguf")).model_type == "llama"
