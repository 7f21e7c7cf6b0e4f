"""Planted checkpoints: which ones the self-test builds, and how they are written to a folder.

A planted checkpoint consists of

1. seats (``draw_seats``): a planned head for each layer and head, drawn at random, so that no role
   depends on an index;
2. a tokenizer of whole words, some of them in two pieces (``build_tokenizer``);
3. embeddings and weights that realise the plan (``planted.weights``).

``plant`` writes all of them to a folder that ``from_pretrained`` loads.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from headprobe.planted.heads import CONTENT, DECAYS, PREVIOUS, RANDOM, SINKS, PlannedHead, repeated
from headprobe.planted.weights import CheckpointShape, build_model, build_random_model, embed
from headprobe.planted.words import Lexeme


@dataclass(frozen=True)
class Case:
    """A checkpoint to build."""

    shape: CheckpointShape
    adds_start: bool
    """Whether its tokenizer puts a start token before a text."""
    seed: int
    spread: float | None = None
    """The standard deviation of random weights; None for planted heads."""

    @property
    def name(self) -> str:
        """The case in words: size, groups, start token and seed."""
        shape = self.shape
        groups = {shape.heads: "MHA", 1: "MQA"}.get(shape.groups, f"GQA {shape.groups}")
        start = "start" if self.adds_start else "no start"
        size = f"{shape.layers} x {shape.heads} x {shape.head_dim}"
        return f"{size}, {groups}, {start}, seed {self.seed}"


_PLANTED = (
    (CheckpointShape(3, 8, 8, 32), True),
    (CheckpointShape(4, 8, 4, 24), False),
    (CheckpointShape(6, 4, 2, 48), True),
    (CheckpointShape(2, 16, 16, 24), False),
    (CheckpointShape(10, 4, 1, 40), True),
    (CheckpointShape(4, 6, 6, 32), False),
    (CheckpointShape(2, 12, 6, 64), True),
)
"""The shapes of planted checkpoints, and whether their tokenizers add a start token."""

_RANDOM = (CheckpointShape(3, 4, 4, 16), CheckpointShape(2, 8, 2, 32), CheckpointShape(4, 6, 1, 24))
"""The shapes of random checkpoints."""

_SPREADS = (0.02, 0.1, 0.3)
"""The standard deviations of their weights, from almost uniform to very uneven heads."""

_RANDOM_MODELS = 21
"""The number of random checkpoints in the full self-test."""


def planted_cases(seed: int, quick: bool) -> Sequence[Case]:
    """The planted checkpoints: several sizes, with and without grouped heads and start tokens."""
    chosen = _PLANTED[:2] if quick else _PLANTED
    return [Case(shape, start, seed + place) for place, (shape, start) in enumerate(chosen)]


def random_cases(seed: int, quick: bool) -> Sequence[Case]:
    """The checkpoints with random weights: all shapes, with all deviations unless ``quick``."""
    return [
        Case(
            shape=_RANDOM[place % len(_RANDOM)],
            adds_start=place % 2 == 0,
            seed=seed + place,
            spread=_SPREADS[place // len(_RANDOM) % len(_SPREADS)],
        )
        for place in range(len(_RANDOM) if quick else _RANDOM_MODELS)
    ]


Seat = tuple[int, int]
"""A layer and a head."""

RESCALED = 1.6
"""The output of the second repeater, relative to the head that it repeats."""

_BLIND = (PREVIOUS, *DECAYS, *SINKS)
"""Heads that do not look at content."""

_SINK_SHARE = 1 / 3
"""The largest share of a layer's heads that may attend to the start only."""

_ATTEMPTS = 1000
"""The number of random assignments tried before a shape is refused."""


def draw_seats(shape: CheckpointShape, rng: Random) -> Mapping[Seat, PlannedHead]:
    """Draw a planned head for every seat.

    The seats receive each content head, two repeaters of different content heads, each head that is
    blind to content, and random heads in the remaining groups. The heads of a key/value group share
    one key feature: they are the heads that look for it, their repeaters, and blind heads. At most
    a third of a layer attends to the start only, because a head is idle relative to the layer's
    median head. A head that reads the output of another is in a later layer.

    Raises ValueError for a shape with too few seats.
    """
    for _ in range(_ATTEMPTS):
        seats = _attempt(shape, rng)
        if seats and _is_valid(shape, seats):
            return _with_directions(seats)
    raise ValueError(f"{shape} has no room for the planted heads")


def _attempt(shape: CheckpointShape, rng: Random) -> dict[Seat, PlannedHead]:
    """One random assignment, or an empty dictionary where not all planned heads have a seat."""
    # The head for related words is active in too few rows to be compared with a repeater
    first, second = rng.sample(sorted(CONTENT.keys() - {"related"}), 2)
    sharing = [*CONTENT.values(), repeated(CONTENT[first], 1), repeated(CONTENT[second], RESCALED)]
    groups = [(layer, group) for layer in range(shape.layers) for group in range(shape.groups)]
    rng.shuffle(groups)
    members: dict[tuple[int, int], list[PlannedHead]] = {}
    for plan in sharing:
        room = [
            group
            for group, heads in members.items()
            if heads[0].key == plan.key and len(heads) < shape.per_group
        ]
        free = [group for group in groups if group not in members]
        if not room and not free:
            return {}
        # A repeater shares the group of its original as often as it has its own
        chosen = rng.choice(room) if room and (not free or rng.random() < 0.5) else free[0]
        members.setdefault(chosen, []).append(plan)
    blind = rng.sample(_BLIND, len(_BLIND))
    # Blind heads fill the groups of content heads first, then groups of their own
    for heads in members.values():
        while len(heads) < shape.per_group:
            heads.append(blind.pop() if blind else rng.choice(DECAYS))
    for group in groups:
        if group not in members:
            some, blind = blind[: shape.per_group], blind[shape.per_group :]
            some += rng.choices(DECAYS, k=shape.per_group - len(some)) if some else []
            members[group] = some or [RANDOM] * shape.per_group
    if blind:
        return {}
    return {
        (layer, group * shape.per_group + place): plan
        for (layer, group), heads in members.items()
        for place, plan in enumerate(rng.sample(heads, len(heads)))
    }


