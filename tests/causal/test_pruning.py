"""Choices of heads and key/value heads, by the loss of the whole set and by scores."""

import numpy as np
import pytest
import torch

from headprobe.causal.ablation import Ablation, Head, Replacements
from headprobe.causal.losses import ScoredSequences, ablated_losses
from headprobe.causal.pruning import (
    RemovalLosses,
    choose_groups,
    choose_heads,
    heads_of_group,
    kept_groups,
    lowest_groups,
    lowest_heads,
    some_sequences,
    stock_losses_without,
    weight_magnitude,
)
from headprobe.model.heads import ObservedModel, observe_model, projection_map
from tests.helpers.tiny import build, random_ids

SILENT_GROUPS = (2, 0, 1)
"""The key/value head of each layer that writes nothing in the planted model."""


def text(*lengths: int) -> ScoredSequences:
    sequences = tuple(random_ids(length, length).numpy() for length in lengths)
    places = [(p, t, int(s[t + 1])) for p, s in enumerate(sequences) for t in range(len(s) - 1)]
    return ScoredSequences(sequences, *(np.array(each) for each in zip(*places, strict=True)))


@pytest.fixture(scope="module")
def observed() -> ObservedModel:
    """Three layers of six heads on three key/value heads, one of which writes nothing."""
    model = build("llama", {"num_attention_heads": 6, "num_key_value_heads": 3})
    width = model.config.head_dim
    with torch.no_grad():
        for layer, group in enumerate(SILENT_GROUPS):
            columns = slice(group * 2 * width, (group + 1) * 2 * width)
            model.model.layers[layer].self_attn.o_proj.weight[:, columns] = 0
    return observe_model(model, "planted", random_ids(24))


def losses(observed: ObservedModel, by: str = "zero") -> RemovalLosses:
    shape = len(observed.layers), observed.n_heads, observed.head_dim
    mean = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    return RemovalLosses(observed, text(40, 23), Replacements(mean, torch.zeros(0, 1, *shape)), by)


def silent(observed: ObservedModel) -> tuple[Head, ...]:
    return tuple(h for at, g in enumerate(SILENT_GROUPS) for h in heads_of_group(observed, at, g))


def test_losses_of_sets_equal_those_of_their_ablation(observed: ObservedModel) -> None:
    """Whatever part of a set is in effect in the base pass already."""
    measured = losses(observed)
    whole = ((0, 1), (1, 2), (1, 4), (2, 0))
    ablation = Ablation(whole, "zero", measured.replacements)
    intact, [expected] = ablated_losses(observed, measured.scored, [ablation])
    for base in ((), whole[:1], whole[1:2], whole[3:], whole[:3]):
        before, [after] = measured.without([whole], base)
        assert after == pytest.approx(expected.mean(), rel=1e-6)
        if not base:
            assert before == pytest.approx(intact.mean(), rel=1e-6)


def test_stock_losses_without_heads_are_those_of_their_ablation(observed: ObservedModel) -> None:
    """transformers computes them, and the model observes as before afterwards."""
    measured, heads = losses(observed), ((0, 1), (1, 2), (2, 0), (2, 5))
    ablation = Ablation(heads, "zero", measured.replacements)
    before, [expected] = ablated_losses(observed, measured.scored, [ablation])
    without = stock_losses_without(observed, heads, measured.scored)
    np.testing.assert_allclose(without, expected, atol=1e-4)
    assert np.abs(without - before).max() > 1e-2
    after, _ = ablated_losses(observed, measured.scored, [ablation])
    np.testing.assert_array_equal(after, before)


@pytest.mark.parametrize("by", ["zero", "mean"])
def test_chosen_heads_keep_the_loss_within_the_limit(observed: ObservedModel, by: str) -> None:
    measured = losses(observed, by)
    intact, _ = measured.without([((0, 0),)])
    sizes = []
    for limit in (1e-6, 0.05, 0.5):
        chosen = choose_heads(measured, measured, limit)
        _, [loss] = measured.without([chosen])
        assert loss <= intact + limit * (1 + 1e-6)
        assert len(set(chosen)) == len(chosen)
        sizes.append(len(chosen))
    assert sizes[0] >= 6  # those that write nothing
    assert set(silent(observed)) <= set(choose_heads(measured, measured, 1e-6))


def test_acceptance_decides_how_many_heads_go(observed: ObservedModel) -> None:
    ranking = losses(observed)
    other = RemovalLosses(observed, text(31, 29), ranking.replacements, "zero")
    intact, _ = other.without([((0, 0),)])
    chosen = choose_heads(ranking, other, 0.2)
    _, [loss] = other.without([chosen])
    assert loss <= intact + 0.2


def test_chosen_groups_are_as_many_in_each_layer(observed: ObservedModel) -> None:
    measured = losses(observed)
    for count in (1, 2):
        kept = kept_groups(observed, choose_groups(measured, count))
        assert [len(groups) for groups in kept] == [3 - count] * 3


def test_groups_are_chosen_by_the_loss_of_all_chosen_so_far(observed: ObservedModel) -> None:
    """A slow search in the same order finds the same heads."""
    measured = losses(observed)
    chosen: tuple[Head, ...] = ()
    for layer in (2, 1, 0):
        sets = [(*chosen, *heads_of_group(observed, layer, group)) for group in range(3)]
        chosen = min(sets, key=lambda each: float(measured.without([each])[1][0]))
    assert choose_groups(measured, 1) == tuple(sorted(chosen))


def test_scores_choose_the_lowest(observed: ObservedModel) -> None:
    magnitude = weight_magnitude(observed)
    maps = [projection_map(layer.output, 6, observed.head_dim) for layer in observed.layers]
    expected = torch.stack([each.flatten(1).norm(dim=1) for each in maps])
    np.testing.assert_allclose(magnitude, expected, rtol=1e-5, atol=1e-6)
    assert lowest_heads(magnitude, 6) == silent(observed)
    assert lowest_groups(observed, magnitude, 1) == silent(observed)


def test_some_sequences_are_the_first_ones() -> None:
    scored = text(10, 20, 30)
    part, count = some_sequences(scored, 12)
    assert [len(each) for each in part.sequences] == [10, 20]
    assert count == len(part.row) == 9 + 19
    whole, count = some_sequences(scored, 10_000)
    assert count == len(scored.row) == len(whole.row)
