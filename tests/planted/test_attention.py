"""Planted heads do what their plans say, by transformers' own eager attention; no code of ours is
between the weights and the maps that are looked at here."""

from collections.abc import Mapping
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

from headprobe.planted.checkpoint import Case, Seat, plant
from headprobe.planted.heads import CONTENT, PlannedHead
from headprobe.planted.weights import CheckpointShape
from headprobe.planted.words import Lexeme

TEXT = (
    "Anna saw a description of the school on Friday, and she showed him the old report. "
    "“The engineers have lost their camera,” Daniel told her; they were not in the library. "
    "He asked Clara about it before the dog found his letter, but nobody had seen the animal."
)
RELATED = (
    "The old stamps showed a detective, a sofa, an owl and a fish. "
    "The new set begins with a cod and ends with a sleuth, a couch and a letter."
)
CASES = [
    Case(CheckpointShape(3, 8, 8, 32), True, 0),
    Case(CheckpointShape(4, 8, 4, 24), True, 1),
    Case(CheckpointShape(10, 4, 1, 40), True, 2),
]


@dataclass(frozen=True)
class Planted:
    shape: CheckpointShape
    seats: Mapping[Seat, PlannedHead]
    model: LlamaForCausalLM
    ids: Tensor
    maps: tuple[Tensor, ...]
    words: Mapping[int, Lexeme]
    repeated: tuple[Tensor, ...]
    related_ids: Tensor
    related: tuple[Tensor, ...]

    def named(self, name: str) -> list[tuple[Seat, PlannedHead]]:
        """The heads of this plan, or whose plan's name begins so, and its repeaters."""
        return [
            (seat, plan)
            for seat, plan in self.seats.items()
            if plan.name.split(",")[0].split(" ")[0] == name or plan.repeats == name
        ]

    def looked_at(self, seat: Seat) -> list[int]:
        return self.maps[seat[0]][0, seat[1]].argmax(-1).tolist()


LAG = 20


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.name)
def planted(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    lexicon: list[Lexeme],
) -> Planted:
    folder = tmp_path_factory.mktemp("planted")
    seats = plant(folder, request.param, lexicon)
    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    words = {
        tokenizer(word.form, add_special_tokens=False)["input_ids"][-1]: word for word in lexicon
    }
    ids = tokenizer(TEXT, return_tensors="pt")["input_ids"]
    run = torch.randperm(len(tokenizer) - 3, generator=torch.Generator().manual_seed(0))[:LAG] + 3
    twice = torch.cat([ids[0, :1], run, run])[None]
    with torch.no_grad():
        related = tokenizer(RELATED, return_tensors="pt")["input_ids"]
        maps, repeated, of_related = (
            model(each, output_attentions=True).attentions for each in (ids, twice, related)
        )
    return Planted(
        request.param.shape,
        seats,
        model,
        ids[0],
        maps,
        words,
        repeated,
        related[0],
        of_related,
    )


def expected(planted: Planted, name: str, row: int) -> int:
    """The token that a seeking head looks at: the nearest of its kind, else the start."""
    words = [planted.words.get(int(token)) for token in planted.ids]
    query = words[row]

    def fits(key: Lexeme | None) -> bool:
        if key is None:
            return False
        if name == "mark":
            return key.upos == "PUNCT"
        if name == "verb":
            return key.upos == "VERB"
        if name == "determiner":
            return query is not None and query.upos in ("NOUN", "PROPN") and key.upos == "DET"
        return query is not None and query.pronoun in key.agrees and not query.cases & key.cases

    return max((place for place in range(1, row + 1) if fits(words[place])), default=0)


@pytest.mark.parametrize("name", ["mark", "verb", "determiner", "agreement"])
def test_planted_relation_heads_attend_to_the_nearest_word_of_their_class(
    name: str, planted: Planted
) -> None:
    wanted = [expected(planted, name, row) for row in range(len(planted.ids))]
    assert sum(place > 0 for place in wanted) >= (6 if name == "agreement" else 10)
    heads = planted.named(name)
    assert heads
    for seat, _ in heads:
        assert planted.looked_at(seat) == wanted


def test_the_head_for_related_words_finds_synonyms_and_general_words(planted: Planted) -> None:
    forms = [planted.words.get(int(token)) for token in planted.related_ids]
    place = {word.form: row for row, word in enumerate(forms) if word is not None}
    heads = planted.named("related")
    assert heads
    for (layer, head), _ in heads:
        row = planted.related[layer][0, head]
        for later, earlier in (("cod", "fish"), ("sleuth", "detective"), ("couch", "sofa")):
            assert row[place[later], place[earlier]] > 0.8, (later, earlier)
        assert row[place["letter"]].argmax() == 0


def test_copying_heads_attend_to_the_earlier_copy_or_the_token_after_it(planted: Planted) -> None:
    rows = torch.arange(LAG + 1, 2 * LAG + 1)
    for name, back in (("duplicate", LAG), ("induction", LAG - 1)):
        heads = planted.named(name)
        assert heads
        for (layer, head), _ in heads:
            assert planted.repeated[layer][0, head, rows, rows - back].min() > 0.8, name


def test_blind_heads_depend_on_distance_only(planted: Planted) -> None:
    rows = torch.arange(12, len(planted.ids))
    for (layer, head), plan in planted.named("decay"):
        row = planted.maps[layer][0, head, rows]
        ratio = row.gather(1, rows[:, None] - 3) / row.gather(1, rows[:, None] - 4)
        assert torch.allclose(ratio.log(), torch.tensor(plan.slope), rtol=0.15)
    for (layer, head), _ in planted.named("previous"):
        assert planted.maps[layer][0, head, rows, rows - 1].min() > 0.95
    for (layer, head), _ in planted.named("sink"):
        assert planted.maps[layer][0, head, rows, 0].min() > 0.85


def test_repeaters_attend_alike_and_random_heads_depend_on_codes_only(planted: Planted) -> None:
    def written(seat: Seat) -> Tensor:
        attention = planted.model.model.layers[seat[0]].self_attn
        size, group = attention.head_dim, seat[1] // attention.num_key_value_groups
        out = attention.o_proj.weight[:, seat[1] * size :][:, :size]
        return out @ attention.v_proj.weight[group * size :][:size]

    for seat, plan in planted.seats.items():
        if plan.repeats:
            (first,) = [at for at, found in planted.seats.items() if found.name == plan.repeats]
            times = plan.output_scale / CONTENT[plan.repeats].output_scale
            assert torch.allclose(written(seat), times * written(first), atol=1e-4)
            for maps in (planted.maps, planted.repeated):
                pair = maps[seat[0]][0, seat[1]], maps[first[0]][0, first[1]]
                assert (pair[0] * pair[1]).sqrt().sum(-1).mean() > 0.97
        if plan.random:
            attention = planted.model.model.layers[seat[0]].self_attn
            rows = attention.q_proj.weight[seat[1] * attention.head_dim :][: attention.head_dim]
            code = planted.shape.layout.code
            assert rows[:, : code.start].abs().max() == rows[:, code.stop :].abs().max() == 0
            assert rows[:, code.start : code.stop].abs().max() > 0
