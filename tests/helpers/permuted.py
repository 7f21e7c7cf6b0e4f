"""A model whose heads have other seats and other bases, and that computes the same function."""

import copy

import torch
from transformers import PreTrainedModel


def permute_heads(
    model: PreTrainedModel, seed: int
) -> tuple[PreTrainedModel, dict[tuple[int, int], tuple[int, int]]]:
    """Permute whole key/value groups, and the query heads inside each, in every layer, and rotate
    the basis of every value head. Returns the model, and the new seat of each (layer, head)."""
    other = copy.deepcopy(model)
    config, rng = model.config, torch.Generator().manual_seed(seed)
    groups, heads = config.num_key_value_heads, config.num_attention_heads
    shared, width = heads // groups, config.head_dim
    seats = {}
    for number, layer in enumerate(other.model.layers):
        attention = layer.self_attn
        old_groups = torch.randperm(groups, generator=rng)
        old_heads = torch.cat(
            [group * shared + torch.randperm(shared, generator=rng) for group in old_groups]
        )
        seats |= {(number, int(old)): (number, new) for new, old in enumerate(old_heads)}
        random = torch.randn(groups, width, width, generator=rng, dtype=torch.float64)
        rotations = torch.linalg.qr(random).Q
        with torch.no_grad():
            for name, order in (("q_proj", old_heads), ("k_proj", old_groups)):
                weight = getattr(attention, name).weight
                weight.copy_(weight.clone().unflatten(0, (-1, width))[order].flatten(0, 1))
            value = attention.v_proj.weight
            by_group = value.double().unflatten(0, (-1, width))[old_groups]
            value.copy_((rotations @ by_group).flatten(0, 1))
            output = attention.o_proj.weight
            by_head = output.double().unflatten(1, (-1, width))[:, old_heads]
            turned = by_head.unflatten(1, (groups, shared)).unsqueeze(3)
            turned = (turned @ rotations.transpose(1, 2)[:, None]).squeeze(3)
            output.copy_(turned.flatten(1))
    return other, seats
