"""Captured attention equals transformers' eager attention for every architecture."""

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import AttentionMaskInterface

from headprobe.batching.layout import Block
from headprobe.errors import HeadprobeError
from headprobe.model.attention import register
from headprobe.model.heads import observe_model
from tests.helpers.recorder import observed
from tests.helpers.tiny import ARCHITECTURES, build, random_ids, tiny_model


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_weights_and_hidden_states_equal_eager_attention(name: str) -> None:
    model = tiny_model(name)
    ids = torch.stack([random_ids(19, seed=0), random_ids(19, seed=5)])
    eager = copy.deepcopy(model)
    eager.set_attn_implementation("eager")
    with torch.inference_mode():
        expected = eager.base_model(input_ids=ids, use_cache=False, output_attentions=True)

    grid = observe_model(model, name, random_ids(12, seed=1))
    recorder, hidden = observed(grid, list(ids), [Block(np.array([0, 1]), 0, 19)])

    assert sorted(recorder.weights) == [0, 1, 2]
    for layer, weights in enumerate(expected.attentions):
        torch.testing.assert_close(recorder.weights[layer][0], weights, atol=1e-5, rtol=0)
    expected_hidden = expected.last_hidden_state.flatten(0, 1)
    torch.testing.assert_close(hidden, expected_hidden, atol=1e-5, rtol=1e-5)
    assert grid.n_heads == model.config.num_attention_heads
    assert grid.n_kv_heads == model.config.num_key_value_heads


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_attention_does_not_depend_on_neighbours_padding_or_blocks(name: str) -> None:
    grid = observe_model(tiny_model(name), name, random_ids(12, seed=1))
    passages = [random_ids(length, seed=length) for length in (17, 11, 15)]
    blocks = [
        Block(np.array([0, 1]), 0, 17),
        Block(np.array([2]), 0, 4),
        Block(np.array([2]), 4, 15),
    ]
    together, hidden = observed(grid, passages, blocks)
    starts = (0, 17, 28)
    for passage, start in zip(passages, starts, strict=True):
        alone, expected = observed(grid, [passage])
        number, length = starts.index(start), len(passage)
        torch.testing.assert_close(hidden[start : start + length], expected, atol=1e-5, rtol=1e-5)
        for layer, (weights,) in alone.weights.items():
            found = together.weights[layer]
            if number < 2:
                assert found[0][number, :, :length, length:].abs().sum() == 0
                rows = found[0][number : number + 1, :, :length, :length]
            else:
                early = torch.nn.functional.pad(found[1], (0, 11))
                rows = torch.cat([early, found[2]], dim=2)
            torch.testing.assert_close(rows, weights, atol=1e-5, rtol=0)


def test_windows_and_learned_sinks_change_the_rows_of_tiny_models() -> None:
    """So the tiny models do test these mechanisms."""
    window, _ = observed(
        observe_model(tiny_model("mistral-window"), "m", random_ids(9)), [random_ids(19)]
    )
    assert float(window.weights[0][0][..., 15, 3].abs().max()) == 0
    full, _ = observed(observe_model(tiny_model("llama"), "m", random_ids(9)), [random_ids(19)])
    assert float(full.weights[0][0][..., 15, 3].abs().max()) > 0
    grid = observe_model(tiny_model("gpt_oss"), "m", random_ids(9))
    sinks, _ = observed(grid, [random_ids(19)])
    assert grid.learned_sinks
    assert float(sinks.weights[0][0].sum(-1).max()) < 1
    assert not observe_model(tiny_model("llama"), "m", random_ids(9)).learned_sinks


@pytest.mark.parametrize("name", ["llama-gqa", "qwen3", "olmo2", "gpt_oss"])
def test_norm_map_gives_the_norm_after_the_output_projection(name: str) -> None:
    model = tiny_model(name)
    observed = observe_model(model, name, random_ids(9))
    for layer in observed.layers:
        weight = layer.module.o_proj.weight.T.reshape(observed.n_heads, observed.head_dim, -1)
        z = torch.randn(5, observed.n_heads, observed.head_dim)
        expected = torch.einsum("nhv,hve->nhe", z, weight).norm(dim=-1)
        found = torch.einsum("nhv,hvu->nhu", z, layer.norm_map).norm(dim=-1)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
        # few dimensions: no projection, cosines are exact
        assert layer.projection(128, seed=0).shape[-1] == model.config.hidden_size
        assert layer.projection(16, seed=0).shape[-1] == 16


@pytest.mark.parametrize("name", ["deepseek_v2", "deepseek_v3"])
def test_head_size_of_latent_attention_is_that_of_the_values(name: str) -> None:
    assert observe_model(tiny_model(name), name, random_ids(9)).head_dim == 12


