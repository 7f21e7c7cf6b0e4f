"""Adapters: they are loaded on their base model and recorded, and unsuitable ones are refused."""

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from peft import (
    IA3Config,
    LoraConfig,
    PeftConfig,
    PeftModel,
    PrefixTuningConfig,
    get_peft_model,
)
from transformers import AutoModelForCausalLM

import headprobe
from headprobe.commands.show_text import show_text
from headprobe.errors import HeadprobeError
from headprobe.model.adapters import resolve_adapter
from headprobe.model.load import CheckpointSource
from headprobe.runs.folder import Run
from tests.helpers.checkpoints import save_checkpoint, toy_tokenizer
from tests.helpers.probes import PROBES

ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "gate_proj", "down_proj"]
Scan = Callable[..., Run]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("base") / "model")


@pytest.fixture(scope="module")
def bare(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of the base without an adapter."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*predicts this text badly")
        out = tmp_path_factory.mktemp("bare") / "run"
        return headprobe.scan(base, probes=PROBES, out=out, device="cpu")


@pytest.fixture
def scanned(tmp_path: Path) -> Scan:
    def run(model: object, name: str = "run", **options: object) -> Run:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*predicts this text badly")
            return headprobe.scan(
                model, probes=PROBES, out=tmp_path / name, device="cpu", **options
            )

    return run


