"""Checkpoints with engines that take over from one another, for the self-test of ``takeover``.

Texts have sentences such as "Ann saw Tom near the barn . He slept ." The verb after a pronoun is
that of the name that it refers to, each name having its own verb; the pronoun's gender says which
of the two names that is. An *engine* is a head that attends from the pronoun to the name and writes
the name's code, from which the output layer reads the verb: without it, all verbs are equally
likely.

- ``sole``: one engine.
- ``parallel``: two engines that write the same. Either is enough, so the loss without both is
  higher than the sum of both effects.
- ``backup``: an engine, and a head in a later layer that looks for the name unless the engine's
  mark stands in the residual stream: it starts when the engine is ablated.
- ``elsewhere``: a head that attends like an engine and writes nothing there, but in other rows
  writes the code of a place: its label does not explain what it does.

In each checkpoint, an *unrelated* head predicts the word after "near the" in a later layer. All
other heads attend to words by distance, and write what no head and no output reads.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from types import MappingProxyType

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from headprobe.planted.checkpoint import END, START, UNKNOWN, build_tokenizer
from headprobe.planted.weights import CONSTANT_SIZE, ROPE_THETA, CheckpointShape

SHAPE = CheckpointShape(5, 8, 8, 96)
"""The size of the checkpoints. A head has room for the codes of all names, and the layers before
the backup have enough heads for its controls."""

MALE = ("Tom", "Bob", "Ned", "Max", "Sam", "Jim", "Leo", "Ben", "Dan", "Gus")
FEMALE = ("Ann", "Eve", "Ida", "Joy", "Liz", "Meg", "Pam", "Sue", "Una", "Zoe")
VERBS = MappingProxyType(
    dict(
        zip(
            (*MALE, *FEMALE),
            (
                *("slept", "ran", "sang", "fell", "swam", "left", "won", "lost", "ate", "rose"),
                *("spoke", "drew", "wept", "dug", "flew", "sat", "hid", "rode", "woke", "dealt"),
            ),
            strict=True,
        )
    )
)
"""The verb of each name."""
PLACES = ("barn", "lake", "mill", "road", "gate", "hill", "pond", "well", "yard", "shed")
THINGS = MappingProxyType(
    dict(
        zip(
            PLACES,
            ("hay", "fish", "flour", "carts", "posts", "grass", "ducks", "water", "hens", "tools"),
            strict=True,
        )
    )
)
"""What is at each place."""
LINKS = ("saw", "met", "knew", "called")
FILLERS = ("then", "often", "again", "once", "later", "maybe")
PRONOUNS = MappingProxyType({"He": MALE, "She": FEMALE})

CASES = ("sole", "parallel", "backup", "elsewhere", "random")
"""The kinds of checkpoints; the heads of the last have random weights."""

ENGINE, COPY, BACKUP, UNRELATED = (2, 2), (3, 5), (3, 6), (4, 1)
"""Layer and head of the engine, of its copy, of its backup and of the unrelated head."""

_SIZE = 14.0
"""The size of a code that an engine writes: enough to be sure of the verb."""

_CLASS_SIZE = 5.0
"""How strongly a word predicts the class of the next one, without any head: verbs after pronouns,
places after "the". Without heads, too, a model is above chance."""

_FEATURES = (
    *("start", "male", "female", "he", "she", "the", "near", "place", "done", "name"),
    *(f"name {name}" for name in VERBS),
    *(f"place {place}" for place in PLACES),
    *(f"verb of {name}" for name in VERBS),
    *(f"thing of {place}" for place in PLACES),
    *(f"scratch {number}" for number in range(len(VERBS) + len(PLACES))),
)
"""Features of the residual stream, one dimension each; the constant comes first."""

_AT = MappingProxyType({name: place for place, name in enumerate(("constant", *_FEATURES))})

_SPREAD, _OUTPUT_SPREAD = 1.0, 0.005
"""The standard deviations of random weights: attention is uneven, and outputs are so small that the
model stays above chance."""

HIDDEN = -(-len(_AT) // SHAPE.heads) * SHAPE.heads


@dataclass(frozen=True)
class _Head:
    """A head: the scores of features of keys by features of queries, and what it writes.

    ``scores`` maps (feature of the query, feature of the key) to a score; ``writes`` maps the
    feature that is read at the key to the features that are written, with their sizes.
    """

    scores: Mapping[tuple[str, str], float]
    writes: Mapping[str, Mapping[str, float]]
    slope: float = 0.0
    """The score lost with each token of distance."""


def _copies(size: float) -> dict[str, dict[str, float]]:
    return {f"name {name}": {f"verb of {name}": size} for name in VERBS}


_TO_NAME = {
    ("constant", "start"): 60.0,
    ("he", "male"): 90.0,
    ("she", "female"): 90.0,
}
_ENGINE = _Head(_TO_NAME, _copies(_SIZE), slope=0.5)
_PLACE_HEAD = _Head(
    {("constant", "start"): 60.0, ("place", "place"): 90.0},
    {f"place {place}": {f"thing of {place}": _SIZE} for place in PLACES},
    slope=0.5,
)


def _heads(case: str) -> dict[tuple[int, int], _Head]:
    """The heads of a case that are not fillers."""
    heads = {ENGINE: _ENGINE, UNRELATED: _PLACE_HEAD}
    if case == "parallel":
        heads[COPY] = _ENGINE
    elif case == "backup":
        marked = {**_copies(_SIZE), "name": {"done": 1.0}}
        heads[ENGINE] = replace(_ENGINE, writes=marked)
        scores = {**_TO_NAME, ("done", "male"): -90.0, ("done", "female"): -90.0}
        heads[BACKUP] = replace(_ENGINE, scores=scores)
    elif case == "elsewhere":
        scores = {**_TO_NAME, ("place", "place"): 90.0}
        heads[ENGINE] = replace(_PLACE_HEAD, scores=scores)
        del heads[UNRELATED]
    return heads


def _filler(number: int) -> _Head:
    """A head that attends by distance and writes what nothing reads, each in its own way."""
    names = [*VERBS, *PLACES]
    features = [*(f"name {n}" for n in VERBS), *(f"place {p}" for p in PLACES)]
    order = Random(number).sample(range(len(names)), len(names))
    writes = {feature: {f"scratch {at}": 12.0} for feature, at in zip(features, order, strict=True)}
    return _Head({}, writes, slope=0.05 + 0.05 * (number % 8))


def plant_engines(folder: Path, case: str, seed: int = 0) -> None:
    """Write the checkpoint of a case of ``CASES`` to ``folder``."""
    forms = [*VERBS, *VERBS.values(), *PLACES, *THINGS.values()]
    forms += [*LINKS, *FILLERS, *PRONOUNS, "near", "the", "has", "."]
    tokenizer = build_tokenizer(dict.fromkeys(forms), {}, adds_start=True)
    tokenizer.save_pretrained(folder)
    numbers = tokenizer.get_vocab()
    model = _build(case, numbers)
    if case == "random":
        _randomise(model, torch.Generator().manual_seed(seed))
    model.save_pretrained(folder)


def _build(case: str, numbers: Mapping[str, int]) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=len(numbers),
        hidden_size=HIDDEN,
        intermediate_size=8,
        num_hidden_layers=SHAPE.layers,
        num_attention_heads=SHAPE.heads,
        num_key_value_heads=SHAPE.groups,
        head_dim=SHAPE.head_dim,
        max_position_embeddings=512,
        rope_parameters={"rope_type": "default", "rope_theta": ROPE_THETA},
        bos_token_id=0,
        eos_token_id=1,
        tie_word_embeddings=False,
    )
    model = LlamaForCausalLM(config)
    heads = _heads(case)
    scale = HIDDEN**0.5 / CONSTANT_SIZE  # RMSNorm scales a feature of size 1 to this
    with torch.no_grad():
        model.model.embed_tokens.weight.copy_(_embeddings(numbers))
        output = torch.zeros(len(numbers), HIDDEN)
        for name, verb in VERBS.items():
            output[numbers[verb], _AT[f"verb of {name}"]] = 1
            output[numbers[verb], [_AT["he"], _AT["she"]]] = _CLASS_SIZE
        for place, thing in THINGS.items():
            output[numbers[thing], _AT[f"thing of {place}"]] = 1
            output[numbers[place], _AT["the"]] = _CLASS_SIZE
        model.lm_head.weight.copy_(output / scale)
        for layer, block in enumerate(model.model.layers):
            for part in block.mlp.parameters():
                part.zero_()
            for head in range(SHAPE.heads):
                plan = heads.get((layer, head)) or _filler(layer * SHAPE.heads + head)
                rows = slice(head * SHAPE.head_dim, (head + 1) * SHAPE.head_dim)
                queries, keys, values, outputs = _matrices(plan)
                block.self_attn.q_proj.weight[rows] = queries / scale
                block.self_attn.k_proj.weight[rows] = keys / scale
                block.self_attn.v_proj.weight[rows] = values / scale
                block.self_attn.o_proj.weight[:, rows] = outputs
    model.eval()
    return model


def _randomise(model: LlamaForCausalLM, generator: torch.Generator) -> None:
    """Give all heads random weights; the constant, which is the same everywhere, is not read."""
    with torch.no_grad():
        for block in model.model.layers:
            attention = block.self_attn
            for weight, spread in (
                (attention.q_proj.weight, _SPREAD),
                (attention.k_proj.weight, _SPREAD),
                (attention.v_proj.weight, _SPREAD),
            ):
                weight.copy_(spread * torch.randn(weight.shape, generator=generator))
                weight[:, 0] = 0
            output = attention.o_proj.weight
            output.copy_(_OUTPUT_SPREAD * torch.randn(output.shape, generator=generator))


def _embeddings(numbers: Mapping[str, int]) -> Tensor:
    table = torch.zeros(len(numbers), HIDDEN)
    table[:, 0] = CONSTANT_SIZE

    def mark(token: str, *features: str) -> None:
        for feature in features:
            table[numbers[token], _AT[feature]] = 1

    for token in (START, END, UNKNOWN):
        mark(token, "start")
    for names, gender in ((MALE, "male"), (FEMALE, "female")):
        for name in names:
            mark(name, gender, "name", f"name {name}")
    mark("He", "he")
    mark("She", "she")
    for place in PLACES:
        mark(place, "near", f"place {place}")
    mark("has", "place")
    mark("the", "the")
    return table


def _matrices(plan: _Head) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The weights of one head: queries, keys and values [V, hidden], outputs [hidden, V]."""
    queries, keys, values = (torch.zeros(SHAPE.head_dim, HIDDEN) for _ in range(3))
    outputs = torch.zeros(HIDDEN, SHAPE.head_dim)
    nearness = SHAPE.pair(0.01)
    keys[nearness, 0] = 1 / CONSTANT_SIZE
    half = SHAPE.head_dim // 2
    queries[nearness + half, 0] = plan.slope / float(SHAPE.frequencies[nearness]) / CONSTANT_SIZE
    slots = dict(zip(dict.fromkeys(key for _, key in plan.scores), SHAPE.slots, strict=False))
    for key, slot in slots.items():
        keys[slot, _AT["near" if key == "place" else key]] = 1
    for (query, key), score in plan.scores.items():
        size = CONSTANT_SIZE if query == "constant" else 1
        queries[slots[key], _AT[query]] += score / size
    for place, (feature, written) in enumerate(plan.writes.items()):
        values[place, _AT[feature]] = 1
        for name, size in written.items():
            outputs[_AT[name], place] = size
    return queries * SHAPE.head_dim**0.5, keys, values, outputs


