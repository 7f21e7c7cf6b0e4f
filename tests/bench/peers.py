"""Other tools' ways to the same maps, where they are installed: headprobe needs none of them."""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedModel

from headprobe.resources import DEMO_MODEL
from tests.bench.by_hand import Look, Read, look_eagerly

CLOSE = 1e-5
"""What they see of the attention may differ so much from eager's."""


def transformer_lens(model: PreTrainedModel) -> Look:
    """Hooks on the patterns of a bridge, which reduce them as they come; it changes the model."""
    from transformer_lens.model_bridge import TransformerBridge

    model.config.architectures = [type(model).__name__]  # as of a loaded checkpoint
    bridge = TransformerBridge.boot_transformers(
        "bench", hf_model=model, tokenizer=AutoTokenizer.from_pretrained(DEMO_MODEL), device="cpu"
    )

    def look(ids: Tensor, real: Tensor, read: Read) -> None:
        def on_pattern(pattern: Tensor, hook: Any) -> None:
            read(pattern)

        bridge.run_with_hooks(
            ids,
            attention_mask=real,
            use_cache=False,
            return_type=None,
            fwd_hooks=[(lambda name: name.endswith("attn.hook_pattern"), on_pattern)],
        )

    return look


def nnsight(model: PreTrainedModel) -> Look:
    """Every map saved in a trace, and read after it."""
    from nnsight import NNsight, save

    model.set_attn_implementation("eager")
    traced = NNsight(model)

    def look(ids: Tensor, real: Tensor, read: Read) -> None:
        with traced.trace(input_ids=ids, attention_mask=real, use_cache=False):
            maps = save([])
            for layer in traced.model.layers:
                maps.append(layer.self_attn.output[1])
        for weights in maps:
            read(weights)

    return look


PEERS: dict[str, Callable[[PreTrainedModel], Look]] = {
    "TransformerLens, pattern hooks": transformer_lens,
    "nnsight, every map saved": nnsight,
}


def missing() -> list[str]:
    """Those of PEERS whose package (their functions' names) is not installed."""
    return [way for way, peer in PEERS.items() if find_spec(peer.__name__) is None]


def checked(
    peer: Callable[[PreTrainedModel], Look], model: PreTrainedModel, ids: Tensor, real: Tensor
) -> Look:
    """A peer's look at a model, once it has seen on one batch what eager attention gives;
    AssertionError where it sees anything else."""

    def seen(look: Look) -> list[Tensor]:
        maps: list[Tensor] = []
        with torch.inference_mode():
            look(ids, real, lambda weights: maps.append(weights.clone()))
        return maps

    expected = seen(look_eagerly(model))
    look = peer(model)
    torch.testing.assert_close(seen(look), expected, rtol=0, atol=CLOSE)
    return look
