"""Heads removed from the weights: stock transformers loads the result, which computes what hooks
compute."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from transformers import AutoConfig, PreTrainedModel

from headprobe.causal.ablation import Ablation, Head, Replacements
from headprobe.causal.losses import ScoredSequences, ablated_losses
from headprobe.causal.pruning import (
    RemovalLosses,
    heads_of_group,
    kept_groups,
    removal_layout,
    stock_losses,
)
from headprobe.errors import HeadprobeError
from headprobe.model.heads import ObservedModel, observe_model
from headprobe.model.surgery import (
    has_output_bias,
    remove_groups,
    silence_heads,
    smaller_model,
)
from tests.helpers.tiny import ARCHITECTURES, build, random_ids, tiny_model

SILENCED = ((0, 1), (1, 0), (1, 3), (2, 1))
"""Heads of all layers: neither whole key/value heads nor as many per layer."""

SHRINK = (
    *("llama", "llama-gqa", "mistral-window", "qwen2", "qwen3", "gemma2", "gemma3_text", "phi3"),
    *("smollm3", "granite", "cohere2", "mixtral", "gpt_oss", "deepseek_v3", "starcoder2"),
)
"""Architectures of which smaller ones exist: with fused projections (phi3), a norm per head
(qwen3, gemma3), learned sinks (gpt_oss), latent keys (deepseek_v3), biases (starcoder2)."""

DO_NOT_SHRINK = (
    *("olmo2", "olmo3", "olmoe"),  # a norm over all heads
    *("gpt2", "gpt_neox", "opt", "biogpt", "ctrl"),  # the size of a head follows from their number
    *("helium", "stablelm", "modernbert-decoder", "persimmon"),
)


def observe(model: PreTrainedModel) -> ObservedModel:
    return observe_model(model, "model", random_ids(24))


def text(*lengths: int) -> ScoredSequences:
    """All tokens but the first of random sequences of these lengths."""
    sequences = tuple(random_ids(length, length).numpy() for length in lengths)
    places = [(p, t, int(s[t + 1])) for p, s in enumerate(sequences) for t in range(len(s) - 1)]
    return ScoredSequences(sequences, *(np.array(each) for each in zip(*places, strict=True)))


def replacements(observed: ObservedModel) -> Replacements:
    shape = len(observed.layers), observed.n_heads, observed.head_dim
    mean = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    return Replacements(mean, torch.zeros(0, 1, *shape))


def hooked(
    observed: ObservedModel, heads: tuple[Head, ...], by: str, scored: ScoredSequences
) -> NDArray[np.float32]:
    ablation = Ablation(heads, by, replacements(observed))
    return ablated_losses(observed, scored, [ablation])[1][0]


def other_group_per_layer(observed: ObservedModel) -> tuple[Head, ...]:
    """The heads of one key/value head per layer, never the same as in the layer before."""
    return tuple(
        head
        for layer in range(len(observed.layers))
        for head in heads_of_group(observed, layer, (layer + 1) % observed.n_kv_heads)
    )


def shrink(observed: ObservedModel, heads: tuple[Head, ...]) -> PreTrainedModel:
    losses = RemovalLosses(observed, text(30, 17), replacements(observed), "zero")
    layout = removal_layout(losses, 1, "model")
    smaller = smaller_model(observed, 1, "model")
    return remove_groups(observed, smaller, kept_groups(observed, heads), layout)


@pytest.mark.parametrize("name", SHRINK)
def test_removed_groups_equal_ablation(name: str) -> None:
    observed, scored = observe(tiny_model(name)), text(60, 37)
    heads = other_group_per_layer(observed)
    expected = hooked(observed, heads, "zero", scored)
    pruned = shrink(observed, heads)
    np.testing.assert_allclose(stock_losses(pruned, scored), expected, rtol=2e-6, atol=1e-5)
    assert pruned.config.num_key_value_heads == observed.n_kv_heads - 1


@pytest.mark.parametrize("name", DO_NOT_SHRINK)
def test_what_cannot_shrink_is_refused_before_anything_is_chosen(name: str) -> None:
    observed = observe(tiny_model(name))
    with pytest.raises(HeadprobeError, match=r"--max-loss 0\.05\."):
        shrink(observed, other_group_per_layer(observed))


@pytest.mark.parametrize("name", ["llama-mqa-wide-heads", "gpt_bigcode"])
def test_the_only_key_value_head_stays(name: str) -> None:
    with pytest.raises(HeadprobeError, match="one key/value head per layer"):
        smaller_model(observe(tiny_model(name)), 1, "model")


@pytest.mark.parametrize("by", ["zero", "mean"])
@pytest.mark.parametrize("name", ["llama-gqa", "gemma3_text", "phi3", "olmo2", "gpt2", "gpt_oss"])
def test_silenced_heads_equal_ablation(name: str, by: str) -> None:
    observed, scored = observe(tiny_model(name)), text(60, 37)
    expected = hooked(observed, SILENCED, by, scored)
    mean = replacements(observed).mean if by == "mean" else None
    if by == "mean" and not has_output_bias(observed):
        assert name == "phi3"
        with pytest.raises(HeadprobeError, match="--by zero"):
            silence_heads(observed, SILENCED, mean)
        return
    silenced = silence_heads(observed, SILENCED, mean)
    np.testing.assert_allclose(stock_losses(silenced, scored), expected, rtol=2e-6, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "has"),
    [
        *((name, True) for name in ("llama", "qwen3", "gemma3_text", "olmo2", "smollm3")),
        *((name, True) for name in ("granite", "gpt2", "starcoder2")),
        *((name, False) for name in ("mistral-window", "qwen2", "phi3", "mixtral")),
    ],
)
def test_which_architectures_hold_a_mean(name: str, has: bool) -> None:
    assert has_output_bias(observe(tiny_model(name))) is has


ALONE = """
import json, sys
import numpy as np, torch
from transformers import AutoModelForCausalLM