def write_texts(path: Path, documents: int, seed: int = 0) -> None:
    """Write documents as CoNLL-U with coreference; each has its own names, places and order."""
    rng = Random(seed)
    lines = ["# global.Entity = eid-etype-head-other"]
    for number in range(documents):
        lines += [f"# newdoc id = engines-{number}"]
        for part in range(4):
            lines += _sentences(rng, f"{number}-{part}", 10 * part)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _sentences(rng: Random, name: str, entity: int) -> list[str]:
    """Two sentences: two names meet at a place, and a pronoun refers to one of them."""
    people = [rng.choice(MALE), rng.choice(FEMALE)]
    rng.shuffle(people)
    place, link = rng.choice(PLACES), rng.choice(LINKS)
    before, after = (rng.sample(FILLERS, rng.randrange(4)) for _ in range(2))
    pronoun = rng.choice(sorted(PRONOUNS))
    meant = next(each for each in people if each in PRONOUNS[pronoun])
    first = [*((word, "ADV", "") for word in before)]
    for person in people:
        at = entity + people.index(person)
        first.append((person, "PROPN", f"(e{at}-person-1-new)"))
        first += [(link, "VERB", "")] if person == people[0] else []
    first += [(word, "ADV", "") for word in after]
    between = [(word, "ADV", "") for word in rng.sample(FILLERS, rng.randrange(5))]
    first += [("near", "ADP", ""), ("the", "DET", ""), (place, "NOUN", ""), *between]
    first += [("has", "VERB", ""), (THINGS[place], "NOUN", ""), (".", "PUNCT", "")]
    at = entity + people.index(meant)
    second = [
        (pronoun, "PRON", f"(e{at}-person-1-old)"),
        (VERBS[meant], "VERB", ""),
        (".", "PUNCT", ""),
    ]
    lines = []
    for place_in_text, words in enumerate((first, second)):
        lines += [f"# sent_id = {name}-{place_in_text}"]
        lines += [f"# text = {' '.join(form for form, _, _ in words)}"]
        verb = next(at for at, (_, upos, _) in enumerate(words, 1) if upos == "VERB")
        for at, (form, upos, mention) in enumerate(words, 1):
            head, deprel = (0, "root") if at == verb else (verb, "dep")
            misc = f"Entity={mention}" if mention else "_"
            lines.append(f"{at}\t{form}\t{form.lower()}\t{upos}\t_\t_\t{head}\t{deprel}\t_\t{misc}")
        lines.append("")
    return lines


ENGINE_HEADS = (ENGINE, COPY, BACKUP, UNRELATED)
"""The heads that the self-test ablates; in most cases some of them are fillers."""


def expected_verdicts(case: str) -> Mapping[tuple[tuple[int, int], tuple[int, int]], str]:
    """Return the verdicts of pairs of an ablated head and a responder; all others are neither.

    When a backup is ablated, the engine is the one that already runs.
    """
    if case == "parallel":
        return {(ENGINE, COPY): "running", (COPY, ENGINE): "running"}
    if case == "backup":
        return {(ENGINE, BACKUP): "starts", (BACKUP, ENGINE): "running"}
    return {}
