"""Copying statistics, compared with plain loops and with heads that copy perfectly."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from headprobe.batching.corpus import align
from headprobe.batching.encoder import Encoder
from headprobe.batching.layout import pack_passages, plan_chunks
from headprobe.measure.copying import CopyingObserver, repeat_tokens
from headprobe.model.attention import TilePart
from headprobe.model.forward import observe_packed
from headprobe.model.heads import observe_model
from headprobe.vocabulary import LAGS
from tests.helpers.checkpoints import toy_tokenizer
from tests.helpers.passes import LARGE, SMALL, passages_of, run
from tests.helpers.probes import PROBES
from tests.helpers.tiny import build, random_ids, tiny_model


@pytest.mark.parametrize("limits", [SMALL, LARGE])
@pytest.mark.parametrize("name", ["llama-gqa", "mistral-window", "gpt_oss"])
def test_copying_sums_equal_plain_loops(name: str, limits) -> None:
    encoder, model = Encoder(toy_tokenizer(), "toy"), tiny_model(name)
    passages = passages_of(PROBES, encoder, 60)
    _, tallies = run(model, passages, encoder, limits)
    eager = copy.deepcopy(model)
    eager.set_attn_implementation("eager")
    numbers = np.unique(align(passages, encoder, lambda _: None, seed=0).token_ids)
    sequences = repeat_tokens(np.array(encoder.start), numbers, 128, seed=0)
    for place, (lag, sequence) in enumerate(zip(LAGS, sequences, strict=True)):
        ids = sequence.tolist()
        assert ids[:1] == list(encoder.start)
        assert ids[1 : lag + 1] == ids[lag + 1 :]
        assert len(set(ids)) == lag + 1
        with torch.inference_mode():
            attentions = eager(input_ids=torch.tensor([ids]), output_attentions=True).attentions
        assert tallies["copy_rows"][place] == lag
        weights = torch.stack(attentions)[:, 0].double().numpy()
        for layer, head in np.ndindex(weights.shape[:2]):
            hits, mass = {"duplicate": 0, "induction": 0}, {"duplicate": 0.0, "induction": 0.0}
            for row in range(lag + 1, 2 * lag + 1):
                for kind, target in (("duplicate", row - lag), ("induction", row - lag + 1)):
                    seen = weights[layer, head, row]
                    others = [seen[t] for t in range(1, row) if t != target]
                    hits[kind] += seen[target] > max(others)
                    mass[kind] += seen[target]
            for kind, expected in hits.items():
                at = place, layer, head
                assert tallies[f"{kind}_hits"][at] == expected, (kind, at)
                assert tallies[f"{kind}_mass"][at] == pytest.approx(mass[kind], abs=1e-4)
    for kind in ("duplicate", "induction"):  # a window of 6 tokens holds no copy
        assert (tallies[f"{kind}_hits"].sum() > 0) == (name != "mistral-window")


class Pretending(CopyingObserver):
    """Head 0 finds the earlier copy, head 1 the token after it, head 2 the token before the row
    and head 3 everything alike; all of them give most of their attention to the start."""

    ids: list[list[list[int]]]

    def attended(self, number: int, part: TilePart, weights: Tensor, scores: Tensor) -> None:
        fake = torch.zeros_like(weights)
        for b, ids in enumerate(self.ids[number]):
            for row in range(1, len(ids)):
                copies = [t for t in range(1, row) if ids[t] == ids[row]]
                fake[b, :, 0, 0, row] = 0.9
                fake[b, 0, copies, 0, row] = 0.1
                fake[b, 1, [t + 1 for t in copies], 0, row] = 0.1
                fake[b, 2, row - 1, 0, row] = 0.1
                fake[b, 3, : row + 1, 0, row] = 1 / (row + 1)
        super().attended(number, part, fake, scores)


def test_perfect_copying_heads_always_hit_and_other_heads_never() -> None:
    model = tiny_model("llama")
    observed = observe_model(model, "pretending", random_ids(9))
    observer = Pretending(observed, 1)
    sequences = repeat_tokens(np.array([1]), np.arange(300), 128, seed=3)
    for chosen in (np.array([0, 23, 5]), np.array([7])):
        lengths = np.array([len(sequences[e]) for e in chosen])
        ((*blocks,),) = plan_chunks(chosen, lengths, 4, tokens=1024, scores=1 << 20)
        observer.ids = [[sequences[e].tolist() for e in block.passages] for block in blocks]
        observer.begin(blocks)
        observe_packed(
            observed, pack_passages(dict(enumerate(sequences)), blocks, observed.device), observer
        )
    sums = observer.sums()
    rows = np.zeros(len(LAGS), dtype=int)
    rows[[0, 23, 5, 7]] = [LAGS[e] for e in (0, 23, 5, 7)]
    assert sums["copy_rows"].tolist() == rows.tolist()
    for kind, head in (("duplicate", 0), ("induction", 1)):
        for other in range(4):
            hits = np.broadcast_to(rows[:, None] * (other == head), (len(LAGS), 3))
            assert np.array_equal(sums[f"{kind}_hits"][:, :, other], hits), (kind, other)
        mass = sums[f"{kind}_mass"][:, 1, head]
        np.testing.assert_allclose(mass, rows * 0.1, atol=1e-5)


def test_sequences_longer_than_the_context_are_empty() -> None:
    encoder = Encoder(toy_tokenizer(), "toy")
    model = build("llama", {"max_position_embeddings": 40})
    _, tallies = run(model, passages_of(PROBES, encoder, 30), encoder)
    fits = [1 + 2 * lag <= 40 for lag in LAGS]
    assert 0 < sum(fits) < len(LAGS)
    assert tallies["copy_rows"].tolist() == np.where(fits, LAGS, 0).tolist()
    for name in ("duplicate_mass", "induction_mass"):
        assert ((tallies[name] > 0).all((1, 2)) == fits).all()


@given(
    st.lists(st.integers(0, 60), min_size=1, max_size=3),
    st.sets(st.integers(0, 60)),
    st.none() | st.integers(1, 100),
    st.integers(0, 3),
)
def test_sequences_repeat_distinct_ordinary_tokens(start, numbers, context, seed):
    args = np.array(start), np.array(sorted(numbers), dtype=np.int32), context
    sequences = repeat_tokens(*args, seed)
    assert len(sequences) == len(LAGS)
    ordinary = numbers - set(start)
    for lag, again, sequence in zip(LAGS, repeat_tokens(*args, seed), sequences, strict=True):
        assert np.array_equal(again, sequence)
        length = len(start) + 2 * lag
        if lag > len(ordinary) or (context is not None and length > context):
            assert len(sequence) == 0
            continue
        one, two = sequence[len(start) : -lag].tolist(), sequence[-lag:].tolist()
        assert sequence[: len(start)].tolist() == start
        assert one == two
        assert len(set(one)) == lag
        assert set(one) <= ordinary
