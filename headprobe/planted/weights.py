"""Constructed weights: a Llama whose heads attend to what their plans say.

``Layout`` says which dimensions of the residual stream hold which feature of a token, and ``embed``
builds the embeddings that hold them. ``build_model`` builds the weights of attention:

- Scores are q.k / sqrt(head_dim) after rotation by position. A pair of dimensions rotates as one
  complex number, so a key of 1 and a query of A exp(i phi) score
  A cos(frequency * distance + phi). Distance is read in fast pairs, and content in slow ones, which
  hardly turn within a passage.
- The heads of a group share their keys, so a group reads at most one key feature, and its heads
  differ in their queries only.
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
"""The size of the feature that all tokens share. It is so large that the outputs of heads hardly
change the norm of the residual stream, by which RMSNorm divides."""

_LETTERS = "abcdefghijklmnopqrstuvwxyz"

_FLAGS: Mapping[str, tuple[str, ...]] = {
    "mark": ("PUNCT",),
    "verb": ("VERB",),
    "determiner": ("DET",),
    "nominal": ("NOUN", "PROPN"),
}
"""Features that are 1 for words with these UPOS tags."""


@dataclass(frozen=True)
class Layout:
    """The features of the residual stream, as ranges of its dimensions."""

    constant: range
    """``CONSTANT_SIZE`` for every token."""
    start: range
    """1 for start tokens."""
    mark: range
    verb: range
    determiner: range
    nominal: range
    agrees: range
    """1 for each pronoun of ``PRONOUNS`` that may refer to the word."""
    pronoun: range
    """1 for the pronoun that the word is."""
    case: range
    """1 for each case of ``CASES`` that the pronoun may have."""
    code: range
    """A random unit vector for each token."""
    sense: range
    """A random unit vector for each word that is semantically related to another."""
    partner: range
    """The sum of the senses of the words to which a semantic relation looks from the word."""
    initial: range
    """A random unit vector for each first letter."""
    previous: range
    """The code of the token before, once a head has written it."""
    scratch: range
    """The output of all other heads, which no head reads."""

    @classmethod
    def of(cls, code: int) -> "Layout":
        """The features one after another, with codes of ``code`` dimensions."""
        flags = [1, 1, 1, 1, 1, 1, len(PRONOUNS), len(PRONOUNS), len(CASES)]
        sizes = [*flags, code, code, code, code, code, 2 * code]
        ends = [sum(sizes[: place + 1]) for place in range(len(sizes))]
        return cls(*(range(end - size, end) for end, size in zip(ends, sizes, strict=True)))

    @property
    def size(self) -> int:
        """The number of dimensions of all features."""
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
    """The embeddings [V, hidden] of the tokens, whose ids are ``numbers``.

    The last piece of a word has the word's features, because only there has the whole word been
    read. The ``start`` tokens have no code, so a head that attends to them only writes nothing.
    """
    table = torch.zeros(len(numbers), hidden)
    table[:, layout.constant] = CONSTANT_SIZE
    codes = _unit_vectors(len(numbers), len(layout.code), generator)
    senses = _unit_vectors(len(lexicon), len(layout.sense), generator)
    letters = _unit_vectors(len(_LETTERS), len(layout.initial), generator)
    table[:, layout.code.start : layout.code.stop] = codes
    place = {word.form: index for index, word in enumerate(lexicon)}
    related = {form for word in lexicon for form in (word.form, *word.related) if word.related}
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
            row[layout.pronoun[PRONOUNS.index(word.pronoun)]] = 1
        for case in word.cases:
            row[layout.case[CASES.index(case)]] = 1
        if word.form in related:
            row[layout.sense.start : layout.sense.stop] = senses[place[word.form]]
        for form in sorted(word.related):
            row[layout.partner.start : layout.partner.stop] += senses[place[form]]
        if word.form[0].lower() in _LETTERS:
            letter = letters[_LETTERS.index(word.form[0].lower())]
            row[layout.initial.start : layout.initial.stop] = letter
    return table


def _unit_vectors(count: int, size: int, generator: torch.Generator) -> Tensor:
    """[count, size]: random vectors of length 1."""
    return torch.nn.functional.normalize(torch.randn(count, size, generator=generator))


ROPE_THETA = 1e8
"""The base of the rotary frequencies; large, so that many pairs hardly turn."""

_FAST = 1.0
"""Radians per token of the pair that distinguishes neighbours."""

_NEARNESS = 0.01
"""Radians per token of the pair that measures distance: less than pi / 2 over a passage."""

_STILL = 6e-4
"""Pairs that turn by fewer radians per token hold content."""

_NOISE = 3.0
"""The standard deviation of a random head's scores."""