@pytest.mark.parametrize(
    ("name", "path"),
    [("gpt_neox", "dense"), ("gpt2", "c_proj"), ("opt", "out_proj"), ("modernbert-decoder", "Wo")],
)
def test_output_projection_is_identified_by_its_input(name: str, path: str) -> None:
    observed = observe_model(tiny_model(name), name, random_ids(9))
    for index, layer in enumerate(observed.layers):
        assert layer.index == index == observed.index_of(layer.module)
        assert layer.output is layer.module.get_submodule(path)
        assert layer.module in set(layer.block.modules())
        weight = layer.output.weight if name == "gpt2" else layer.output.weight.T
        z = torch.randn(5, observed.n_heads, observed.head_dim)
        expected = torch.einsum("nhv,hve->nhe", z, weight.reshape(*z.shape[1:], -1)).norm(dim=-1)
        found = torch.einsum("nhv,hvu->nhu", z, layer.norm_map).norm(dim=-1)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("kind", "options", "reason"),
    [
        ("bert", {}, "later tokens"),
        ("mamba", {"state_size": 4}, "none of its layers"),
        ("bloom", {"n_layer": 2, "n_head": 4}, "none of its layers"),
        ("bitnet", {}, "more after its heads than BitNetRMSNorm"),
        (
            "lfm2",
            {"layer_types": ["conv", "full_attention", "conv"]},
            "1 of its 3 layers attend",
        ),
        (
            "falcon_h1",
            {"mamba_d_ssm": 48, "mamba_n_heads": 4, "mamba_d_head": 12}
            | {"mamba_n_groups": 1, "mamba_d_state": 8},
            "other than attention mixes tokens",
        ),
        ("bart", {"encoder_layers": 1, "decoder_layers": 3}, "embeddings do not follow"),
        (
            "qwen3_5_text",
            {"layer_types": ["full_attention"] * 3, "head_dim": 12},
            r"changed \(gated, for example\)",
        ),
        (
            "qwen3_next",
            {"layer_types": ["linear_attention", "linear_attention", "full_attention"]}
            | {"num_experts": 2, "num_experts_per_tok": 1, "head_dim": 16}
            | {"linear_num_value_heads": 2, "linear_num_key_heads": 2}
            | {"linear_key_head_dim": 8, "linear_value_head_dim": 8, "moe_intermediate_size": 16}
            | {"shared_expert_intermediate_size": 16},
            "attend",
        ),
    ],
)
def test_unsupported_architectures_are_refused(kind: str, options: dict, reason: str) -> None:
    model = build(kind, options)
    with pytest.raises(HeadprobeError, match=reason) as refused:
        observe_model(model, "some/model", random_ids(9))
    assert "\n" not in str(refused.value)


class ThreeDimensional(nn.Linear):
    """A projection that takes [B, T, E] alone."""

    def forward(self, hidden: Tensor) -> Tensor:
        batch, length, _ = hidden.shape
        return super().forward(hidden).view(batch, length, -1)


def project_each_head(model: nn.Module) -> None:
    """Give each head's output to the same small projection; the results are concatenated."""
    heads = model.config.num_attention_heads
    for layer in model.model.layers:
        attention = layer.self_attn
        size = model.config.hidden_size // heads
        attention.small = nn.Linear(attention.head_dim, size, bias=False)
        del attention.o_proj
        attention.o_proj = lambda joined, small=attention.small: small(
            joined.unflatten(-1, (heads, -1))
        ).flatten(-2)


def project_three_dimensions(model: nn.Module) -> None:
    for layer in model.model.layers:
        layer.self_attn.o_proj.__class__ = ThreeDimensional


def run_out_of_memory(model: nn.Module) -> None:
    def allocate(*_: object) -> None:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")

    model.model.layers[1].register_forward_pre_hook(allocate)


def add_nine_rows(model: nn.Module) -> None:
    """Add something to the residual stream that fits a text of nine tokens only."""
    rows = torch.ones(1, 9, 1)
    model.model.layers[1].register_forward_pre_hook(lambda _, args: (args[0] + rows, *args[1:]))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (project_each_head, "Linear takes its heads' outputs without joining them"),
        (project_three_dimensions, r"is not a linear projection \(ValueError: not enough"),
        (run_out_of_memory, "there is not enough memory to load it. Free some memory"),
        (add_nine_rows, r"cannot be observed \(RuntimeError: The size of tensor"),
    ],
)
def test_model_that_fails_gives_a_one_line_error(
    change: Callable[[nn.Module], None], reason: str
) -> None:
    model = tiny_model("llama")
    change(model)
    with pytest.raises(HeadprobeError, match=reason) as refused:
        observe_model(model, "some/model", random_ids(9))
    assert "\n" not in str(refused.value)


def test_missing_attention_mask_is_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a registered mask function, rows would see later tokens."""
    register()
    monkeypatch.setattr("headprobe.model.verify.register", lambda: None)
    mapping = AttentionMaskInterface._global_mapping
    observe_model(tiny_model("llama"), "m", random_ids(9))
    monkeypatch.delitem(mapping, "headprobe")
    with pytest.raises(HeadprobeError, match="cannot be observed"):
        observe_model(tiny_model("llama"), "m", random_ids(9))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_verification_succeeds_in_bfloat16(name: str) -> None:
    observe_model(tiny_model(name, seed=1).to(torch.bfloat16), name, random_ids(40))


@pytest.mark.parametrize("name", ["llama-gqa", "qwen3", "gemma2", "gpt_oss"])
def test_captured_attention_in_bfloat16_equals_eager_attention(name: str) -> None:
    model = tiny_model(name).to(torch.bfloat16)
    ids = random_ids(15)
    eager = copy.deepcopy(model)
    eager.set_attn_implementation("eager")
    with torch.inference_mode():
        expected = eager.base_model(input_ids=ids[None], use_cache=False, output_attentions=True)
    grid = observe_model(model, name, random_ids(9))
    recorder, _ = observed(grid, [ids])
    for layer, weights in enumerate(expected.attentions):
        assert recorder.weights[layer][0].dtype == torch.float32
        sums = recorder.weights[layer][0].sum(-1)
        if not grid.learned_sinks:
            torch.testing.assert_close(sums, torch.ones_like(sums), atol=1e-5, rtol=0)
        # gpt-oss's own softmax is in half precision; ours never is
        atol = 5e-2 if name == "gpt_oss" else 3e-2
        torch.testing.assert_close(recorder.weights[layer][0], weights.float(), atol=atol, rtol=0)