for folder in sys.argv[2:]:
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float64, attn_implementation="eager"
    )
    losses = []
    for ids in json.load(open(sys.argv[1])):
        ids = torch.tensor(ids)
        with torch.inference_mode():
            logits = model(input_ids=ids[None]).logits[0, :-1]
        losses.append(torch.nn.functional.cross_entropy(logits, ids[1:], reduction="none"))
    np.save(f"{folder}/losses.npy", torch.cat(losses).numpy())
assert not any(name.split(".")[0] == "headprobe" for name in sys.modules)
"""

SAVED = {
    "llama-as-mistral": (
        "llama",
        {"hidden_size": 64, "num_attention_heads": 8, "num_key_value_heads": 4},
        "groups",
    ),
    "llama": ("llama", {"num_attention_heads": 6, "num_key_value_heads": 3}, "groups"),
    "llama-tied": ("llama", {"tie_word_embeddings": True, "attention_bias": True}, "groups"),
    "qwen3": ("qwen3", {"head_dim": 20}, "groups"),
    "gemma3": ARCHITECTURES["gemma3_text"] + ("groups",),
    "mistral": ARCHITECTURES["mistral-window"] + ("groups",),
    "llama-mean": ("llama", {"head_dim": 20}, "mean"),
    "qwen3-mean": ("qwen3", {"head_dim": 20}, "mean"),
    "gemma3-mean": ARCHITECTURES["gemma3_text"] + ("mean",),
    "mistral-zero": ARCHITECTURES["mistral-window"] + ("zero",),
}
"""Checkpoints to save: architecture, settings, and what is done to it."""


def test_saved_checkpoints_compute_the_same_without_headprobe(tmp_path: Path) -> None:
    """With weights in float64, on more than 1,000 tokens, in a process of stock transformers: each
    token's loss equals that of the hooked model to 1e-6, and files are smaller by what was
    removed."""
    scored = text(*[128] * 4, *[100] * 6)
    assert len(scored.row) > 1_000
    ids = tmp_path / "ids.json"
    ids.write_text(json.dumps([each.tolist() for each in scored.sequences]), "utf-8")
    expected = {}
    for name, (kind, options, way) in SAVED.items():
        observed = observe(build(kind, options).double())
        heads = SILENCED if way != "groups" else other_group_per_layer(observed)
        expected[name] = hooked(observed, heads, "zero" if way == "groups" else way, scored)
        observed.model.save_pretrained(tmp_path / f"{name}-before")
        before = load_file(tmp_path / f"{name}-before" / "model.safetensors")
        if way == "groups":
            pruned = shrink(observed, heads)
        else:
            mean = replacements(observed).mean if way == "mean" else None
            pruned = silence_heads(observed, heads, mean)
        pruned.save_pretrained(tmp_path / name)
        after = load_file(tmp_path / name / "model.safetensors")
        if way == "groups":
            # Queries, keys, values and outputs of each key/value head removed, with their biases
            width, layers = observed.head_dim, len(observed.layers)
            per_group = observed.n_heads // observed.n_kv_heads
            embedding = observed.model.config.hidden_size
            gone = layers * width * embedding * (2 * per_group + 2)
            if options.get("attention_bias"):
                gone += layers * width * (per_group + 2)
            assert size_of(before) - size_of(after) == 8 * gone
        elif way == "zero":
            assert size_of(before) == size_of(after)
    command = [sys.executable, "-I", "-c", ALONE, str(ids), *(str(tmp_path / n) for n in SAVED)]
    subprocess.run(command, check=True, capture_output=True)
    for name, losses in expected.items():
        found = np.load(tmp_path / name / "losses.npy")
        # Losses by hooks are float32
        np.testing.assert_allclose(found, losses, rtol=1e-6, atol=1e-6, err_msg=name)
        assert abs(found.mean() - losses.mean(dtype=np.float64)) < 1e-6, name
    kinds = {name: AutoConfig.from_pretrained(tmp_path / name).model_type for name in SAVED}
    assert kinds["llama-as-mistral"] == "mistral"
    assert kinds["llama"] == kinds["llama-tied"] == "llama"


def size_of(tensors: dict[str, torch.Tensor]) -> int:
    return sum(each.numel() * each.element_size() for each in tensors.values())