@dataclass(frozen=True)
class CheckpointShape:
    """The size of a checkpoint."""

    layers: int
    heads: int
    """Query heads per layer."""
    groups: int
    """Key/value heads per layer."""
    head_dim: int

    @property
    def per_group(self) -> int:
        """Query heads per key/value head."""
        return self.heads // self.groups

    @cached_property
    def frequencies(self) -> Tensor:
        """[head_dim / 2]: the radians per token of each pair."""
        return ROPE_THETA ** (-torch.arange(0, self.head_dim, 2) / self.head_dim)

    @cached_property
    def slots(self) -> list[int]:
        """The dimensions of a head that hardly turn. The first is for the start token; the other
        one of its pair stays free, because the start's scores, the largest, would leak into it."""
        half = self.head_dim // 2
        still = torch.nonzero(self.frequencies < _STILL).flatten().tolist()
        start, *others = still
        return [start, *others, *(half + pair for pair in others)]

    @cached_property
    def layout(self) -> Layout:
        """The features, with codes of one dimension per slot but the start's."""
        return Layout.of(len(self.slots) - 1)

    @property
    def hidden(self) -> int:
        """The smallest multiple of the number of heads with room for all features."""
        return -(-self.layout.size // self.heads) * self.heads

    def feature(self, name: str) -> range:
        """The dimensions of a feature of the residual stream; none for an empty name."""
        dimensions: range = getattr(self.layout, name) if name else range(0)
        return dimensions

    def pair(self, frequency: float) -> int:
        """The pair whose frequency is nearest to ``frequency``."""
        return int((self.frequencies.log() - torch.tensor(frequency).log()).abs().argmin())


def build_model(
    shape: CheckpointShape,
    embeddings: Tensor,
    seats: Mapping[tuple[int, int], PlannedHead],
    generator: torch.Generator,
) -> LlamaForCausalLM:
    """Build a model with ``embeddings`` [V, hidden] and the planned head of each (layer, head)."""
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
    """Build a model with random weights of standard deviation ``spread``."""
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
    """The weights of the query heads that share a key/value head, as in q_proj, k_proj, v_proj and
    o_proj."""

    queries: Tensor
    keys: Tensor
    values: Tensor
    outputs: Tensor


def _group(
    shape: CheckpointShape, plans: Sequence[PlannedHead], generator: torch.Generator
) -> _Group:
    code = shape.layout.code
    # Values are the codes, rotated into the head's dimensions; the output rotates them back
    rotation = _orthonormal(shape.head_dim, len(code), generator)
    values = torch.zeros(shape.head_dim, shape.hidden)
    values[:, code.start : code.stop] = rotation
    if plans[0].random:
        keys = _random(shape, generator)
        queries = [_random(shape, generator) for _ in plans]
    else:
        seeking = next((plan for plan in plans if plan.key), plans[0])
        keys = _keys(shape, seeking)
        queries = [_queries(shape, plan) for plan in plans]
    scale = sqrt(shape.hidden) / CONSTANT_SIZE  # RMSNorm scales a feature of size 1 to this
    return _Group(
        torch.cat(queries) / scale,
        keys / scale,
        values / scale,
        torch.cat([_output(shape, plan) @ rotation.T for plan in plans], dim=1),
    )


def _keys(shape: CheckpointShape, plan: PlannedHead) -> Tensor:
    """[head_dim, hidden]: 1 in the pairs that read distance, and one slot for each dimension of the
    start, the plan's key feature and its excluded feature."""
    keys = torch.zeros(shape.head_dim, shape.hidden)
    for frequency in (_FAST, _NEARNESS):
        keys[shape.pair(frequency), shape.layout.constant] = 1 / CONSTANT_SIZE
    keys[shape.slots[0], shape.layout.start] = 1
    features = [*shape.feature(plan.key), *shape.feature(plan.excluded)]
    for slot, dimension in zip(shape.slots[1:], features, strict=False):
        keys[slot, dimension] = 1
    return keys


def _queries(shape: CheckpointShape, plan: PlannedHead) -> Tensor:
    """[head_dim, hidden]: the queries that give the keys of ``_keys`` the plan's scores."""
    queries = torch.zeros(shape.head_dim, shape.hidden)
    constant, half = shape.layout.constant, shape.head_dim // 2
    fast, nearness = shape.pair(_FAST), shape.pair(_NEARNESS)
    back = -float(shape.frequencies[fast])
    queries[fast, constant] = plan.previous * cos(back)
    queries[fast + half, constant] = plan.previous * sin(back)
    # -A sin(f d) falls by f A with each token while f d is small
    queries[nearness + half, constant] = plan.slope / float(shape.frequencies[nearness])
    queries[shape.slots[0], constant] = plan.sink
    queries /= CONSTANT_SIZE
    size = CONSTANT_SIZE if plan.query == "constant" else 1
    scores = [(dimension, plan.content / size) for dimension in shape.feature(plan.query)]
    scores += [(dimension, -plan.content) for dimension in shape.feature(plan.excluded)]
    for slot, (dimension, score) in zip(shape.slots[1:], scores, strict=False):
        queries[slot, dimension] = score
    return queries * sqrt(shape.head_dim)


def _output(shape: CheckpointShape, plan: PlannedHead) -> Tensor:
    """[hidden, code]: the head's output for the codes it attends to, in the residual stream."""
    layout = shape.layout
    output = torch.zeros(shape.hidden, len(layout.code))
    if plan.writes == "previous":
        rows, matrix = layout.previous, torch.eye(len(layout.code))
    else:
        rows = layout.scratch
        direction = torch.Generator().manual_seed(plan.direction_seed)
        matrix = _orthonormal(len(rows), len(layout.code), direction)
    output[rows.start : rows.stop] = plan.output_scale * matrix
    return output


def _random(shape: CheckpointShape, generator: torch.Generator) -> Tensor:
    """[head_dim, hidden]: random weights of the codes, which know tokens but no class of words."""
    code = shape.layout.code
    weights = torch.zeros(shape.head_dim, shape.hidden)
    noise = torch.randn(shape.head_dim, len(code), generator=generator)
    weights[:, code.start : code.stop] = sqrt(_NOISE) * noise
    return weights


def _orthonormal(rows: int, columns: int, generator: torch.Generator) -> Tensor:
    """[rows, columns]: a random matrix with orthonormal columns."""
    matrix: Tensor = torch.linalg.qr(torch.randn(rows, columns, generator=generator)).Q
    return matrix
