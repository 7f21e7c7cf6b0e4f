"""Ablation acts at the input of the output projection, on every architecture."""

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from headprobe.causal.ablation import Ablation, Replacements
from headprobe.causal.losses import ScoredSequences, ablated_losses, chunks
from headprobe.model.attention import Observer
from headprobe.model.forward import run_flat
from headprobe.model.heads import ObservedModel, observe_model, projection_map
from tests.helpers.tiny import ARCHITECTURES, random_ids, tiny_model

HEADS = ((1, 0), (1, 3), (2, 1))


def observe(name: str) -> ObservedModel:
    return observe_model(tiny_model(name), name, random_ids(24))


def scored() -> ScoredSequences:
    """All tokens of three sequences of different length."""
    sequences = tuple(random_ids(length, length).numpy() for length in (30, 17, 9))
    places = [(p, t, int(s[t + 1])) for p, s in enumerate(sequences) for t in range(len(s) - 1)]
    return ScoredSequences(sequences, *(np.array(each) for each in zip(*places, strict=True)))


def replacements(observed: ObservedModel) -> Replacements:
    shape = len(observed.layers), observed.n_heads, observed.head_dim
    mean = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    return Replacements(mean, torch.zeros(0, 1, *shape))


@pytest.mark.parametrize("by", ["zero", "mean"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_ablation_equals_surgery_on_the_weights(name: str, by: str) -> None:
    """Zero: the heads' columns of the output projection are 0; mean: it also adds their mean."""
    observed = observe(name)
    ablation = Ablation(HEADS, by, replacements(observed))
    _, [ablated] = ablated_losses(observed, scored(), [ablation])
    operate(observed, ablation)
    operated, _ = ablated_losses(observed, scored(), [])
    np.testing.assert_allclose(ablated, operated, rtol=1e-6, atol=2e-6)


def operate(observed: ObservedModel, ablation: Ablation) -> None:
    """Change the weights of the output projections (and their bias, by a hook)."""
    width = observed.head_dim
    for layer in observed.layers:
        heads = [head for at, head in ablation.heads if at == layer.index]
        if not heads:
            continue
        maps = projection_map(layer.output, observed.n_heads, width)
        bias = sum(ablation.replacements.mean[layer.index, head] @ maps[head] for head in heads)
        is_transposed = not isinstance(layer.output, nn.Linear)  # GPT-2's Conv1D
        with torch.no_grad():
            weight = layer.output.weight
            weight = weight if is_transposed else weight.T
            for head in heads:
                weight[head * width : (head + 1) * width] = 0
        if ablation.by == "mean":
            layer.output.register_forward_hook(lambda _, __, result, bias=bias: result + bias)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_head_that_writes_nothing_has_no_effect(name: str) -> None:
    """Its slice of the output projection is zero: every replacement leaves the losses as they
    are, to the last bit."""
    observed = observe(name)
    silent = Ablation(((1, 2),), "zero", replacements(observed))
    operate(observed, silent)
    every = [Ablation(((1, 2),), by, replacements(observed)) for by in ("zero", "mean", "uniform")]
    intact, ablated = ablated_losses(observed, scored(), every)
    for each in ablated:
        assert np.array_equal(each, intact)


class Contributions(Observer):
    """Records the heads' outputs of every layer."""

    def __init__(self) -> None:
        self.outputs: dict[int, Tensor] = {}

    def end_layer(self, module: nn.Module, output: Tensor) -> None:
        self.outputs[int(module.layer_idx)] = output.clone()


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_contributions_of_all_heads_add_up(name: str) -> None:
    """Each head's output through its slice of the projection, plus the bias, is what the layer's
    projection returns: to concatenate heads is to add them up."""
    observed, recorder, results = observe(name), Contributions(), {}
    for layer in observed.layers:
        layer.output.register_forward_hook(
            lambda _, __, result, index=layer.index: results.update({index: result.clone()})
        )
    [run] = chunks(observed, scored().sequences, 1)
    with torch.inference_mode():
        run_flat(observed.model.base_model, run.flat, recorder, None)
        expected = dict(results)  # a projection that is no plain matrix is called for its map, too
        for layer in observed.layers:
            maps = projection_map(layer.output, observed.n_heads, observed.head_dim)
            parts = torch.einsum("nhv,hve->nhe", recorder.outputs[layer.index], maps)
            bias = getattr(layer.output, "bias", None)
            total = parts.sum(1) + (0 if bias is None else bias)
            torch.testing.assert_close(
                total, expected[layer.index].reshape(total.shape), rtol=1e-5, atol=1e-5
            )


@pytest.mark.parametrize("name", ["llama-gqa", "gpt2", "gemma2"])
def test_only_layers_from_the_first_ablated_one_run_again(name: str) -> None:
    observed, calls = observe(name), []
    for layer in observed.layers:
        layer.output.register_forward_pre_hook(lambda *_, index=layer.index: calls.append(index))
    ablations = [Ablation(((at, 0),), "zero", replacements(observed)) for at in (2, 1)]
    ablated_losses(observed, scored(), ablations)
    assert calls == [0, 1, 2, 2, 1, 2]


def test_uniform_and_resample_equal_slow_computations() -> None:
    """Uniform: the mean of the values that a row sees. Resample: the donor's output at the same
    position."""
    observed = observe("llama-gqa")
    tokens = scored()
    base = replacements(observed)
    donors = torch.randn(2, 30, *base.mean.shape, generator=torch.Generator().manual_seed(2))
    values = Replacements(base.mean, donors, np.array([1, 0, 1]))
    head = (1, 3)
    got = {
        by: ablated_losses(observed, tokens, [Ablation((head,), by, values)])[1][0]
        for by in ("uniform", "resample")
    }
    model = copy.deepcopy(observed.model)
    model.set_attn_implementation("eager")
    attention = model.model.layers[1].self_attn
    for by, losses in got.items():
        expected = []
        for number, ids in enumerate(tokens.sequences):
            state: dict[str, Tensor] = {}

            def keep_values(_: nn.Module, __: object, result: Tensor, state=state) -> None:
                state["value"] = result

            def change(_: nn.Module, args: tuple[Tensor], state=state, number=number, by=by):
                given, width = args[0].clone(), observed.head_dim
                place = slice(head[1] * width, (head[1] + 1) * width)
                if by == "uniform":
                    group = head[1] // (observed.n_heads // observed.n_kv_heads)
                    value = state["value"][0, :, group * width : (group + 1) * width]
                    counts = torch.arange(1, len(value) + 1)[:, None]
                    given[0, :, place] = value.cumsum(0) / counts
                else:
                    length = given.shape[1]
                    given[0, :, place] = donors[[1, 0, 1][number], :length, 1, 3]
                return (given,)

            hooks = [
                attention.v_proj.register_forward_hook(keep_values),
                attention.o_proj.register_forward_pre_hook(change),
            ]
            with torch.inference_mode():
                logits = model(input_ids=torch.from_numpy(ids)[None], use_cache=False).logits[0]
            for hook in hooks:
                hook.remove()
            targets = torch.from_numpy(ids[1:]).long()
            expected.append(nn.functional.cross_entropy(logits[:-1], targets, reduction="none"))
        np.testing.assert_allclose(losses, torch.cat(expected), rtol=1e-5, atol=1e-5)
