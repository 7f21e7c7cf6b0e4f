"""Similarity, column weights and examples compared with plain loops, and planted repeaters."""

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from headprobe.analysis.behaviour import behaviour_evidence, head_statistics
from headprobe.analysis.gains import compute_evidence
from headprobe.analysis.pos_control import fit_preferences
from headprobe.batching.corpus import align
from headprobe.batching.encoder import Encoder
from headprobe.measure.loop import measure
from headprobe.measure.memory import BatchLimits
from headprobe.model.heads import observe_model
from headprobe.roles.roles import judge
from headprobe.roles.rules import load_rules
from tests.helpers.checkpoints import toy_tokenizer
from tests.helpers.passes import LARGE, passages_of, run
from tests.helpers.probes import PROBES
from tests.helpers.tiny import build, random_ids, tiny_model


def eager_rows(model, encoder, passage):
    """Attention [L, H, T, T], o_proj inputs [L, T, H * V], last tokens of the passage's words."""
    corpus = align([passage], encoder, lambda _: None, seed=0)
    eager = copy.deepcopy(model)
    eager.set_attn_implementation("eager")
    written = []
    for layer in eager.model.layers:
        layer.self_attn.o_proj.register_forward_pre_hook(lambda _, args: written.append(args[0][0]))
    ids = torch.from_numpy(corpus.token_ids).long()[None]
    with torch.inference_mode():
        weights = torch.stack(eager(input_ids=ids, output_attentions=True).attentions)[:, 0]
    return corpus, weights.double(), torch.stack(written).double()


