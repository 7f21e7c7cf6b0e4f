"""The kinds of heads that are planted: where each looks, by content and by distance in tokens."""

from dataclasses import dataclass, replace
from types import MappingProxyType


@dataclass(frozen=True)
class PlannedHead:
    """A head to be planted.

    A key scores ``content`` where its feature ``key`` is what the feature ``asks`` of the query
    says, the opposite where it shares a feature that the query ``shuns``, ``sink`` where it is a
    start token, minus ``slope`` for each token that it is away, and up to ``previous`` the nearer
    it is to one token back. What it attends to is written to the feature ``writes`` in a direction
    drawn by ``direction_seed``, times ``output_scale``, which makes up for rows in which it rests.
    ``role`` is what it must be found to be, None: nothing. ``repeats`` names the head that it is
    one more of. A ``random`` one goes by the codes of tokens alone.
    """

    name: str
    role: str | None
    key: str = ""
    asks: str = ""
    content: float = 0.0
    shuns: str = ""
    sink: float = 0.0
    slope: float = 0.0
    previous: float = 0.0
    output_scale: float = 1.0
    writes: str = "scratch"
    repeats: str = ""
    direction_seed: int = 0
    random: bool = False


_SEEKING = PlannedHead("", None, asks="constant", content=90.0, sink=60.0, slope=0.5)

_PLANS = (
    replace(_SEEKING, name="mark", role="punctuation", key="mark"),
    replace(_SEEKING, name="verb", role="syntax", key="verb"),
    replace(
        _SEEKING,
        name="determiner",
        role="syntax",
        key="determiner",
        asks="nominal",
        output_scale=2.0,
    ),
    replace(
        _SEEKING,
        name="agreement",
        role="coreference",
        key="agrees",
        asks="asks",
        shuns="case",  # else a pronoun, which agrees with itself, would look no farther
        output_scale=3.5,
    ),
    PlannedHead(
        name="duplicate",
        role="duplicate-token",
        key="code",
        asks="code",
        content=200.0,
        sink=130.0,
        slope=-0.3,  # farther is better: else every token would look at itself
    ),
    PlannedHead(
        name="induction",
        role="induction",
        key="previous",
        asks="code",
        content=90.0,
        sink=70.0,
        slope=0.1,
        output_scale=2.5,
    ),
)
CONTENT = MappingProxyType({plan.name: plan for plan in _PLANS})
"""Heads that look for content, by name."""

PREVIOUS = PlannedHead("previous", "positional", slope=2.0, previous=20.0, writes="previous")
DECAYS = tuple(
    PlannedHead(f"decay {slope:g}", "positional", slope=slope, output_scale=loudness)
    for slope, loudness in ((0.15, 3.0), (0.5, 2.0), (1.5, 1.2))
)
"""Attention that falls by a constant factor with each token, blind to all content."""

SINKS = (
    PlannedHead("sink", "redundant", sink=8.0),
    PlannedHead("sink, spilling", "redundant", sink=2.0, slope=-1.0),
)
"""Attention to the start, the second one by its place, so that it spills over the first words."""

RANDOM = PlannedHead("random", None, output_scale=2.0, random=True)


def repeated(plan: PlannedHead, times: float) -> PlannedHead:
    """A head that looks where another does and writes the same, ``times`` as loud."""
    name = f"repeats {plan.name}" + ("" if times == 1 else f" x {times:g}")
    return replace(plan, name=name, repeats=plan.name, output_scale=plan.output_scale * times)