def _is_valid(shape: CheckpointShape, seats: Mapping[Seat, PlannedHead]) -> bool:
    """Whether random heads, the order of layers and the share of sinks are as they must be."""
    writer = [layer for (layer, _), plan in seats.items() if plan.writes == "previous"]
    readers = [layer for (layer, _), plan in seats.items() if plan.key == "previous"]
    sinks = Counter(layer for (layer, _), plan in seats.items() if plan.sink and not plan.key)
    return (
        RANDOM in seats.values()
        and max(writer) < min(readers)
        and max(sinks.values()) <= shape.heads * _SINK_SHARE
    )


def _with_directions(seats: Mapping[Seat, PlannedHead]) -> dict[Seat, PlannedHead]:
    """Give each head its own output direction, and repeaters that of their original."""
    names = sorted(CONTENT)
    return {
        (layer, head): replace(
            plan,
            direction_seed=names.index(plan.repeats or plan.name)
            if plan.key
            else len(names) + layer * 1000 + head,
        )
        for (layer, head), plan in seats.items()
    }


START, END, UNKNOWN = "<s>", "</s>", "<unk>"
"""The special tokens, with the ids 0, 1 and 2."""

INSIDE = "##"
"""The prefix of pieces that continue a word."""

_BREAKS = r"(?:Mr|Ms|Mrs|Dr)\.|n't|'(?:s|ve|re|ll|d|m)|[^\w\s'.-]|\.|'"
"""Where a string without spaces is split into words, as a regular expression of the words."""

_LONG = 6
"""The fewest letters of a word that may be written in two pieces."""


def split_words(forms: Iterable[str], share: float, rng: Random) -> dict[str, tuple[str, str]]:
    """Split a ``share`` of the long words into two pieces each.

    Only words are split in which greedy matching finds exactly these pieces: no other word begins
    with the first piece, and none ends in the second.
    """
    ordered = sorted(forms)
    halves = {
        form: (form[: len(form) // 2], INSIDE + form[len(form) // 2 :])
        for form in ordered
        if len(form) >= _LONG and form.isalpha()
    }
    endings = Counter(rest for _, rest in halves.values())
    unambiguous = [
        form
        for before, form, after in zip(["", *ordered], ordered, [*ordered[1:], ""], strict=False)
        if form in halves
        and endings[halves[form][1]] == 1
        and not before.startswith(halves[form][0])
        and not after.startswith(halves[form][0])
    ]
    chosen = rng.sample(unambiguous, round(share * len(unambiguous)))
    return {form: halves[form] for form in chosen}


def build_tokenizer(
    forms: Iterable[str], pieces: dict[str, tuple[str, str]], *, adds_start: bool
) -> PreTrainedTokenizerFast:
    """Build a tokenizer whose vocabulary is ``START``, ``END``, ``UNKNOWN``, words and pieces.

    With ``adds_start`` it puts ``START`` before a text, else its users must.
    """
    tokens = [START, END, UNKNOWN]
    tokens += [piece for form in forms for piece in pieces.get(form, (form,))]
    numbers = {token: number for number, token in enumerate(dict.fromkeys(tokens))}
    tokenizer = Tokenizer(
        models.WordPiece(numbers, unk_token=UNKNOWN, continuing_subword_prefix=INSIDE)
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(Regex(_BREAKS), "isolated")]
    )
    tokenizer.decoder = decoders.WordPiece(prefix=INSIDE)
    if adds_start:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{START} $A", special_tokens=[(START, numbers[START])]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=START, eos_token=END, unk_token=UNKNOWN
    )


IN_PIECES = 0.9
"""The share of the words that are split, of those that can be."""


def plant(folder: Path, case: Case, lexicon: Sequence[Lexeme]) -> Mapping[Seat, PlannedHead]:
    """Write the checkpoint of a case to ``folder`` and return the planned head of each seat, drawn
    with the case's seed; nothing is planned in a case with random weights."""
    forms = [word.form for word in lexicon]
    pieces = split_words(forms, IN_PIECES, Random(case.seed))
    tokenizer = build_tokenizer(forms, pieces, adds_start=case.adds_start)
    tokenizer.save_pretrained(folder)
    numbers = tokenizer.get_vocab()
    if case.spread is not None:
        build_random_model(case.shape, len(numbers), case.spread, case.seed).save_pretrained(folder)
        return {}
    seats = draw_seats(case.shape, Random(case.seed))
    generator = torch.Generator().manual_seed(case.seed)
    embeddings = embed(
        case.shape.layout, case.shape.hidden, numbers, (START, END), lexicon, pieces, generator
    )
    build_model(case.shape, embeddings, seats, generator).save_pretrained(folder)
    return seats
