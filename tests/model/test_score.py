"""Logits that are computed in blocks equal the model's own, with its scaling and caps."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from headprobe.batching.layout import Block, pack_passages
from headprobe.model import forward as scoring
from headprobe.model.attention import Observer
from headprobe.model.forward import run_flat, score
from headprobe.model.heads import observe_model
from tests.helpers.tiny import ARCHITECTURES, build, random_ids

SPECIAL: dict[str, tuple[str, dict[str, Any]]] = {
    "gemma2-capped": ("gemma2", {"head_dim": 16, "final_logit_softcapping": 3.0}),
    "granite-scaled": ("granite", {"logits_scaling": 8.0}),
    "cohere-scaled": ("cohere", {"logit_scale": 0.25}),
}


@pytest.mark.parametrize("name", [*ARCHITECTURES, *SPECIAL])
@pytest.mark.parametrize("apart", [True, False], ids=["some words", "all words"])
def test_score_from_blocks_equals_the_models_own_cross_entropy(
    name: str, apart: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build(*(ARCHITECTURES | SPECIAL)[name])
    observe_model(model, name, random_ids(12))
    passages, sizes = [random_ids(17, 1), random_ids(9, 2)], []
    flat = pack_passages(
        {p: ids.numpy() for p, ids in enumerate(passages)},
        [Block(np.array([p]), 0, len(ids)) for p, ids in enumerate(passages)],
        torch.device("cpu"),
    )
    told = torch.tensor([place for place in range(26) if place not in {0, 17}])
    ask, words = scoring._logits, model.get_output_embeddings().weight.shape[0]

    def noting(*asked: Any) -> Tensor:
        logits = ask(*asked)
        sizes.append(tuple(logits.shape))
        return logits

    monkeypatch.setattr(scoring, "_logits", noting)
    whole = None if apart else model.get_output_embeddings().register_forward_hook(lambda *_: None)
    with torch.inference_mode():
        found = run_flat(model.base_model, flat, Observer(), None)
        before = list(model.modules())
        nats = score(model, found, flat.token_ids[0], told, 120 if apart else 5 * words)
        assert list(model.modules()) == before
        if whole is not None:
            whole.remove()
        model.set_attn_implementation("eager")
        expected = sum(
            torch.nn.functional.cross_entropy(
                model(input_ids=ids[None]).logits[0, :-1].float(), ids[1:], reduction="sum"
            )
            for ids in passages
        )
    if apart:
        assert sum(a * b for a, b in sizes) == 24 * words
        assert {size for size in sizes if size[1] == 12} == {(10, 12), (4, 12)}
    else:
        assert [a for a, _ in sizes] == [5, 5, 5, 5, 4]
        assert {b for _, b in sizes} == {words}
    torch.testing.assert_close(nats, expected, rtol=1e-5, atol=1e-4)


def test_output_layer_that_may_not_be_a_matrix_is_used_as_a_whole() -> None:
    """If it is offloaded or quantised, or if the checkpoint brings its own code."""
    model = build("llama", {})
    assert scoring._plain_head(model) == ("lm_head", model.lm_head)
    model.lm_head._hf_hook = object()
    assert scoring._plain_head(model) is None
    model.lm_head = type("Quantised", (torch.nn.Linear,), {})(8, 9)
    assert scoring._plain_head(model) is None
    model = build("llama", {})
    own = {"__module__": "transformers_modules.own.modeling_own"}
    model.__class__ = type("OwnForCausalLM", (type(model),), own)
    assert scoring._plain_head(model) is None
