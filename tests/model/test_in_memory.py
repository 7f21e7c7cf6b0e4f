"""A model in memory is measured like its checkpoint and is unchanged afterwards."""

import copy
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PrefixTuningConfig, get_peft_model
from torch import nn
from transformers import AutoModelForSequenceClassification, PreTrainedModel

import headprobe
from headprobe.commands.show_text import show_text
from headprobe.errors import HeadprobeError
from headprobe.model.in_memory import InMemoryModel, restored
from headprobe.runs import checkpoint as journal
from headprobe.runs.folder import Run
from tests.helpers.checkpoints import save_checkpoint, toy_tokenizer
from tests.helpers.probes import PROBES
from tests.helpers.tiny import build, random_ids, tiny_model

Scan = Callable[..., Run]


@pytest.fixture(autouse=True)
def _strange_text() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*predicts this text badly")
        yield


@pytest.fixture
def scanned(tmp_path: Path) -> Scan:
    def run(model: object, name: str = "run", **options: object) -> Run:
        options = {"tokenizer": toy_tokenizer(), **options}
        return headprobe.scan(model, probes=PROBES, out=tmp_path / name, **options)

    return run


def state(model: nn.Module) -> dict[str, Any]:
    """All that a caller could notice of a model, but for the identity of its tensors."""
    values: dict[str, Any] = {}
    for path, module in model.named_modules():
        for key, value in vars(module).items():
            shown = value.tolist() if torch.is_tensor(value) else copy.copy(value)
            if key in ("_parameters", "_modules"):
                shown = {name: id(each) for name, each in value.items()}
            elif key == "_buffers":
                shown = {name: None if b is None else b.tolist() for name, b in value.items()}
            elif not isinstance(value, dict | set | list | int | float | str | torch.Tensor):
                shown = id(value)
            values[f"{path}.{key}"] = shown
        config = getattr(module, "config", None)
        if config is not None:
            values[f"{path} attention"] = config._attn_implementation
            values[f"{path} config"] = config.to_dict()
    for name, parameter in model.named_parameters():
        values[f"{name} parameter"] = (parameter.requires_grad, str(parameter.device))
        values[f"{name} sum"] = float(parameter.detach().double().sum())
    return values


def busy_model(name: str = "llama-gqa") -> PreTrainedModel:
    """Return a model in training mode, partly frozen, with a hook of its own, on SDPA."""
    model = tiny_model(name).train()
    model.set_attn_implementation("sdpa")
    model.model.layers[1].eval()
    model.model.layers[0].mlp.requires_grad_(False)
    model.model.layers[0].register_forward_hook(lambda *_: None)
    return model


@pytest.mark.parametrize("name", ["llama-gqa", "gpt_oss"])
def test_model_in_memory_is_measured_like_its_checkpoint(
    name: str, scanned: Scan, tmp_path: Path
) -> None:
    model = tiny_model(name)
    lent = scanned(model, twin=True, shuffle=True)
    folder = save_checkpoint(tmp_path / "model", model)
    saved = scanned(folder, "saved", tokenizer=None, device="cpu", twin=True, shuffle=True)
    assert lent.heads.equals(saved.heads)
    assert lent.relations.equals(saved.relations)
    assert lent.controls.equals(saved.controls)
    assert lent.manifest.model.kind == "memory"
    assert lent.manifest.model.architecture == saved.manifest.model.architecture


def test_model_and_tokenizer_are_unchanged_after_a_scan(scanned: Scan) -> None:
    model = busy_model()
    tokenizer = toy_tokenizer()
    tokenizer.backend_tokenizer.enable_truncation(7)
    before, words = state(model), tokenizer.backend_tokenizer.to_str()
    scanned(model, tokenizer=tokenizer, shuffle=True)
    assert state(model) == before
    assert model.config._attn_implementation == "sdpa"
    assert tokenizer.backend_tokenizer.to_str() == words
    assert model(random_ids(5)[None], labels=random_ids(5)[None]).loss.requires_grad


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, MemoryError])
@pytest.mark.parametrize("where", ["observe_model", "describe_model"])
def test_model_is_unchanged_after_an_error(
    where: str, error: type[BaseException], scanned: Scan, monkeypatch: pytest.MonkeyPatch
) -> None:
    from headprobe.commands import scan as workflow

    own = getattr(workflow, where)

    def fail(*of: object) -> None:
        own(*of)
        raise error

    monkeypatch.setattr(workflow, where, fail)
    model = busy_model()
    before = state(model)
    with pytest.raises(error):
        scanned(model)
    assert state(model) == before


@pytest.mark.parametrize("rope", ["dynamic", "longrope"])
def test_dynamic_rotary_frequencies_are_restored(rope: str, scanned: Scan) -> None:
    """They change with the longest sequence, in place or by replacement."""
    factors = {"short_factor": [1.0] * 6, "long_factor": [2.0] * 6}
    parameters: dict[str, Any] = {"rope_type": rope, "rope_theta": 1e4, "factor": 2.0}
    if rope == "longrope":
        parameters |= {**factors, "original_max_position_embeddings": 16}
    model = build("llama", {"rope_parameters": parameters, "max_position_embeddings": 64})
    before = state(model)
    with restored(model), torch.inference_mode():
        model(random_ids(90)[None])
        assert state(model) != before
    assert state(model) == before
    model(random_ids(90)[None], labels=random_ids(90)[None]).loss.backward()


