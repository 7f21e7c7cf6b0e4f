"""Logits in pieces are the model's own, scaled and capped as it does."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from headprobe.align.flat import Block, lay_flat
from headprobe.model.forward import run_flat, score
from headprobe.model.heads import observe_heads
from tests.model.tiny import ARCHITECTURES, build, random_ids

SPECIAL: dict[str, tuple[str, dict[str, Any]]] = {
    "gemma2-capped": ("gemma2", {"head_dim": 16, "final_logit_softcapping": 3.0}),
    "granite-scaled": ("granite", {"logits_scaling": 8.0}),
    "cohere-scaled": ("cohere", {"logit_scale": 0.25}),
}


class Blind:
    """Observes nothing."""

    at_once = None

    def residual(self, layer, hidden) -> None:
        """Of no interest here."""

    def begin_layer(self, *_: object) -> None:
        pass

    attended = end_layer = begin_layer


@pytest.mark.parametrize("name", [*ARCHITECTURES, *SPECIAL])
def test_pieces_are_the_models_own_logits(name: str) -> None:
    model = build(*(ARCHITECTURES | SPECIAL)[name])
    observe_heads(model, name, random_ids(12))
    passages, sizes = [random_ids(17, 1), random_ids(9, 2)], []
    flat = lay_flat(
        {p: ids.numpy() for p, ids in enumerate(passages)},
        [Block(np.array([p]), 0, len(ids)) for p, ids in enumerate(passages)],
        torch.device("cpu"),
    )
    told = torch.tensor([place for place in range(26) if place not in {0, 17}])

    def note(_: object, __: object, logits: Tensor) -> None:
        sizes.append(logits.shape[-2])

    handle = model.get_output_embeddings().register_forward_hook(note)
    with torch.inference_mode():
        found = run_flat(model.base_model, flat, Blind(), None)
        nats = score(model, found, flat.token_ids[0], told, 5)
        handle.remove()
        model.set_attn_implementation("eager")
        expected = sum(
            torch.nn.functional.cross_entropy(
                model(input_ids=ids[None]).logits[0, :-1].float(), ids[1:], reduction="sum"
            )
            for ids in passages
        )
    assert sizes == [5, 5, 5, 5, 4]
    torch.testing.assert_close(nats, expected, rtol=1e-5, atol=1e-4)
