"""Label-preserving ablation equals a slow computation with weights made word by word."""

import numpy as np
import pytest
import torch
from torch import Tensor

from headprobe.causal.label_preserving import LabelPreserving, LabelWeights, NamedWords
from headprobe.causal.losses import ScoredSequences, ablated_losses
from headprobe.model.heads import observe_model
from tests.helpers.tiny import random_ids, tiny_model

WORDS = np.array([-1, 0, 1, 1, 2, -1, 3, 4, 4, 5, 6, -1])
"""The word of each token: a start, an unusable token inside, two words of two tokens."""
PROFILE = torch.tensor([0.5, 0.2, 0.1, 0.0, 0.05, 0.02, 0.01])
HEAD = (1, 2)
NAMED = NamedWords(np.array([8, 8, 10]), np.array([1, 3, 0]), np.array([1, 3, 0]))
CONTROL = NamedWords(np.array([8, 8, 10]), np.array([1, 3, 0]), np.array([2, 2, -1]))


def slow_row(row: int, weights: np.ndarray, named: NamedWords) -> np.ndarray:
    """The new weights of one row [T], word by word."""
    latest = max(WORDS[: row + 1].max(), -1)
    own = WORDS[row] if WORDS[row] >= 0 else latest + 1
    others = range(own)
    places = {word: np.flatnonzero(word == WORDS) for word in others}
    instance = [k for k in range(len(named.row)) if named.row[k] == row]
    new, given = weights.copy(), {}
    for k in instance:
        if named.given_to[k] >= 0:
            amount = weights[places[named.word[k]]].sum()
            given[named.given_to[k]] = given.get(named.given_to[k], 0) + amount
    rest = sum(weights[places[word]].sum() for word in others) - sum(given.values())
    free = [word for word in others if word not in given]
    likely = np.array([PROFILE[own - word - 1] for word in free])
    for word, share in zip(free, likely / likely.sum() if free else [], strict=True):
        new[places[word]] = rest * share / len(places[word])
    for word, amount in given.items():
        is_kept = any(named.word[k] == word == named.given_to[k] for k in instance)
        if not is_kept:
            new[places[word]] = amount / len(places[word])
    return new


@pytest.mark.parametrize("named", [NAMED, CONTROL], ids=["kept", "control"])
def test_weights_equal_those_made_word_by_word(named: NamedWords) -> None:
    observed = observe_model(tiny_model("llama-gqa"), "tiny", random_ids(24))
    ids = random_ids(len(WORDS), 5).numpy()
    places = [(0, t, int(ids[t + 1])) for t in range(len(ids) - 1)]
    scored = ScoredSequences((ids,), *(np.array(each) for each in zip(*places, strict=True)))
    weights = LabelWeights(PROFILE, [torch.from_numpy(WORDS)], {0: named})
    _, [fast] = ablated_losses(observed, scored, [LabelPreserving({HEAD: weights})])

    model = observed.model
    attentions: list[Tensor] = []
    model.set_attn_implementation("eager")
    attention = model.model.layers[HEAD[0]].self_attn
    values: list[Tensor] = []
    attention.v_proj.register_forward_hook(lambda _, __, result: values.append(result))
    attention.register_forward_hook(lambda _, __, result: attentions.append(result[1]))
    with torch.inference_mode():
        model(input_ids=torch.from_numpy(ids)[None], use_cache=False)
    own = attentions[0][0, HEAD[1]].numpy()
    new = np.stack([slow_row(row, own[row], named) for row in range(len(ids))])
    np.testing.assert_allclose(new.sum(1), own.sum(1), atol=1e-6)
    width, group = observed.head_dim, HEAD[1] // 2
    value = values[0][0, :, group * width : (group + 1) * width]
    written = torch.from_numpy(new).float() @ value

    def change(_: torch.nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
        given = args[0].clone()
        given[0, :, HEAD[1] * width : (HEAD[1] + 1) * width] = written
        return (given,)

    attention.o_proj.register_forward_pre_hook(change)
    with torch.inference_mode():
        logits = model(input_ids=torch.from_numpy(ids)[None], use_cache=False).logits[0]
    targets = torch.from_numpy(ids[1:]).long()
    slow = torch.nn.functional.cross_entropy(logits[:-1], targets, reduction="none")
    np.testing.assert_allclose(fast, slow, rtol=1e-5, atol=1e-5)
