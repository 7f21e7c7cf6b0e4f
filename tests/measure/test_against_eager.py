"""Every sum equals that of an independent, slow computation from eager attention."""

import copy
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch

from headprobe.analysis.behaviour import head_statistics
from headprobe.analysis.twins import separate_twins
from headprobe.batching.encoder import Encoder
from headprobe.measure.memory import BatchLimits
from headprobe.model import forward as scoring
from headprobe.model.load import CheckpointSource, load_config, load_encoder, load_model
from headprobe.runs.sketch import sketched_words
from headprobe.runs.sums import AXES, HALF, unpack_heads
from headprobe.vocabulary import (
    CATEGORIES,
    DEPREL_PAIRS,
    DEPRELS,
    FOLDS,
    LAGS,
    QUADRANTS,
    SKETCH_WORDS,
    UPOS,
)
from tests.helpers.checkpoints import SHARED, toy_tokenizer
from tests.helpers.passes import LARGE, SMALL, passages_of, run
from tests.helpers.probes import PROBES
from tests.helpers.slow import Slow, measure_slowly
from tests.helpers.tiny import tiny_model


def compare(instances, tallies, slow: Slow, tolerance: float) -> None:
    counts = {r: len(instances.of(i)) for i, r in enumerate(instances.relations)}
    assert {relation: n for relation, n in counts.items() if n} == dict(slow.n)
    layers, heads = tallies["sink"].shape
    every = [(layer, head) for layer in range(layers) for head in range(heads)]
    for number, relation in enumerate(instances.relations):
        n = max(slow.n[relation], 1)
        for at in every:
            for name in ("mass", "kept", "share", "share_norm"):
                if name == "share":
                    found = tallies["share_by_document"][number, :, *at].sum() / n
                else:
                    found = tallies[name][(number, *at)] / n
                assert found == pytest.approx(slow.sums[name, relation, at] / n, abs=tolerance), (
                    name,
                    relation,
                    at,
                )
        links = instances.of(number)
        first = instances.first_instance[number]
        bits = unpack_heads(tallies["hits"][first : first + len(links)], layers * heads)
        passage = instances.passage[links.query]
        for index, hits in enumerate(bits.reshape(-1, layers, heads)):
            name = str(instances.passage_ids[passage[index]])
            query, nearest = links.query[index], links.nearest[index]
            place = int(instances.place[query]), int(instances.place[nearest])
            for at in every:
                assert hits[at] == slow.hits[relation, name, *place, at], (relation, place, at)
        for name in ("document", "form"):
            for at in every:
                expected = [slow.share[relation, name, fold, at] for fold in range(FOLDS)]
                found = tallies[f"share_by_{name}"][number, :, *at]
                np.testing.assert_allclose(found, expected, atol=tolerance * n)
    for at in every:
        for name in ("sink", "self", "previous", "entropy", "distance", "punctuation"):
            assert tallies[name][at] / slow.rows == pytest.approx(
                slow.heads[name, at] / slow.rows, abs=tolerance * 50
            ), (name, at)
        assert tallies["rows_stripped"][at] == slow.heads["rows_stripped", at]
        for name in ("profile", "profile_norm"):
            expected = [slow.profile[name, at, d] for d in range(1, 512)]
            np.testing.assert_allclose(tallies[name][at], expected, atol=tolerance * slow.rows)
    assert tallies["profile_pairs"].tolist() == [slow.pairs[d] for d in range(1, 512)]
    assert int(tallies["rows"]) == slow.rows


def pairs_agree(instances, tallies, slow: Slow, tolerance: float) -> None:
    """Compare the sums of all kinds of word pairs, and the winner of every sampled row."""
    expected = {name: np.zeros_like(tallies[name]) for name in ("category", "deprel_pairs")}
    for (distance, query, earlier, at), share in slow.category.items():
        number = (distance * len(UPOS) + UPOS.index(query)) * len(UPOS) + UPOS.index(earlier)
        expected["category"][number, *at] += share
    for (quadrant, query, earlier, at), share in slow.deprels.items():
        number = DEPRELS.index(query) * len(DEPRELS) + DEPRELS.index(earlier)
        expected["deprel_pairs"][quadrant, number, *at] += share
    for name, sums in expected.items():
        np.testing.assert_allclose(tallies[name], sums, atol=tolerance * 50, err_msg=name)
    layers, heads = tallies["sink"].shape
    for place, word in enumerate(instances.sampled_words):
        row = str(instances.passage_ids[instances.passage[word]]), int(instances.place[word])
        for at in ((layer, head) for layer in range(layers) for head in range(heads)):
            assert tallies["sampled_winner"][place, *at] == slow.winner[*row, at], (row, at)
            kept = tallies["sampled_kept"][place, *at]
            assert kept == pytest.approx(slow.kept[*row, at], abs=tolerance), (row, at)


