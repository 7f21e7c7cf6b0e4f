"""A model that exceeds the free memory is measured with the same results."""

from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import cpu_offload

from headprobe.errors import HeadprobeError
from headprobe.measure.loop import measure
from headprobe.measure.memory import BatchLimits
from headprobe.model import devices as placing
from headprobe.model.heads import observe_model
from headprobe.model.load import CheckpointSource, load_config, load_model
from headprobe.model.twin import build_twin
from tests.helpers.checkpoints import save_checkpoint
from tests.helpers.corpora import corpus_of
from tests.helpers.tiny import build, random_ids, tiny_model

CPU = torch.device("cpu")
LIMITS = BatchLimits(tokens=200, scores=1 << 13)


def sums(model):
    observed = observe_model(model, "tiny", random_ids(12))
    assert observed.device == CPU
    return measure(
        observed, corpus_of(), seed=0, idle_line=0.3, advance=lambda _: None, limits=LIMITS
    ).tallies


def same(one, other) -> None:
    for name, array in one.arrays.items():
        np.testing.assert_array_equal(array, other[name], err_msg=name)


def load(folder: Path, told: list[str], *, spread: bool = True):
    source = CheckpointSource(str(folder))
    config = load_config(source)
    return load_model(source, config, CPU, torch.float32, told.append, spread=spread)


@pytest.mark.parametrize("name", ["llama-gqa", "gemma2", "mixtral"])
def test_sums_are_equal_with_weights_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    folder, told = save_checkpoint(tmp_path / "model", name), []
    whole = load(folder, told)
    assert told == []
    weight = placing.weight_bytes(whole.config, torch.float32)
    monkeypatch.setattr(placing, "free_memory", lambda _: weight * 3 // 4)
    spread = load(folder, told)
    assert set(spread.hf_device_map.values()) == {"cpu", "disk"}
    assert len(told) == 1
    assert "does not fit on cpu" in told[0]
    same(sums(whole), sums(spread))
    assert not hasattr(load(folder, [], spread=False), "hf_device_map") or set(
        load(folder, [], spread=False).hf_device_map.values()
    ) == {CPU}


def test_model_smaller_than_estimated_is_not_offloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The estimate is too high for quantised weights, for example."""
    monkeypatch.setattr(placing, "weight_bytes", lambda *_: 1 << 60)
    told: list[str] = []
    model = load(save_checkpoint(tmp_path / "model"), told)
    assert not any(hasattr(module, "_hf_hook") for module in model.modules())
    assert told == []
    same(sums(tiny_model("llama-gqa")), sums(model))


def test_sums_are_equal_with_offloaded_weights() -> None:
    offloaded = tiny_model("llama-gqa")
    cpu_offload(offloaded, CPU)
    assert next(offloaded.parameters()).device.type == "meta"
    same(sums(tiny_model("llama-gqa")), sums(offloaded))


def test_offloaded_weights_are_checked_for_nan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build("llama", {})
    with torch.no_grad():
        model.model.layers[2].mlp.down_proj.weight[0, 0] = torch.nan
    folder = save_checkpoint(tmp_path / "model", model)
    monkeypatch.setattr(placing, "free_memory", lambda _: 150_000)
    with pytest.raises(HeadprobeError, match=r"layers\.2\.mlp\.down_proj\.weight contains values"):
        load(folder, [])


@pytest.mark.parametrize("name", ["llama-gqa", "gemma2", "gpt_oss"])
def test_weight_bytes_are_estimated_without_building_the_model(name: str) -> None:
    model = tiny_model(name)
    own = {id(t): t.nbytes for t in (*model.parameters(), *model.buffers())}
    assert placing.weight_bytes(model.config, torch.float32) == pytest.approx(
        sum(own.values()), rel=0.05
    )


def test_twin_with_offloaded_weights_equals_the_twin_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = CheckpointSource(str(save_checkpoint(tmp_path / "model")))
    config = load_config(source)
    whole = build_twin(source, config, CPU, torch.float32, 3)
    weight = placing.weight_bytes(config, torch.float32)
    monkeypatch.setattr(placing, "free_memory", lambda _: weight * 3 // 4)
    spread = build_twin(source, config, CPU, torch.float32, 3, spread=True)
    assert any(parameter.device.type == "meta" for parameter in spread.parameters())
    same(sums(whole), sums(spread))
