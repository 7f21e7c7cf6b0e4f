"""A planted checkpoint as a folder that ``from_pretrained`` loads.

Which checkpoints the self-test builds.

Who sits where: plans on random seats, so that no role ever depends on an index.

A tokenizer of whole words, some of them in two pieces.
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
    """A checkpoint to build. ``adds_start``: its tokenizer puts a start token before a text. With
    ``spread`` nothing is planted: its weights are drawn at random, with this standard deviation."""

    shape: CheckpointShape
    adds_start: bool
    seed: int
    spread: float | None = None

    @property
    def name(self) -> str:
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
    (CheckpointShape(8, 4, 1, 40), True),
    (CheckpointShape(4, 6, 6, 32), False),
    (CheckpointShape(2, 12, 6, 64), True),
)

_RANDOM = (CheckpointShape(3, 4, 4, 16), CheckpointShape(2, 8, 2, 32), CheckpointShape(4, 6, 1, 24))

_SPREADS = (0.02, 0.1, 0.3)

_RANDOM_MODELS = 21


def planted_cases(seed: int, quick: bool) -> Sequence[Case]:
    """Checkpoints with planted heads: several sizes, with and without groups and start tokens."""
    chosen = _PLANTED[:2] if quick else _PLANTED
    return [Case(shape, start, seed + place) for place, (shape, start) in enumerate(chosen)]


def random_cases(seed: int, quick: bool) -> Sequence[Case]:
    """Checkpoints with random weights: three shapes, from almost uniform to very uneven heads."""
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
"""Layer and head."""

RESCALED = 1.6
"""How much louder the second repeater is."""

_BLIND = (PREVIOUS, *DECAYS, *SINKS)

_SINK_SHARE = 1 / 3

_ATTEMPTS = 1000


def draw_seats(shape: CheckpointShape, rng: Random) -> Mapping[Seat, PlannedHead]:
    """A plan for every seat: each content head, two repeaters of different ones, each head that is
    blind to content, and random heads in the groups that are left.

    The heads of a key/value group share one feature: those that look for it, their repeaters, and
    blind ones. At most a third of a layer sleeps, because idle means quiet beside the layer's
    median head; who reads what another head writes sits in a later layer.
    """
    for _ in range(_ATTEMPTS):
        seats = _attempt(shape, rng)
        if seats and _fits(shape, seats):
            return _with_directions(seats)
    raise ValueError(f"{shape} has no room for the planted heads")


def _attempt(shape: CheckpointShape, rng: Random) -> dict[Seat, PlannedHead]:
    first, second = rng.sample(sorted(CONTENT), 2)
    sharing = [*CONTENT.values(), repeated(CONTENT[first], 1), repeated(CONTENT[second], RESCALED)]
    groups = [(layer, group) for layer in range(shape.layers) for group in range(shape.groups)]
    rng.shuffle(groups)
    members: dict[tuple[int, int], list[PlannedHead]] = {}
    for plan in sharing:
        room = [
            group
            for group, found in members.items()
            if found[0].key == plan.key and len(found) < shape.per_group
        ]
        free = [group for group in groups if group not in members]
        if not room and not free:
            return {}
        # a repeater beside its original as often as in a group of its own
        chosen = rng.choice(room) if room and (not free or rng.random() < 0.5) else free[0]
        members.setdefault(chosen, []).append(plan)
    blind = rng.sample(_BLIND, len(_BLIND))
    for found in members.values():
        while len(found) < shape.per_group:
            found.append(blind.pop() if blind else rng.choice(DECAYS))
    for group in groups:
        if group not in members:
            some, blind = blind[: shape.per_group], blind[shape.per_group :]
            some += rng.choices(DECAYS, k=shape.per_group - len(some)) if some else []
            members[group] = some or [RANDOM] * shape.per_group
    if blind:
        return {}
    return {
        (layer, group * shape.per_group + place): plan
        for (layer, group), found in members.items()
        for place, plan in enumerate(rng.sample(found, len(found)))
    }


def _fits(shape: CheckpointShape, seats: Mapping[Seat, PlannedHead]) -> bool:
    writer = [layer for (layer, _), plan in seats.items() if plan.writes == "previous"]
    readers = [layer for (layer, _), plan in seats.items() if plan.key == "previous"]
    asleep = Counter(layer for (layer, _), plan in seats.items() if plan.sink and not plan.key)
    return (
        RANDOM in seats.values()
        and max(writer) < min(readers)
        and max(asleep.values()) <= shape.heads * _SINK_SHARE
    )


def _with_directions(seats: Mapping[Seat, PlannedHead]) -> dict[Seat, PlannedHead]:
    """Each head writes in a direction of its own, but repeaters in their original's."""
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

INSIDE = "##"
"""What pieces begin with that continue a word."""

_BREAKS = r"(?:Mr|Ms|Mrs|Dr)\.|n't|'(?:s|ve|re|ll|d|m)|[^\w\s'.-]|\.|'"

_LONG = 6
"""Letters of a word that may be written in two pieces."""


def split_words(forms: Iterable[str], share: float, rng: Random) -> dict[str, tuple[str, str]]:
    """A ``share`` of the long words as two pieces each, of those in which greedy matching finds
    just these: no other word begins with the first piece, and none ends in the second."""
    ordered = sorted(forms)
    apart = {
        form: (form[: len(form) // 2], INSIDE + form[len(form) // 2 :])
        for form in ordered
        if len(form) >= _LONG and form.isalpha()
    }
    endings = Counter(rest for _, rest in apart.values())
    free = [
        form
        for before, form, after in zip(["", *ordered], ordered, [*ordered[1:], ""], strict=False)
        if form in apart
        and endings[apart[form][1]] == 1
        and not before.startswith(apart[form][0])
        and not after.startswith(apart[form][0])
    ]
    return {form: apart[form] for form in rng.sample(free, round(share * len(free)))}


def build_tokenizer(
    forms: Iterable[str], pieces: dict[str, tuple[str, str]], *, adds_start: bool
) -> PreTrainedTokenizerFast:
    """A tokenizer whose ids are ``START``, ``END``, ``UNKNOWN``, whole words and pieces; it puts
    ``START`` before a text itself, or leaves that to whoever uses it."""
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
"""Share of the words that can be split which are."""


def plant(folder: Path, case: Case, lexicon: Sequence[Lexeme]) -> Mapping[Seat, PlannedHead]:
    """Write a checkpoint with all kinds of heads on seats drawn by the case's seed; who sits where.
    Of a case with random weights nobody sits anywhere."""
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