def adapt(base: Path, config: PeftConfig, seed: int = 1) -> PeftModel:
    """Return the base with an adapter of random weights that change it clearly."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft's and transformers' about each other
        model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name or "ia3" in name:
                parameter.copy_(torch.randn_like(parameter) * 0.15 + ("ia3" in name))
    return model


def apart(one: Run, other: Run) -> float:
    """Return the largest difference between the measurements of two runs."""
    profiles = [run.tally("profile") for run in (one, other)]
    largest = np.abs(profiles[0] - profiles[1]).max() / profiles[0].max()
    for column in ("mass", "share", "share_norm", "kept"):
        differences = (one.relations[column] - other.relations[column]).abs()
        largest = max(largest, float(differences.max()))
    return float(largest)


CONFIGS = {
    "lora": lambda: LoraConfig(r=4, target_modules=ALL),
    "lora-attention": lambda: LoraConfig(r=2, target_modules=["q_proj", "v_proj"]),
    "dora": lambda: LoraConfig(r=4, target_modules=ALL, use_dora=True),
    "ia3": lambda: IA3Config(target_modules=["k_proj", "down_proj"], feedforward_modules=[]),
}


@pytest.mark.parametrize("kind", ["lora", "dora", "ia3"])
def test_active_adapter_is_measured_like_a_merged_one(
    kind: str, base: Path, bare: Run, scanned: Scan, tmp_path: Path
) -> None:
    tuned = adapt(base, CONFIGS[kind]())
    tuned.save_pretrained(tmp_path / "adapter")
    active = scanned(base, "active", adapter=tmp_path / "adapter")
    merged = tuned.merge_and_unload()
    merged.save_pretrained(tmp_path / "merged")
    toy_tokenizer().save_pretrained(tmp_path / "merged")
    assert apart(active, scanned(tmp_path / "merged", "whole")) < 1e-5
    assert apart(active, bare) > 1e-2


def test_manifest_names_and_hashes_the_adapter(
    base: Path, bare: Run, scanned: Scan, tmp_path: Path
) -> None:
    adapter = tmp_path / "adapter"
    adapt(base, CONFIGS["lora"]()).save_pretrained(adapter)
    over, alone = scanned(base, adapter=adapter), scanned(adapter, "alone")
    note = over.manifest.model
    assert (note.asked, note.adapter) == (str(base), str(adapter))
    assert note.adapter_sha256 and len(note.adapter_sha256) == 64
    assert note == alone.manifest.model
    without = bare.manifest.model
    assert (without.adapter, without.adapter_sha256) == (None, None)
    assert without.weights_sha256 != note.weights_sha256
    adapt(base, CONFIGS["lora"](), seed=2).save_pretrained(adapter)
    other = scanned(base, "other", adapter=adapter).manifest.model
    assert other.weights_sha256 != note.weights_sha256
    assert other.adapter_sha256 != note.adapter_sha256
    assert Run.load(over.path).manifest == over.manifest


def test_show_text_applies_the_adapter_of_the_run(
    base: Path, bare: Run, scanned: Scan, tmp_path: Path
) -> None:
    adapter, text = tmp_path / "adapter", "The dog saw the cat and it ran."
    adapt(base, CONFIGS["lora"]()).save_pretrained(adapter)
    over = scanned(base, adapter=adapter)
    assert show_text(over, 1, 2, text).weights != show_text(bare, 1, 2, text).weights


def test_relative_base_path_is_resolved_from_the_working_directory(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = tmp_path / "adapter"
    adapt(base, CONFIGS["lora"]()).save_pretrained(adapter)
    settings = json.loads((adapter / "adapter_config.json").read_text("utf-8"))
    settings["base_model_name_or_path"] = base.name
    (adapter / "adapter_config.json").write_text(json.dumps(settings))
    monkeypatch.chdir(base.parent)
    source = resolve_adapter(CheckpointSource(str(adapter)))
    assert (source.name, source.adapter, source.folder) == (base.name, str(adapter), Path("model"))


def edited(folder: Path, **changes: object) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | changes))


@pytest.mark.parametrize("named", ["./nowhere", "/no/such/folder", None, "", 7])
def test_missing_base_gives_a_one_line_error_whose_remedy_works(
    named: object, base: Path, scanned: Scan, tmp_path: Path
) -> None:
    adapter = tmp_path / "adapter"
    adapt(base, CONFIGS["lora"]()).save_pretrained(adapter)
    edited(adapter, base_model_name_or_path=named)
    with pytest.raises(HeadprobeError) as raised:
        scanned(adapter)
    error = raised.value
    assert error.where == str(adapter)
    assert error.remedy == f'Name its base model as MODEL, with adapter="{adapter}"'
    if isinstance(named, str) and named:
        assert f"is an adapter of {named}, which cannot be loaded (no such folder" in error.what
    assert not (tmp_path / "run").exists()
    scanned(base, adapter=adapter)  # the remedy


def test_base_that_the_hub_cannot_provide_gives_an_error(
    base: Path, scanned: Scan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = tmp_path / "adapter"
    adapt(base, CONFIGS["lora"]()).save_pretrained(adapter)
    edited(adapter, base_model_name_or_path="some/base")
    down = Mock(side_effect=ConnectionError("no network"))
    monkeypatch.setattr("transformers.utils.hub.hf_hub_download", down)
    with pytest.raises(HeadprobeError, match=r"is an adapter of some/base, .* cannot be reached"):
        scanned(adapter)


def _spoil(name: str, data: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(data)


SPOILT: dict[str, tuple[Callable[[Path], object], str]] = {
    "no settings": (lambda folder: (folder / "adapter_config.json").unlink(), "has no adapter_con"),
    "settings cut short": (_spoil("adapter_config.json", b"{"), "is not valid JSON"),
    "settings of a list": (_spoil("adapter_config.json", b"[1]"), "contains no settings"),
    "an unknown kind": (lambda folder: edited(folder, peft_type="ZORK"), "cannot be loaded on"),
    "an odd rank": (lambda folder: edited(folder, r=0), "cannot be loaded on"),
    "another rank": (lambda folder: edited(folder, r=9), "do not have the shapes of"),
    "no weights": (lambda folder: (folder / "adapter_model.safetensors").unlink(), "be loaded on"),
    "damaged weights": (_spoil("adapter_model.safetensors", b"x"), "truncated or damaged"),
    "more places": (lambda folder: edited(folder, target_modules=ALL[:3]), "has no layers for"),
    "places of nothing": (lambda folder: edited(folder, target_modules=["zork"]), "be loaded on"),
}


@pytest.mark.parametrize("case", SPOILT)
def test_unsuitable_adapter_gives_a_one_line_error(
    case: str, base: Path, scanned: Scan, tmp_path: Path
) -> None:
    adapter = tmp_path / "adapter"
    adapt(base, CONFIGS["lora"]()).save_pretrained(adapter)
    spoil, reason = SPOILT[case]
    spoil(adapter)
    with pytest.raises(HeadprobeError, match=reason) as raised:
        scanned(base, adapter=adapter)
    assert raised.value.where == str(adapter)
    assert str(raised.value).isprintable()
    assert not (tmp_path / "run").exists()


def test_missing_adapter_weights_are_named(base: Path, scanned: Scan, tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    adapt(base, CONFIGS["lora-attention"]()).save_pretrained(adapter)
    edited(adapter, target_modules=ALL)
    with pytest.raises(HeadprobeError, match=r"its weights for .* are missing \(30, "):
        scanned(base, adapter=adapter)


def test_path_without_an_adapter_and_adapter_as_base_are_refused(
    base: Path, scanned: Scan, tmp_path: Path
) -> None:
    adapter = tmp_path / "adapter"
    adapt(base, CONFIGS["lora"]()).save_pretrained(adapter)
    with pytest.raises(HeadprobeError, match="is an adapter itself"):
        scanned(adapter, adapter=adapter)
    with pytest.raises(HeadprobeError, match="has no adapter_config"):
        scanned(base, adapter=base)
    with pytest.raises(HeadprobeError, match="no such adapter"):
        scanned(base, adapter=tmp_path / "nowhere")


def test_adapters_that_add_vectors_before_the_text_are_refused(
    base: Path, scanned: Scan, tmp_path: Path
) -> None:
    adapter = tmp_path / "adapter"
    prefix = PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    adapt(base, prefix).save_pretrained(adapter)
    with pytest.raises(HeadprobeError, match=r"before the text \(PREFIX_TUNING\)"):
        scanned(base, adapter=adapter)


def test_missing_peft_gives_a_one_line_error(
    base: Path, scanned: Scan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = tmp_path / "adapter"
    adapt(base, CONFIGS["lora"]()).save_pretrained(adapter)
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    with pytest.raises(HeadprobeError, match=r"pip install headprobe\[lora\]"):
        scanned(adapter)
    shutil.rmtree(adapter)
