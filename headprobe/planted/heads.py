"""The kinds of heads that are planted: what each attends to, by content and by distance."""

from dataclasses import dataclass, replace
from types import MappingProxyType


@dataclass(frozen=True)
class PlannedHead:
    """A head to be planted. Its attention score of a key is the sum of the parts below; features
    are those of ``planted.weights.Layout``, an empty name being none."""

    name: str
    role: str | None
    """The role that a scan must report, or None where it must report none."""
    overlapping: tuple[str, ...] = ()
    """Roles that a scan may report besides, because their relations overlap with what the head
    looks for."""
    key: str = ""
    """The feature of the key that is compared with that of the query."""
    query: str = ""
    """The feature of the query that is compared with that of the key."""
    content: float = 0.0
    """The score of a key whose feature equals the query's."""
    excluded: str = ""
    """A feature that costs ``content`` where the key shares it with the query."""
    sink: float = 0.0
    """The score of a start token."""
    slope: float = 0.0
    """The score lost with each token of distance."""
    previous: float = 0.0
    """The score of the previous token; other tokens have less, the farther from it they are."""
    output_scale: float = 1.0
    """A factor of the output, which compensates for rows in which the head attends to the start."""
    writes: str = "scratch"
    """The feature to which the head writes the codes of the tokens it attends to."""
    repeats: str = ""
    """The name of the head that this one repeats."""
    direction_seed: int = 0
    """The seed of the output direction inside ``writes``."""
    random: bool = False
    """Whether the scores are random functions of the two tokens' codes."""


_SEEKING = PlannedHead("", None, query="constant", content=90.0, sink=60.0, slope=0.5)

_PLANS = (
    replace(_SEEKING, name="mark", role="punctuation", key="mark"),
    replace(_SEEKING, name="verb", role="syntax", overlapping=("word-class",), key="verb"),
    replace(_SEEKING, name="noun", role="word-class", overlapping=("syntax",), key="nominal"),
    replace(
        _SEEKING,
        name="determiner",
        role="syntax",
        key="determiner",
        query="nominal",
        output_scale=2.0,
    ),
    replace(
        _SEEKING,
        name="agreement",
        role="coreference",
        key="agrees",
        query="pronoun",
        excluded="case",  # else a pronoun, which agrees with itself, would look no farther
        output_scale=3.5,
    ),
    PlannedHead(
        name="duplicate",
        role="duplicate-token",
        key="code",
        query="code",
        content=200.0,
        sink=130.0,
        slope=-0.3,  # farther is better, else every token would attend to itself
    ),
    PlannedHead(
        name="related",
        role="semantic",
        key="sense",
        query="partner",
        content=24.0,  # small, so that other words get some attention: shares of one have no lift
        sink=17.0,
        output_scale=3.0,
    ),
    PlannedHead(
        name="initial letter",
        role=None,
        key="initial",
        query="initial",
        content=90.0,
        sink=75.0,
        slope=0.5,  # nearer is better, else it would find copies of the token
    ),
    PlannedHead(
        name="induction",
        role="induction",
        key="previous",
        query="code",
        content=90.0,
        sink=70.0,
        slope=0.1,
        output_scale=2.5,
    ),
)
CONTENT = MappingProxyType({plan.name: plan for plan in _PLANS})
"""The heads that look for content, by name."""

PREVIOUS = PlannedHead("previous", "positional", slope=2.0, previous=20.0, writes="previous")
"""The head that attends to the previous token, and writes its code for the induction head."""

DECAYS = tuple(
    PlannedHead(f"decay {slope:g}", "positional", slope=slope, output_scale=scale)
    for slope, scale in ((0.15, 3.0), (0.5, 2.0), (1.5, 1.2))
)
"""Heads whose attention falls by a constant factor with each token, whatever the content."""

SINKS = (
    PlannedHead("sink", "redundant", sink=8.0),
    PlannedHead("sink, spilling", "redundant", sink=2.0, slope=-1.0),
)
"""Heads that attend to the start; the second finds it by distance, so it spills over to the first
words."""

RANDOM = PlannedHead("random", None, output_scale=2.0, random=True)
"""A head without any role."""


def repeated(plan: PlannedHead, times: float) -> PlannedHead:
    """A head that attends and writes as ``plan`` does, with ``times`` its output."""
    name = f"repeats {plan.name}" + ("" if times == 1 else f" x {times:g}")
    return replace(plan, name=name, repeats=plan.name, output_scale=plan.output_scale * times)
