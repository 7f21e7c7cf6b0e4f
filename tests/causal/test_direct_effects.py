"""Direct effects equal a slow computation, and exist where heads add to the residual stream."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from headprobe.causal import direct_effects
from headprobe.causal.ablation import Ablation, FlatSequences
from headprobe.causal.direct_effects import DirectEffects, FinalNorm, find_final_norm
from headprobe.causal.losses import ScoredSequences, chunks
from headprobe.causal.takeover import CHECK_TOKENS, Request, ResponseMeasurement
from headprobe.model.heads import ObservedModel, observe_model
from tests.causal.test_ablation import replacements, scored
from tests.helpers.tiny import ARCHITECTURES, random_ids, tiny_model

WITHOUT = {
    "gemma2", "gemma3_text", "olmo2", "exaone4", "glm4", "olmo3", "opt-narrow-embeddings",
}  # fmt: skip
"""Architectures whose blocks change what the heads write, or that have no final norm at the end."""


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_which_architectures_have_direct_effects(name: str) -> None:
    observed = observe_model(tiny_model(name), name, random_ids(24))
    [run] = chunks(observed, scored().sequences, 1)
    assert (find_final_norm(observed, run) is None) == (name in WITHOUT)


@pytest.mark.parametrize("name", ["llama-gqa", "gpt2"])
def test_half_precision_has_direct_effects(name: str) -> None:
    observed = observe_model(tiny_model(name).to(torch.bfloat16), name, random_ids(24))
    [run] = chunks(observed, scored().sequences, 1)
    assert find_final_norm(observed, run) is not None


@pytest.mark.parametrize("kind", [nn.RMSNorm, nn.LayerNorm])
def test_a_frozen_norm_keeps_the_scale_of_another_stream(kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    module = kind(16)
    nn.init.normal_(module.weight)
    if kind is nn.LayerNorm:
        nn.init.normal_(module.bias)
    norm = FinalNorm.of(module, 16, torch.zeros(1))
    one, other = torch.randn(2, 5, 16)
    frozen = norm.frozen(other, norm.scale(one, torch.float32), torch.float32)
    centred = kind is nn.LayerNorm
    deviation = one - one.mean(-1, keepdim=True) if centred else one
    scale = 1 / deviation.square().mean(-1, keepdim=True).sqrt()
    moved = other - other.mean(-1, keepdim=True) if centred else other
    bias = module.bias if centred else 0
    expected = (moved * scale * module.weight + bias).detach()
    torch.testing.assert_close(frozen.detach(), expected, rtol=1e-4, atol=1e-4)


def test_direct_effects_and_reactions_equal_slow_computations() -> None:
    """With L0H1 ablated: the loss without the term of L2H3, or with its term as in the intact run,
    at the scale of the intact run's final norm."""
    observed = observe_model(tiny_model("llama-gqa"), "tiny", random_ids(24))
    ids = random_ids(20, 3).numpy()
    rows = np.arange(4, 18)
    text = ScoredSequences((ids,), np.zeros(len(rows), np.int64), rows, ids[rows + 1])
    values = replacements(observed)
    measurement = ResponseMeasurement(observed, text, values, {}, {})
    every, head = np.arange(len(rows)), (2, 3)
    intact, ablated = measurement.run(
        [Request(None, every, None, (head,)), Request((0, 1), every, None, (head,), compare=True)]
    )
    assert measurement.has_direct

    model, width = observed.model, observed.head_dim
    model.set_attn_implementation("eager")
    place = slice(head[1] * width, (head[1] + 1) * width)

    def run(mean: Tensor | None) -> tuple[Tensor, Tensor]:
        """The final stream [T, E] and the output [T, V] of the head."""
        kept: dict[str, Tensor] = {}
        hooks = [
            model.model.norm.register_forward_pre_hook(lambda _, a: kept.update(stream=a[0][0])),
            model.model.layers[2].self_attn.o_proj.register_forward_pre_hook(
                lambda _, a: kept.update(output=a[0][0, :, place])
            ),
        ]
        if mean is not None:

            def change(_: nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
                given = args[0].clone()
                given[..., width : 2 * width] = mean
                return (given,)

            hooks.append(model.model.layers[0].self_attn.o_proj.register_forward_pre_hook(change))
        with torch.inference_mode():
            model(input_ids=torch.from_numpy(ids)[None], use_cache=False)
        for hook in hooks:
            hook.remove()
        return kept["stream"][rows], kept["output"][rows]

    weight = model.model.layers[2].self_attn.o_proj.weight[:, place].detach()

    def losses(stream: Tensor, reference: Tensor) -> Tensor:
        scale = 1 / (reference.square().mean(-1, keepdim=True) + model.config.rms_norm_eps).sqrt()
        logits = model.lm_head(stream * scale * model.model.norm.weight)
        targets = torch.from_numpy(ids[rows + 1]).long()
        return nn.functional.cross_entropy(logits, targets, reduction="none").detach()

    stream, output = run(None)
    moved, output_moved = run(values.mean[0, 1])
    mean = values.mean[2, 3]
    expected = {
        "intact": losses(stream - (output - mean) @ weight.T, stream) - losses(stream, stream),
        "direct": losses(moved - (output_moved - mean) @ weight.T, stream) - losses(moved, stream),
        "reaction": losses(moved - (output_moved - output) @ weight.T, stream)
        - losses(moved, stream),
    }
    found = {"intact": intact.direct, "direct": ablated.direct, "reaction": ablated.reaction}
    for name, values_found in found.items():
        np.testing.assert_allclose(values_found[0], expected[name], atol=2e-4, err_msg=name)
    assert np.abs(ablated.reaction).max() > 1e-3


def test_the_ablated_heads_own_term_is_gone() -> None:
    """Its direct effect after its ablation is 0: its term is the mean already."""
    observed = observe_model(tiny_model("llama-gqa"), "tiny", random_ids(24))
    text = scored()
    measurement = ResponseMeasurement(observed, text, replacements(observed), {}, {})
    [response] = measurement.run([Request((1, 2), np.arange(40), None, ((1, 2),))])
    assert np.abs(response.direct).max() < 1e-5
    ablation = Ablation(((1, 2),), "mean", replacements(observed))
    assert ablation.first_layer == 1
    assert isinstance(measurement._direct, DirectEffects)


def test_the_check_takes_few_tokens_and_finds_the_same_norm(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It keeps what every module returns, so it does not run on whole chunks of text."""
    observed = observe_model(tiny_model("llama-gqa"), "tiny", random_ids(24))
    ids = random_ids(300, 3).numpy()
    text = ScoredSequences((ids,), np.zeros(1, np.int64), np.zeros(1, np.int64), ids[1:2])
    tokens = []
    original = direct_effects.find_final_norm

    def find(observed: ObservedModel, run: FlatSequences) -> FinalNorm | None:
        tokens.append(run.flat.token_ids.shape[1])
        return original(observed, run)

    monkeypatch.setattr(direct_effects, "find_final_norm", find)
    measurement = ResponseMeasurement(observed, text, replacements(observed), {}, {})
    assert tokens == [CHECK_TOKENS]
    [whole] = chunks(observed, text.sequences, 1)
    norm = original(observed, whole)
    assert measurement._direct is not None and norm is not None
    assert torch.equal(measurement._direct._norm.gain, norm.gain)