def test_similarity_of_pairs_equals_plain_loops() -> None:
    encoder = Encoder(toy_tokenizer(), "toy")
    passages = passages_of(PROBES, encoder, 60)
    model = tiny_model("llama-gqa")
    instances, tallies = run(model, passages, encoder)
    assert int(tallies["sampled_rows"]) == (instances.usable & (instances.place > 0)).sum()
    heads, layers = 4, 3
    expected = {name: np.zeros((12, 12)) for name in ("affinity", "cosine", "both_active")}
    for passage in passages:
        corpus, weights, written = eager_rows(model, encoder, passage)
        last, usable = corpus.last_token, np.flatnonzero(corpus.instances.usable)
        shares, outputs, norms = {}, {}, {}
        for layer in range(layers):
            out_map = model.model.layers[layer].self_attn.o_proj.weight.detach().double()
            for head in range(heads):
                columns = slice(head * 12, head * 12 + 12)
                out = written[layer][:, columns] @ out_map[:, columns].T
                mean = out[last[usable]].mean(0)
                for word in usable[usable > 0]:
                    row = weights[layer, head, last[word]]
                    share = np.array(
                        [
                            float(row[corpus.word_of_token == key].sum())
                            for key in usable[usable < word]
                        ]
                    )
                    at = layer * heads + head, int(word)
                    shares[at] = share / share.sum() if share.sum() else share
                    outputs[at] = out[last[word]] - mean
                    norms[at] = float(outputs[at].norm())
        for word in usable[usable > 0]:
            active = []
            for number in range(12):
                row = [norms[number // heads * heads + h, int(word)] for h in range(heads)]
                loud = norms[number, int(word)] >= 0.3 * sorted(row)[(heads - 1) // 2]
                active.append(loud and shares[number, int(word)].sum() > 0)
            for a in range(12):
                for b in range(12):
                    if active[a] and active[b]:
                        one, two = (a, int(word)), (b, int(word))
                        expected["both_active"][a, b] += 1
                        expected["affinity"][a, b] += np.sqrt(shares[one] * shares[two]).sum()
                        expected["cosine"][a, b] += float(
                            torch.cosine_similarity(outputs[one], outputs[two], dim=0)
                        )
    for name, array in expected.items():
        np.testing.assert_allclose(tallies[name], array, atol=1e-3, err_msg=name)


def test_columns_and_examples_equal_plain_loops() -> None:
    encoder = Encoder(toy_tokenizer(), "toy")
    passages = passages_of(PROBES, encoder, 400)[:1]
    model = tiny_model("llama-gqa")
    _, tallies = run(model, passages, encoder)
    corpus, weights, _ = eager_rows(model, encoder, passages[0])
    found = corpus.instances
    numbers = np.unique(corpus.token_ids)
    drawn, rows = np.zeros((3, len(numbers))), np.zeros(len(numbers), dtype=int)
    for token in range(1, len(corpus.token_ids)):
        column = int(np.searchsorted(numbers, corpus.token_ids[token]))
        for word in np.flatnonzero(found.usable):
            if corpus.last_token[word] > token and corpus.word_of_token[token] != word:
                rows[column] += 1
                drawn[:, column] += weights[:, :, corpus.last_token[word], token].mean(1).numpy()
    assert np.array_equal(tallies["column_token_rows"], rows)
    np.testing.assert_allclose(tallies["column_token"], drawn, atol=1e-4)
    for place, query in enumerate(found.example_words):
        row = weights[1, 2, corpus.last_token[query]]
        to_words = [float(row[corpus.word_of_token == key].sum()) for key in range(query)]
        strongest = np.argsort([-w for w in to_words], kind="stable")[:5]
        shown = tallies["example_word"][place, 1, 2]
        assert (shown[: len(strongest)] - 1).tolist() == strongest.tolist()
        np.testing.assert_allclose(
            tallies["example_weight"][place, 1, 2][: len(strongest)],
            np.array(to_words)[strongest],
            atol=1e-5,
        )


@pytest.fixture(scope="module")
def planted():
    """Head 0.1 repeats 0.0, 1.3 repeats 1.2 three times as loud, 2.0 opposes 2.1, 2.3 is silent."""
    model = build("llama", {"num_key_value_heads": 4, "num_hidden_layers": 3})
    width = 12

    def copy_head(layer: int, source: int, target: int, scale: float) -> None:
        attention = model.model.layers[layer].self_attn
        old, new = (slice(h * width, (h + 1) * width) for h in (source, target))
        with torch.no_grad():
            for name in ("q_proj", "k_proj", "v_proj"):
                weight = getattr(attention, name).weight
                weight[new] = weight[old]
            attention.o_proj.weight[:, new] = scale * attention.o_proj.weight[:, old]

    copy_head(0, 0, 1, 1.0)
    copy_head(1, 2, 3, 3.0)
    copy_head(2, 1, 0, -1.0)
    with torch.no_grad():
        model.model.layers[2].self_attn.o_proj.weight[:, 3 * width :] = 0
    encoder = Encoder(toy_tokenizer(), "toy")
    passages = passages_of(Path(PROBES), encoder, 60)
    corpus = align(passages, encoder, lambda _: None, seed=0)
    observed = observe_model(model, "planted", random_ids(9))
    limits = BatchLimits(LARGE.tokens, LARGE.scores)
    measured = measure(
        observed, corpus, seed=0, idle_line=0.3, limits=limits, advance=lambda _: None
    )
    rules = load_rules()
    rules = replace(rules, repeater=replace(rules.repeater, min_rows=20))
    tallies = measured.tallies
    preferences = fit_preferences(corpus.instances, tallies)
    evidence = compute_evidence(corpus.instances, tallies, preferences, rules)
    statistics = head_statistics(corpus.instances, tallies, rules.confidence)
    verdicts, pairs = judge(
        evidence,
        statistics,
        behaviour_evidence(
            corpus.instances,
            tallies,
            preferences,
            confidence=0.95,
            min_kept=0.05,
            min_attention=5.0,
        ),
        tallies,
        4,
        rules,
    )
    return {(v.layer, v.head): v for v in verdicts}, pairs


def test_only_planted_repeaters_are_redundant(planted) -> None:
    verdicts, _ = planted
    repeats = {at: v.repeater_of for at, v in verdicts.items() if v.repeater_of}
    assert set(map(frozenset, ({f"L{a}H{b}", of} for (a, b), of in repeats.items()))) == {
        frozenset({"L0H0", "L0H1"}),
        frozenset({"L1H2", "L1H3"}),
    }
    assert all(verdicts[at].role == "redundant" for at in repeats)


def test_of_two_repeaters_the_one_with_the_larger_norm_keeps_its_role(planted) -> None:
    verdicts, _ = planted
    assert verdicts[1, 2].repeater_of == "L1H3"
    assert verdicts[1, 3].repeater_of is None


def test_head_with_zero_output_is_idle_but_not_a_repeater(planted) -> None:
    verdicts, _ = planted
    assert [at for at, verdict in verdicts.items() if verdict.idle] == [(2, 3)]
    assert verdicts[2, 3].role == "redundant"
    assert verdicts[2, 3].repeater_of is None


def test_opposing_heads_are_reported_as_a_pair_but_not_redundant(planted) -> None:
    verdicts, pairs = planted
    opposed = {(p.name_a, p.name_b) for p in pairs if p.relation == "opposes"}
    assert opposed == {("L2H0", "L2H1")}
    assert verdicts[2, 0].role != "redundant"
