"""Which checkpoints the self-test builds."""

from collections.abc import Sequence
from dataclasses import dataclass

from headprobe.planted.weights import Shape


@dataclass(frozen=True)
class Case:
    """A checkpoint to build. ``adds_start``: its tokenizer puts a start token before a text. With
    ``spread`` nothing is planted: its weights are drawn at random, with this standard deviation."""

    shape: Shape
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
    (Shape(3, 8, 8, 32), True),
    (Shape(4, 8, 4, 24), False),
    (Shape(6, 4, 2, 48), True),
    (Shape(2, 16, 16, 24), False),
    (Shape(8, 4, 1, 40), True),
    (Shape(4, 6, 6, 32), False),
    (Shape(2, 12, 6, 64), True),
)
_RANDOM = (Shape(3, 4, 4, 16), Shape(2, 8, 2, 32), Shape(4, 6, 1, 24))
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
