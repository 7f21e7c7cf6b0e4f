"""On one accelerator or several, a model gives the same sums as on the host."""

from functools import cache, partial

import numpy as np
import pytest
import torch
from accelerate import dispatch_model, infer_auto_device_map
from transformers import PreTrainedModel

from headprobe.errors import HeadprobeError
from headprobe.measure.collector import StatisticsCollector
from headprobe.measure.loop import measure
from headprobe.measure.memory import LIBRARY_BYTES, BatchLimits, WorkingSet
from headprobe.model import devices as placing
from headprobe.model.devices import describe_placement, weight_bytes, weight_memory
from headprobe.model.heads import observe_model
from headprobe.runs.sums import Tallies
from tests.helpers.accelerators import accelerators, put
from tests.helpers.corpora import corpus_of
from tests.helpers.tiny import random_ids, tiny_model

LIMITS = BatchLimits(tokens=200, scores=1 << 13)
MODELS = ["llama-gqa", "gemma2", "gpt_oss"]
HOST = torch.device("cpu")


def model_of(name: str) -> PreTrainedModel:
    model = tiny_model(name).requires_grad_(False)
    model.set_experts_implementation("eager")  # others ask the host what it lacks operations for
    return model


def sums(model: PreTrainedModel, device: str) -> Tallies:
    observed = observe_model(model, "tiny", random_ids(12))
    assert observed.device == torch.device(device)
    go = partial(measure, observed, corpus_of(), seed=0, idle_line=0.3, limits=LIMITS)
    return go(advance=lambda _: None).tallies


@cache
def on_the_host(name: str) -> Tallies:
    """Return the sums on the host, computed by tensor operations as on an accelerator."""
    tensors = property(lambda _: False, lambda *_: None)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(StatisticsCollector, "_use_numba", tensors, raising=False)
        return sums(model_of(name), "cpu")


def same(one: Tallies, other: Tallies) -> None:
    for name, array in one.arrays.items():
        np.testing.assert_allclose(array, other[name], rtol=1e-6, atol=1e-6, err_msg=name)


def test_simulated_accelerators_refuse_tensors_of_other_devices(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with accelerators(monkeypatch):
        here, there = torch.ones(2, device="lazy:0"), torch.ones(2).to("lazy:1")
        assert there.device == torch.device("lazy", 1)
        assert (here + 1).cpu().tolist() == [2, 2]
        here[torch.tensor([0])] += there.to("lazy:0").sum()
        assert here.cpu().tolist() == [3, 1]
        for other in (there, torch.ones(2)):
            with pytest.raises(RuntimeError, match="tensors on"):
                here + other
        assert put(torch.nn.Linear(2, 1), "lazy:1")(there).device == there.device


@pytest.mark.parametrize("name", MODELS)
def test_sums_on_one_accelerator_equal_those_on_the_host(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    with accelerators(monkeypatch):
        same(on_the_host(name), sums(put(model_of(name), "lazy:0"), "lazy:0"))


def test_heads_are_observed_on_an_accelerator_other_than_the_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The model is loaded there if the first has too little memory."""
    with accelerators(monkeypatch):
        observed = observe_model(put(model_of("llama-gqa"), "lazy:1"), "tiny", random_ids(12))
        assert observed.devices == (torch.device("lazy", 1),)


@pytest.mark.parametrize("name", MODELS)
def test_sums_over_several_accelerators_equal_those_on_the_host(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """accelerate distributes the layers, and heads are observed on the first accelerator."""
    model = model_of(name)
    embedded, layer = (
        sum(weight.nbytes for weight in part.parameters())
        for part in (model.model.embed_tokens, model.model.layers[0])
    )
    room = {0: embedded + 2 * layer, 1: int(1.5 * layer), 2: 2 * (embedded + 3 * layer)}
    dealt = infer_auto_device_map(model, room, model._no_split_modules)
    layers = [dealt[f"model.layers.{number}"] for number in range(3)]
    assert len(set(layers)) > 1
    with accelerators(monkeypatch):
        dispatch_model(model, {part: f"lazy:{place}" for part, place in dealt.items()})
        found = sums(model, "lazy:0")
        observed = observe_model(model, "tiny", random_ids(12))
        assert observed.devices == tuple(torch.device("lazy", place) for place in range(3)), dealt
    same(on_the_host(name), found)


def test_weights_use_all_accelerators_unless_one_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config, free = tiny_model("llama-gqa").config, {"cuda:0": 100, "cuda:1": 200, "cpu": 1000}
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(placing, "free_memory", lambda d: free.get(str(d), 100))
    assert weight_memory(config, torch.device("cuda"), torch.float32) == {0: 80, 1: 160, "cpu": 800}
    own = torch.device("cuda", 1)
    assert weight_memory(config, own, torch.float32) == {1: 160, "cpu": 800}
    assert weight_memory(config, HOST, torch.float32) == {"cpu": 800}
    monkeypatch.setattr(placing, "free_memory", lambda d: free.get(str(d), 100) or _in_use())
    free["cuda:0"] = 0
    assert weight_memory(config, torch.device("cuda"), torch.float32) == {1: 160, "cpu": 800}
    free["cuda"] = 2 * weight_bytes(config, torch.float32)
    assert weight_memory(config, torch.device("cuda"), torch.float32) is None


def _in_use() -> int:
    raise RuntimeError("CUDA error: all CUDA-capable devices are busy or unavailable")


@pytest.mark.parametrize(
    ("places", "told"),
    [
        ([0, 0, 1], "m does not fit on one device: its layers are on cuda:0, cuda:1, in turn"),
        ([0, 1, "cpu"], "m does not fit on cuda: the rest of its weights is read from"),
        ([0, "disk"], "m does not fit on cuda: the rest of its weights is read from"),
        ([0, 0], ""),
        ([1], ""),
        (["cpu"], "m does not fit on cuda: it runs on the CPU"),
        ([], "m does not fit on cuda: it runs on the CPU"),
    ],
)
def test_placement_of_weights_is_described(places: list[int | str], told: str) -> None:
    model = tiny_model("llama-gqa")
    if places:
        model.hf_device_map = dict(enumerate(places))
    found = describe_placement(model, "m", torch.device("cuda"))
    assert found.startswith(told)
    assert bool(found) == bool(told)


def test_default_memory_follows_the_accelerator_with_the_least_free_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    observed, corpus = observe_model(model_of("llama-gqa"), "tiny", random_ids(9)), corpus_of()
    devices = (torch.device("cuda", 0), torch.device("cuda", 1))
    monkeypatch.setattr(type(observed), "devices", devices)
    free = {devices[0]: 1 << 32, devices[1]: 1 << 30}
    monkeypatch.setattr("headprobe.measure.memory.free_memory", free.get)
    assert WorkingSet(observed, corpus, -LIBRARY_BYTES).default_bytes == 1 << 29
    sums = (1 << 28) - LIBRARY_BYTES
    assert WorkingSet(observed, corpus, sums).default_bytes == 5 << 27  # it need not hold the sums
    free[devices[0]] = 3 << 27
    assert (
        WorkingSet(observed, corpus, sums).default_bytes
        == WorkingSet(observed, corpus, sums).minimum
    )
    free[devices[0]] = 1 << 27
    with pytest.raises(HeadprobeError, match="of free memory: the measurement needs at least"):
        _ = WorkingSet(observed, corpus, sums).default_bytes