def sketches_agree(instances, tallies, slow: Slow) -> None:
    """Compare the stripped attention of every sketched row, in half precision."""
    found = tallies["sketch"]
    assert found.dtype == np.float16
    expected = np.zeros(found.shape)
    for place, word in enumerate(sketched_words(instances)):
        row = str(instances.passage_ids[instances.passage[word]]), int(instances.place[word])
        for at in np.ndindex(found.shape[1:3]):
            for earlier, share in slow.stripped[*row, at].items():
                if row[1] - earlier <= SKETCH_WORDS:
                    expected[place, *at, row[1] - earlier - 1] = share
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)


def outputs_agree(instances, tallies, slow: Slow) -> None:
    """Compare relative output norms, with the mean over all rows removed."""
    norms = {}
    for at, rows in slow.outputs.items():
        written = torch.stack(rows)
        norms[at] = float((written - written.mean(0)).square().sum(-1).mean().sqrt())
    layers = {layer for layer, _ in norms}
    found = head_statistics(instances, tallies, 0.95).output_norm
    for (layer, head), norm in norms.items():
        median = np.median([norms[at] for at in norms if at[0] == layer])
        assert found[layer, head] == pytest.approx(norm / median, rel=1e-4)
    assert layers == set(range(found.shape[0]))


@pytest.mark.parametrize("name", ["llama-gqa", "mistral-window", "qwen3", "gpt_oss", "gemma2"])
@pytest.mark.parametrize("budget", [40, 100])
def test_sums_of_tiny_models_equal_the_slow_computation(name: str, budget: int) -> None:
    tokenizer = toy_tokenizer()
    encoder = Encoder(tokenizer, "toy")
    passages = passages_of(PROBES, encoder, budget)
    assert len(passages) > 1
    model = tiny_model(name)
    eager = copy.deepcopy(model)
    eager.set_attn_implementation("eager")
    slow = measure_slowly(eager, tokenizer, encoder.start, passages)
    instances, tallies = run(model, passages, encoder)
    assert len(instances.relations) > 25
    compare(instances, tallies, slow, tolerance=1e-5)
    assert instances.domains == ("news", "story")
    assert instances.tokens.max() > 1
    assert not instances.usable.all()
    pairs_agree(instances, tallies, slow, tolerance=1e-5)
    sketches_agree(instances, tallies, slow)
    outputs_agree(instances, tallies, slow)
    assert float(tallies["bits"]) == pytest.approx(slow.bits, rel=1e-5)


def test_sums_of_semantic_relations() -> None:
    tokenizer = toy_tokenizer()
    encoder = Encoder(tokenizer, "toy")
    path = Path(__file__).parents[2] / "configs" / "probes" / "semantic.conllu"
    passages = passages_of(path, encoder, 512, most=6)
    model = tiny_model("llama-gqa")
    eager = copy.deepcopy(model)
    eager.set_attn_implementation("eager")
    slow = measure_slowly(eager, tokenizer, encoder.start, passages)
    instances, tallies = run(model, passages, encoder)
    text = separate_twins(instances, tallies)
    semantic = [r for r in text.instances.relations if r.family == "semantic"]
    assert sum(slow.n[relation] for relation in semantic) == 12
    compare(text.instances, text.tallies, slow, tolerance=1e-5)


@pytest.mark.parametrize("name", ["llama-gqa", "mistral-window"])
def test_sums_do_not_depend_on_batch_size_or_order(name: str) -> None:
    """Counts and hits are equal, and sums agree to 1e-6."""
    encoder = Encoder(toy_tokenizer(), "toy")
    passages = passages_of(PROBES, encoder, 45)
    _, small = run(tiny_model(name), passages, encoder, SMALL)
    instances, large = run(tiny_model(name), passages, encoder, LARGE)
    rng = np.random.default_rng(0)
    shuffled = [passages[i] for i in rng.permutation(len(passages))]
    other, mixed = run(tiny_model(name), shuffled, encoder, LARGE)
    assert {r: len(instances.of(i)) for i, r in enumerate(instances.relations)} == {
        r: len(other.of(i)) for i, r in enumerate(other.relations)
    }
    order_free = {
        "profile",
        "sink",
        "entropy",
        "mass",
        "share_by_form",
        "share_norm",
        "kept",
        "category",
    }
    order_free |= {"deprel_pairs", "copy_rows", "duplicate_mass", "induction_mass"}
    for key, array in large.arrays.items():
        if array.dtype.kind in "iu":
            assert np.array_equal(array, small[key]), key
        else:
            rounding = 1e-3 if key in HALF else 1e-6
            np.testing.assert_allclose(array, small[key], rtol=rounding, atol=1e-5, err_msg=key)
        if key in order_free:
            np.testing.assert_allclose(array, mixed[key], rtol=1e-6, atol=1e-5, err_msg=key)
    for key in ("duplicate_hits", "induction_hits"):
        assert np.array_equal(large[key], mixed[key]), key
    assert hits_by_place(instances, large) == hits_by_place(other, mixed)
    assert winners(instances, large) == winners(other, mixed)
    one, two = sketches(instances, large), sketches(other, mixed)
    assert one.keys() == two.keys()
    for row, shares in one.items():
        np.testing.assert_allclose(shares, two[row], rtol=1e-3, atol=1e-5)


