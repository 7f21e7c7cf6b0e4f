"""Weights by hand: a Llama whose heads look where their plans say.

Attention scores are q.k / sqrt(head_dim) after rotation by position. A pair of dimensions rotates
as one complex number, so keys that are 1 there and queries A exp(i phi) score
A cos(frequency * distance + phi): distance is read in the fast pairs, and content in the slow ones,
which hardly turn within a passage. Keys of a group of heads are shared, so each group holds one
feature at most, and its heads differ in their queries alone.

Where each feature of a word stands in the residual stream, and the embeddings that carry it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import cos, sin, sqrt
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from headprobe.planted.heads import PlannedHead
from headprobe.planted.words import CASES, PRONOUNS, Lexeme

CONSTANT_SIZE = 40.0
"""Of the one feature that all tokens share; so large that what heads write hardly moves the norm of
the stream, by which RMSNorm divides."""

_FLAGS: Mapping[str, tuple[str, ...]] = {
    "mark": ("PUNCT",),
    "verb": ("VERB",),
    "determiner": ("DET",),
    "nominal": ("NOUN", "PROPN"),
}


@dataclass(frozen=True)
class Layout:
    """Features of the residual stream and their dimensions. ``code`` is a random unit vector of
    each token, ``previous`` the code of the token before, once a head has written it; ``scratch``
    is where other heads write and nobody reads."""

    constant: range
    start: range
    mark: range
    verb: range
    determiner: range
    nominal: range
    agrees: range
    asks: range
    case: range
    code: range
    previous: range
    scratch: range

    @classmethod
    def of(cls, code: int) -> "Layout":
        """The features one after another, codes of ``code`` dimensions."""
        sizes = [1, 1, 1, 1, 1, 1, len(PRONOUNS), len(PRONOUNS), len(CASES), code, code, 2 * code]
        ends = [sum(sizes[: place + 1]) for place in range(len(sizes))]
        return cls(*(range(end - size, end) for end, size in zip(ends, sizes, strict=True)))

    @property
    def size(self) -> int:
        return self.scratch.stop


def embed(
    layout: Layout,
    hidden: int,
    numbers: Mapping[str, int],
    start: Sequence[str],
    lexicon: Sequence[Lexeme],
    pieces: Mapping[str, tuple[str, str]],
    generator: torch.Generator,
) -> Tensor:
    """[V, hidden]: what each token of ``numbers`` carries by itself.

    Of a word in two pieces the last one carries its features, for only there has it been read. The
    ``start`` tokens have no code: a head that attends to them alone writes nothing.
    """
    table = torch.zeros(len(numbers), hidden)
    table[:, layout.constant] = CONSTANT_SIZE
    codes = torch.randn(len(numbers), len(layout.code), generator=generator)
    table[:, layout.code.start : layout.code.stop] = torch.nn.functional.normalize(codes)
    for token in start:
        table[numbers[token], layout.code.start : layout.code.stop] = 0
        table[numbers[token], layout.start] = 1
    for word in lexicon:
        row = table[numbers[pieces.get(word.form, (word.form,))[-1]]]
        for feature, upos in _FLAGS.items():
            row[getattr(layout, feature)] = float(word.upos in upos)
        for name in word.agrees:
            row[layout.agrees[PRONOUNS.index(name)]] = 1
        if word.pronoun is not None:
            row[layout.asks[PRONOUNS.index(word.pronoun)]] = 1
        for case in word.cases:
            row[layout.case[CASES.index(case)]] = 1
    return table


ROPE_THETA = 1e8

_FAST, _NEARNESS, _STILL = 1.0, 0.01, 6e-4
"""Radians a token: of the pair that tells neighbours apart, of the one that counts distance (below
pi / 2 over a passage), and of those slow enough for content."""

_NOISE = 3.0
"""Standard deviation of a random head's scores."""


