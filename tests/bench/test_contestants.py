"""What the bench compares does the same work: the same passes, the same attention."""

import pytest
import torch
from torch.nn.utils.rnn import pad_sequence

from headprobe.batching.corpus import align
from headprobe.batching.encoder import Encoder
from headprobe.model.heads import observe_model
from tests.bench.by_hand import look_eagerly
from tests.bench.contestants import WAYS, Contest
from tests.bench.peers import PEERS, checked, missing
from tests.helpers.checkpoints import toy_tokenizer
from tests.helpers.passes import passages_of
from tests.helpers.probes import PROBES
from tests.helpers.tiny import random_ids, tiny_model

LOOKS = {"by hand": look_eagerly, **PEERS}


def contest_of(architecture: str) -> Contest:
    encoder = Encoder(toy_tokenizer(), "toy")
    corpus = align(passages_of(PROBES, encoder, 40), encoder, lambda _: None, seed=0)
    return Contest(observe_model(tiny_model(architecture), "tiny", random_ids(9)), corpus)


def needs(way: str) -> None:
    if way in missing():
        pytest.skip("not installed: it is no dependency")


def batch():
    """Two passages, one padded."""
    ids = [random_ids(9), random_ids(5, seed=1)]
    return pad_sequence(ids, True), pad_sequence([torch.ones_like(row) for row in ids], True)


def test_the_limit_passes_what_the_padded_pass_does() -> None:
    contest = contest_of("llama-gqa")
    rows = []

    def keep(module, args, kwargs, found):
        hidden, real = found.last_hidden_state, kwargs.get("attention_mask")
        rows[-1].append(hidden[0] if real is None else hidden[real.bool()])

    contest.model.base_model.register_forward_hook(keep, with_kwargs=True)
    for pass_all in (lambda: contest.limit(copying=False), contest.padded):
        rows.append([])
        pass_all()
    limit, padded = map(torch.cat, rows)
    torch.testing.assert_close(limit, padded, rtol=0, atol=1e-4)


@pytest.mark.parametrize("architecture", ["llama-gqa", "mistral-window", "gpt_oss"])
@pytest.mark.parametrize("way", LOOKS)
def test_padding_and_tools_change_no_attention(way: str, architecture: str) -> None:
    needs(way)
    model, (ids, real), maps = tiny_model(architecture), batch(), []
    model.set_attn_implementation("eager")
    with torch.inference_mode():
        alone = [
            model(input_ids=row[of.bool()][None], output_attentions=True).attentions
            for row, of in zip(ids, real, strict=True)
        ]
        LOOKS[way](model)(ids, real, maps.append)
    for passage, expected in enumerate(alone):
        length = int(real[passage].sum())
        found = [layer[passage, :, :length, :length] for layer in maps]
        torch.testing.assert_close(found, [layer[0] for layer in expected], rtol=0, atol=1e-5)


def test_who_sees_other_attention_is_refused() -> None:
    def astray(model):
        look = look_eagerly(model)
        return lambda ids, real, read: look(ids, real, lambda weights: read(weights.mT))

    with pytest.raises(AssertionError):
        checked(astray, tiny_model("llama-gqa"), *batch())


@pytest.mark.parametrize("way", WAYS)
def test_every_way_runs_where_masks_are_special(way: str) -> None:
    needs(way)
    WAYS[way](contest_of("gpt_oss"))()