def hits_by_place(instances, tallies) -> dict[tuple[object, ...], bytes]:
    """The packed hits of every instance, by relation, passage, query word and targets."""
    found = {}
    for number, relation in enumerate(instances.relations):
        links = instances.of(number)
        names = instances.passage_ids[instances.passage[links.query]].tolist()
        first = instances.first_instance[number]
        for index, name in enumerate(names):
            query = links.query[index]
            targets = query - links.targets[links.first[index] : links.stop[index]]
            place = relation, name, int(instances.place[query]), tuple(targets.tolist())
            found[place] = tallies["hits"][first + index].tobytes()
    return found


def winners(instances, tallies) -> dict[tuple[str, int], list[list[int]]]:
    """Return the winners of every sampled row, by passage and word."""
    rows = zip(
        instances.passage_ids[instances.passage[instances.sampled_words]].tolist(),
        instances.place[instances.sampled_words].tolist(),
        strict=True,
    )
    return dict(zip(rows, tallies["sampled_winner"].tolist(), strict=True))


def sketches(instances, tallies) -> dict[tuple[str, int], np.ndarray]:
    """Return the sketch of every sketched row, by passage and word."""
    rows = zip(
        instances.passage_ids[instances.passage[sketched_words(instances)]].tolist(),
        instances.place[sketched_words(instances)].tolist(),
        strict=True,
    )
    return dict(zip(rows, tallies["sketch"], strict=True))


def test_run_has_all_declared_arrays_with_consistent_axes() -> None:
    encoder = Encoder(toy_tokenizer(), "toy")
    instances, tallies = run(tiny_model("llama-gqa"), passages_of(PROBES, encoder, 60), encoder)
    assert set(tallies.arrays) == set(AXES)
    lengths: dict[str, set[int]] = defaultdict(set)
    for name, array in tallies.arrays.items():
        for axis, length in zip(AXES[name], array.shape, strict=True):
            lengths[axis].add(length)
    assert {axis: found for axis, found in lengths.items() if len(found) > 1} == {}
    assert lengths["R"] == {len(instances.relations)}
    assert lengths["I"] == {instances.first_instance[-1]}
    assert lengths["A"] == {len(instances.sampled_words)}
    assert (lengths["Y"], lengths["M"], lengths["O"]) == ({CATEGORIES}, {DEPREL_PAIRS}, {QUADRANTS})
    assert lengths["E"] == {len(LAGS)}


def test_number_of_logits_at_a_time_is_within_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a large vocabulary, the logits of a whole chunk would fill an accelerator."""
    encoder = Encoder(toy_tokenizer(), "toy")
    passages = passages_of(PROBES, encoder, 45)
    sizes, ask = [], scoring._logits

    def noting(*asked):
        logits = ask(*asked)
        sizes.append(logits.numel())
        return logits

    monkeypatch.setattr(scoring, "_logits", noting)
    run(tiny_model("llama-gqa"), passages, encoder, BatchLimits(4096, 1 << 24, logits=1 << 10))
    assert len(sizes) > 1
    assert max(sizes) <= 1 << 10


def test_sums_of_a_trained_model_on_treebank_text_equal_the_slow_computation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("headprobe.measure.loop.SCORED_TOKENS", 10**6)  # all of them
    folder = SHARED / "models" / "stories260K"
    probes = SHARED / "treebanks" / "ud_english_gum" / "en_gum-ud-dev.conllu"
    if not folder.is_dir() or not probes.is_file():
        pytest.skip("../shared is not here")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = CheckpointSource(str(folder))
    encoder = load_encoder(source)
    passages = passages_of(probes, encoder, 160, most=6)
    eager = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    slow = measure_slowly(eager, tokenizer, encoder.start, passages)
    device = torch.device("cpu")
    model = load_model(source, load_config(source), device, torch.float32, pytest.fail)
    instances, tallies = run(model, passages, encoder)
    compare(instances, tallies, slow, tolerance=1e-4)
    pairs_agree(instances, tallies, slow, tolerance=1e-4)
    outputs_agree(instances, tallies, slow)
    assert float(tallies["bits"]) == pytest.approx(slow.bits, rel=1e-4)