@dataclass(frozen=True)
class CheckpointShape:
    """The size of a checkpoint; ``groups`` key/value heads a layer."""

    layers: int
    heads: int
    groups: int
    head_dim: int

    @property
    def per_group(self) -> int:
        return self.heads // self.groups

    @cached_property
    def frequencies(self) -> Tensor:
        """[head_dim / 2]: radians by which each pair turns with a token."""
        return ROPE_THETA ** (-torch.arange(0, self.head_dim, 2) / self.head_dim)

    @cached_property
    def slots(self) -> list[int]:
        """Dimensions of a head that hardly turn, the start token's first; its partner stays free,
        because the largest scores of all would leak into it."""
        half = self.head_dim // 2
        still = torch.nonzero(self.frequencies < _STILL).flatten().tolist()
        start, *others = still
        return [start, *others, *(half + pair for pair in others)]

    @cached_property
    def layout(self) -> Layout:
        return Layout.of(len(self.slots) - 1)

    @property
    def hidden(self) -> int:
        """The first multiple of the number of heads that holds all features."""
        return -(-self.layout.size // self.heads) * self.heads

    def feature(self, name: str) -> range:
        """The dimensions of a feature of the residual stream; none of no feature."""
        dimensions: range = getattr(self.layout, name) if name else range(0)
        return dimensions

    def pair(self, frequency: float) -> int:
        """The pair that turns most nearly so fast."""
        return int((self.frequencies.log() - torch.tensor(frequency).log()).abs().argmin())


def build_model(
    shape: CheckpointShape,
    embeddings: Tensor,
    seats: Mapping[tuple[int, int], PlannedHead],
    generator: torch.Generator,
) -> LlamaForCausalLM:
    """A model with ``embeddings`` [V, hidden] and the head planned for each (layer, head)."""
    model = LlamaForCausalLM(
        _config(shape, len(embeddings), hidden_size=shape.hidden, intermediate_size=8)
    )
    with torch.no_grad():
        model.model.embed_tokens.weight.copy_(embeddings)
        model.lm_head.weight.zero_()
        for number, layer in enumerate(model.model.layers):
            for part in layer.mlp.parameters():
                part.zero_()
            attention = layer.self_attn
            plans = [seats[number, head] for head in range(shape.heads)]
            firsts = range(0, shape.heads, shape.per_group)
            groups = [plans[first : first + shape.per_group] for first in firsts]
            parts = [_group(shape, group, generator) for group in groups]
            attention.q_proj.weight.copy_(torch.cat([part.queries for part in parts]))
            attention.k_proj.weight.copy_(torch.cat([part.keys for part in parts]))
            attention.v_proj.weight.copy_(torch.cat([part.values for part in parts]))
            attention.o_proj.weight.copy_(torch.cat([part.outputs for part in parts], dim=1))
    model.eval()
    return model


def build_random_model(
    shape: CheckpointShape, vocabulary: int, spread: float, seed: int
) -> LlamaForCausalLM:
    """A model with random weights of standard deviation ``spread``."""
    width = shape.heads * shape.head_dim
    config = _config(
        shape,
        vocabulary,
        hidden_size=width,
        intermediate_size=2 * width,
        initializer_range=spread,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    model.eval()
    return model


def _config(shape: CheckpointShape, vocabulary: int, **options: Any) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=vocabulary,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.groups,
        head_dim=shape.head_dim,
        max_position_embeddings=512,
        rope_parameters={"rope_type": "default", "rope_theta": ROPE_THETA},
        bos_token_id=0,
        eos_token_id=1,
        tie_word_embeddings=False,
        **options,
    )


@dataclass(frozen=True)
class _Group:
    """Weights of the heads that share a key/value head, as q_proj ... o_proj hold them."""

    queries: Tensor
    keys: Tensor
    values: Tensor
    outputs: Tensor


def _group(
    shape: CheckpointShape, plans: Sequence[PlannedHead], generator: torch.Generator
) -> _Group:
    code = shape.layout.code
    turn = _orthonormal(shape.head_dim, len(code), generator)
    values = torch.zeros(shape.head_dim, shape.hidden)
    values[:, code.start : code.stop] = turn
    if plans[0].random:
        keys = _random(shape, generator)
        queries = [_random(shape, generator) for _ in plans]
    else:
        seeking = next((plan for plan in plans if plan.key), plans[0])
        keys = _keys(shape, seeking)
        queries = [_queries(shape, plan) for plan in plans]
    scale = sqrt(shape.hidden) / CONSTANT_SIZE  # what RMSNorm makes of a feature of size 1
    return _Group(
        torch.cat(queries) / scale,
        keys / scale,
        values / scale,
        torch.cat([_written(shape, plan) @ turn.T for plan in plans], dim=1),
    )


def _keys(shape: CheckpointShape, plan: PlannedHead) -> Tensor:
    """[head_dim, hidden]: 1 in the pairs that read distance, and each feature in a slot of its own:
    the start, what the plan looks for, and what it shuns."""
    keys = torch.zeros(shape.head_dim, shape.hidden)
    for frequency in (_FAST, _NEARNESS):
        keys[shape.pair(frequency), shape.layout.constant] = 1 / CONSTANT_SIZE
    keys[shape.slots[0], shape.layout.start] = 1
    features = [*shape.feature(plan.key), *shape.feature(plan.shuns)]
    for slot, dimension in zip(shape.slots[1:], features, strict=False):
        keys[slot, dimension] = 1
    return keys


def _queries(shape: CheckpointShape, plan: PlannedHead) -> Tensor:
    """[head_dim, hidden]: what is asked of the keys of ``_keys``."""
    queries = torch.zeros(shape.head_dim, shape.hidden)
    constant, half = shape.layout.constant, shape.head_dim // 2
    fast, nearness = shape.pair(_FAST), shape.pair(_NEARNESS)
    back = -float(shape.frequencies[fast])
    queries[fast, constant] = plan.previous * cos(back)
    queries[fast + half, constant] = plan.previous * sin(back)
    # -A sin(f d) falls by f A with each token, as long as f d is small
    queries[nearness + half, constant] = plan.slope / float(shape.frequencies[nearness])
    queries[shape.slots[0], constant] = plan.sink
    queries /= CONSTANT_SIZE
    size = CONSTANT_SIZE if plan.asks == "constant" else 1
    wanted = [(dimension, plan.content / size) for dimension in shape.feature(plan.asks)]
    wanted += [(dimension, -plan.content) for dimension in shape.feature(plan.shuns)]
    for slot, (dimension, score) in zip(shape.slots[1:], wanted, strict=False):
        queries[slot, dimension] = score
    return queries * sqrt(shape.head_dim)


def _written(shape: CheckpointShape, plan: PlannedHead) -> Tensor:
    """[hidden, code]: what becomes of the codes that a head attends to."""
    layout = shape.layout
    written = torch.zeros(shape.hidden, len(layout.code))
    if plan.writes == "previous":
        rows, onto = layout.previous, torch.eye(len(layout.code))
    else:
        rows = layout.scratch
        direction = torch.Generator().manual_seed(plan.direction_seed)
        onto = _orthonormal(len(rows), len(layout.code), direction)
    written[rows.start : rows.stop] = plan.output_scale * onto
    return written


def _random(shape: CheckpointShape, generator: torch.Generator) -> Tensor:
    """[head_dim, hidden]: reads codes alone, so that it knows tokens but no class of words."""
    code = shape.layout.code
    weights = torch.zeros(shape.head_dim, shape.hidden)
    noise = torch.randn(shape.head_dim, len(code), generator=generator)
    weights[:, code.start : code.stop] = sqrt(_NOISE) * noise
    return weights


def _orthonormal(rows: int, columns: int, generator: torch.Generator) -> Tensor:
    """[rows, columns]: a random rotation into more dimensions."""
    turned: Tensor = torch.linalg.qr(torch.randn(rows, columns, generator=generator)).Q
    return turned
