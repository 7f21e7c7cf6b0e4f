"""Hostile adapters and Hub ids, one cause each."""

import shutil
import warnings
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from tests.helpers.broken import (
    Breaker,
    both,
    content,
    edit,
    fifo,
    in_place_of,
    remove,
    sparse,
    torch_file,
)
from tests.hostile.driver import Attack, Case, Workplace, assert_promise

FILE = "adapter_model.safetensors"
SETTINGS = "adapter_config.json"


@pytest.fixture(scope="module")
def adapter(masters: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA adapter of the checkpoint."""
    folder = tmp_path_factory.mktemp("adapters") / "adapter"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft's and transformers' about each other
        base = AutoModelForCausalLM.from_pretrained(masters / "model")
        tuned = get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj", "v_proj"]))
    tuned.save_pretrained(folder)
    return folder


def settings(**changes: object) -> Breaker:
    return edit(SETTINGS, lambda values: values | changes)


def weights(fill: float) -> Breaker:
    def write(folder: Path) -> None:
        stored = load_file(folder / FILE)
        save_file(
            {name: torch.full_like(each, fill) for name, each in stored.items()}, folder / FILE
        )

    return write


EVERY: dict[str, Breaker] = {
    "no settings": remove(SETTINGS),
    "settings cut short": content(SETTINGS, b"{"),
    "settings of a list": content(SETTINGS, b"[1]"),
    "settings that are empty": content(SETTINGS, b"{}"),
    "settings nested too deep": content(SETTINGS, b"[" * 100_000),
    "settings that are not UTF-8": content(SETTINGS, b'{"a": "\xff"}'),
    "settings that are a pipe": in_place_of(SETTINGS, fifo),
    "settings without an end": in_place_of(SETTINGS, lambda path: path.symlink_to("/dev/zero")),
    "settings that are too large": in_place_of(SETTINGS, sparse((1 << 27) + 1)),
    "an unknown kind": settings(peft_type="ZORK"),
    "a kind of a list": settings(peft_type=[1]),
    "a kind with control characters": settings(peft_type="z\x1b[31m\n\u202e"),
    "a kind that adds vectors": settings(peft_type="PREFIX_TUNING", num_virtual_tokens=3),
    "rank zero": settings(r=0),
    "rank below zero": settings(r=-1),
    "rank as text": settings(r="x"),
    "another rank": settings(r=9),
    "a rank too large for memory": settings(r=10**10),
    "no scale": settings(lora_alpha="x"),
    "places that do not exist": settings(target_modules=["zork"]),
    "places of a bad pattern": settings(target_modules="(("),
    "places of numbers": settings(target_modules=[7]),
    "fewer places": settings(target_modules=["q_proj"]),
    "more places": settings(target_modules=["q_proj", "v_proj", "o_proj"]),
    "layers that do not exist": settings(layers_to_transform=[99]),
    "places of a pattern without an end": settings(target_modules="(([a-z_.0-9]+)+)+!"),
    "left-out places of a pattern without an end": settings(exclude_modules="((a|.)*)*!"),
    "places of twenty repetitions": settings(target_modules=".*" * 20 + "!"),
    "ranks by a pattern without an end": settings(rank_pattern={"(.+)+!": 2}),
    "scales by a pattern without an end": settings(alpha_pattern={"(.+)+!": 2}),
    "layers of a pattern without an end": settings(
        layers_to_transform=[0], layers_pattern="(([a-z_.0-9]+)+)+!"
    ),
    "ranks too large for memory": settings(rank_pattern={"q_proj": 10**10}),
    "copies of layers without an end": settings(layer_replication=[[0, 3]] * 20_000),
    "a copy of a billion layers": settings(layer_replication=[[0, 10**9]]),
    "no weights": remove(FILE),
    "weights of text": content(FILE, b"not weights at all"),
    "weights that are empty": content(FILE, b""),
    "weights of NaN": weights(float("nan")),
    "weights of infinity": weights(float("inf")),
    "weights that are a pipe": in_place_of(FILE, fifo),
    "weights without an end": in_place_of(FILE, lambda path: path.symlink_to("/dev/zero")),
    "pickled weights of a strange class": both(
        remove(FILE), content("adapter_model.bin", torch_file({"a": Path("/")}))
    ),
    "pickled weights that are empty": both(remove(FILE), content("adapter_model.bin", b"")),
}

ALONE: dict[str, Breaker] = {
    "no base": settings(base_model_name_or_path=None),
    "a base that is empty": settings(base_model_name_or_path=""),
    "a base of a number": settings(base_model_name_or_path=7),
    "a base that is not there": settings(base_model_name_or_path="./nowhere"),
    "a base that is itself": settings(base_model_name_or_path="adapter"),
    "a base with a NUL": settings(base_model_name_or_path="a\0b"),
    "a base of 5,000 letters": settings(base_model_name_or_path="z" * 5000),
    "a base with control characters": settings(base_model_name_or_path="./z\x1b[31m\n\u202e"),
    "a base that is a file": settings(base_model_name_or_path="probes.conllu"),
    "a base of another user": settings(base_model_name_or_path="~nobody-here/model"),
}


def over_base(breaker: Breaker, adapter: Path) -> Attack:
    """A scan of the checkpoint with the adapter."""

    def attack(workplace: Workplace) -> list[str]:
        shutil.copytree(adapter, workplace.here / "adapter")
        breaker(workplace.here / "adapter")
        return workplace.scan("--adapter", "adapter")

    return attack


def alone(breaker: Breaker, adapter: Path) -> Attack:
    """A scan of the adapter, which names its base."""

    def attack(workplace: Workplace) -> list[str]:
        shutil.copytree(adapter, workplace.here / "adapter")
        breaker(workplace.here / "adapter")
        return workplace.scan(model="adapter")

    return attack


@pytest.mark.parametrize("name", EVERY)
def test_hostile_adapters(name: str, workplace: Workplace, adapter: Path) -> None:
    assert_promise(Case(name, over_base(EVERY[name], adapter), "adapter"), workplace)


@pytest.mark.parametrize("name", ALONE)
def test_hostile_bases(name: str, workplace: Workplace, adapter: Path) -> None:
    assert_promise(Case(name, alone(ALONE[name], adapter), "^adapter"), workplace)