def test_hash_depends_on_the_weights_only(scanned: Scan) -> None:
    model, tokenizer = tiny_model("llama-gqa"), toy_tokenizer()
    first = InMemoryModel.of(model, tokenizer).sha256()
    assert len(first) == 64
    assert first == InMemoryModel.of(tiny_model("llama-gqa").train(), tokenizer).sha256()
    assert first != InMemoryModel.of(tiny_model("llama-gqa").bfloat16(), tokenizer).sha256()
    assert scanned(model).manifest.model.weights_sha256 == first
    with torch.no_grad():
        model.model.layers[2].mlp.up_proj.weight[0, 0] += 1e-3
    assert InMemoryModel.of(model, tokenizer).sha256() != first


def test_active_adapter_in_memory_is_measured_and_recorded(scanned: Scan) -> None:
    torch.manual_seed(0)
    base = tiny_model("llama-gqa")
    plain = scanned(base, "plain")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tuned = get_peft_model(
            base, LoraConfig(r=4, target_modules=["q_proj", "o_proj"], init_lora_weights=False)
        )
    before = state(tuned)
    run = scanned(tuned, "tuned")
    assert state(tuned) == before
    assert run.manifest.model.adapter == "default"
    assert not run.heads.equals(plain.heads)
    with tuned.disable_adapter():
        off = scanned(tuned, "off")
    assert (off.heads["entropy"] - plain.heads["entropy"]).abs().max() < 1e-6
    assert off.manifest.model.weights_sha256 != run.manifest.model.weights_sha256


def test_show_text_needs_the_measured_model(scanned: Scan) -> None:
    model = tiny_model("llama-gqa")
    run = scanned(model)
    notes: list[str] = []
    with pytest.raises(HeadprobeError, match=r"measured a model in memory.* save_pretrained"):
        show_text(run, 1, 2, "The dog saw it.", note=notes.append)
    assert not notes
    lent = InMemoryModel.of(model, toy_tokenizer())
    before = state(model)
    view = show_text(run, 1, 2, "The dog saw it.", in_memory=lent)
    assert view.words == ("The", "dog", "saw", "it", ".")
    assert state(model) == before
    other = InMemoryModel.of(tiny_model("llama-gqa", seed=3), toy_tokenizer())
    with pytest.raises(HeadprobeError, match="its weights are not those"):
        show_text(run, 1, 2, "The dog saw it.", in_memory=other)


def test_resume_needs_the_measured_model(
    scanned: Scan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tokenizer = tiny_model("llama-gqa"), toy_tokenizer()
    whole = scanned(model, "whole", budget=24)
    monkeypatch.setattr(journal, "WRITE_INTERVAL", 0.0)
    monkeypatch.setattr(journal, "WRITE_COST_FACTOR", 0)

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("headprobe.commands.scan._RunningScan.write", stop)
        with pytest.raises(KeyboardInterrupt):
            scanned(model, budget=24)
    run = tmp_path / "run"
    with pytest.raises(HeadprobeError, match=r"headprobe\.resume\(RUN, model=\.\.\., tokenizer"):
        headprobe.resume(run)
    with pytest.raises(
        HeadprobeError, match="differs from the scan that was started in the weights"
    ):
        headprobe.resume(run, model=tiny_model("llama-gqa", seed=3), tokenizer=tokenizer)
    resumed = headprobe.resume(run, model=model, tokenizer=tokenizer)
    assert resumed.heads.equals(whole.heads)


def refused(reason: str, *of: object, **options: object) -> None:
    with pytest.raises(HeadprobeError, match=reason) as raised:
        headprobe.scan(*of, **options)
    assert str(raised.value).isprintable()


def test_unsuitable_models_and_options_are_refused(tmp_path: Path) -> None:
    model, tokenizer = tiny_model("llama-gqa"), toy_tokenizer()
    prefix = PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    refused("is a Linear, not a transformers model", nn.Linear(2, 2), tokenizer=tokenizer)
    refused("tokenizer: is missing", model)
    refused("belongs to a model in memory", str(tmp_path), tokenizer=tokenizer)
    refused("LlamaModel has no output embeddings", model.model, tokenizer=tokenizer)
    refused("adapter: belongs to a checkpoint", model, tokenizer=tokenizer, adapter=tmp_path)
    refused("revision: belongs to a checkpoint", model, tokenizer=tokenizer, revision="main")
    refused("the model is in float32", model, tokenizer=tokenizer, dtype="bfloat16")
    refused("the model is on cpu", model, tokenizer=tokenizer, device="cuda")
    classifier = AutoModelForSequenceClassification.from_config(model.config)
    refused("has no output embeddings", classifier, tokenizer=tokenizer)
    with torch.device("meta"):
        empty = type(model)(model.config)
    refused("is on the meta device", empty, tokenizer=tokenizer)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        prompted = get_peft_model(model, prefix)
    refused("adds trained vectors before the text", prompted, tokenizer=tokenizer)
