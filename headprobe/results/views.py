"""What the commands hand to report and to JSON: plain dataclasses and values."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headprobe.runs import folder as run_folder
from headprobe.runs.folder import CONTROLS, POWER, Run
from headprobe.runs.manifest import ProbeNote
from headprobe.runs.tables import Row

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Change:
    """A head whose role is another than before, and why."""

    name: str
    was: str
    now: str
    reason: str


@dataclass(frozen=True)
class Plan:
    """The model's shape from its config alone, the probes as they would be read, the folder that
    would be written. ``relations`` gives the name of each relation (``obj → head``) and its n."""

    model: str
    architecture: str
    n_layers: int
    n_heads: int
    n_kv_heads: tuple[int, ...]
    device: str
    dtype: str
    dtype_reason: str
    target: Path
    probes: tuple[ProbeNote, ...]
    passages: int
    tokens: int
    skipped: int
    controls: tuple[str, ...]
    relations: tuple[tuple[str, int], ...]
    quantization: str | None = None
    adapter: str | None = None


@dataclass(frozen=True)
class ProbeSet:
    """A probe file and how much it holds."""

    name: str
    domains: tuple[str, ...]
    documents: int
    sentences: int
    words: int
    mentions: int


@dataclass(frozen=True)
class SampleSentence:
    """A sentence's text and its edges (relation, dependent, head)."""

    text: str
    edges: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True)
class Sample:
    """A document to be read: its sentences, the mentions of each entity, and the links that the
    file declares (relation, query, targets)."""

    id: str
    domain: str
    sentences: tuple[SampleSentence, ...]
    chains: tuple[tuple[str, ...], ...]
    declared: tuple[tuple[str, str, tuple[str, ...]], ...]


@dataclass(frozen=True)
class Fault:
    """A head that lacks a ``role`` it was given, or has one that it was not given (``named``). No
    ``head`` where all that is known is how many."""

    head: str
    planted: str
    role: str
    named: bool
    reason: str


@dataclass(frozen=True)
class CaseResult:
    """A checkpoint: its heads, how many roles were ``planted`` in them, how many of these were
    ``found`` and ``missed``, and how many others ``falsely_named``."""

    case: str
    kind: str
    heads: int
    planted: int
    found: int
    missed: int
    falsely_named: int
    faults: tuple[Fault, ...]


@dataclass(frozen=True)
class SelfTest:
    """All cases, and their sums by kind of checkpoint."""

    cases: tuple[CaseResult, ...]
    totals: tuple[CaseResult, ...]
    right: bool
    seconds: float


@dataclass(frozen=True)
class TextView:
    """Attention of one head over a text, word by word.

    ``words`` [W] as they stand in the text; ``weights[q][k]`` is the raw attention from the last
    token of word q to all tokens of word k <= q (rows as long as q + 1); ``sink[q]`` what goes to
    the removed sinks. ``usable`` [W] says which words have tokens of their own (docs/method.md);
    the rows of the others are empty.
    """

    name: str
    words: tuple[str, ...]
    weights: tuple[tuple[float, ...], ...]
    sink: tuple[float, ...]
    usable: tuple[bool, ...]


def attention_frame(view: TextView) -> "pd.DataFrame":
    """A text view as a DataFrame: words by words, and ``itself`` and ``start`` of each word.

    Words that occur again are numbered as in probe files (``the#2``). Attention to later words is
    missing.
    """
    import numpy as np
    import pandas as pd

    size = len(view.words)
    weights = np.full((size, size), np.nan)
    for query, row in enumerate(view.weights):
        if view.usable[query]:
            weights[query, :query] = row[:query]
    words = numbered_words(view.words)
    frame = pd.DataFrame(weights, index=words, columns=words)
    itself = [
        row[-1] if usable else np.nan for row, usable in zip(view.weights, view.usable, strict=True)
    ]
    frame.insert(0, "itself", itself, allow_duplicates=True)
    start = [
        sink if usable else np.nan for sink, usable in zip(view.sink, view.usable, strict=True)
    ]
    frame.insert(0, "start", start, allow_duplicates=True)
    return frame


def numbered_words(words: Sequence[str]) -> list[str]:
    """Every word; from its second occurrence on with its number (``the#2``)."""
    met: Counter[str] = Counter()
    numbered = []
    for word in words:
        met[word] += 1
        numbered.append(word if met[word] == 1 else f"{word}#{met[word]}")
    return numbered


NONE = "none"

IDLE, REPEATER = "idle", "repeater"


def kind_of(head: Row) -> str:
    """The head's role, ``redundant`` told apart into ``idle`` and ``repeater``."""
    if head.text("role") != "redundant":
        return head.text("role") or NONE
    return IDLE if head.flag("idle") else REPEATER


@dataclass(frozen=True)
class HeadView:
    """What a run knows of one head. ``profile`` gives ranges of word distance (``1``, ``9–16``) and
    the share of the head's stripped attention that goes there; ``domains`` are the rows of
    ``domains.csv`` about the head."""

    run: Path
    head: Row
    relations: tuple[Row, ...]
    profile: tuple[tuple[str, float], ...]
    examples: tuple[Mapping[str, Any], ...]
    domains: tuple[Row, ...] = ()


def run_values(run: Run) -> dict[str, Any]:
    """A run: where it is, what it was made from, how many heads of each kind, every head."""
    heads = run.rows(run_folder.HEADS)
    return {
        **manifest_values(run),
        "kinds": dict(Counter(kind_of(head) for head in heads)),
        "heads": [head.plain_values() for head in heads],
        **{
            name: [row.plain_values() for row in run.rows(table)]
            for name, table in (("control_gains", CONTROLS), ("power", POWER))
            if table in run.tables
        },
        "skipped": [row.plain_values() for row in run.rows(run_folder.SKIPPED)],
    }


def manifest_values(run: Run) -> dict[str, Any]:
    """A run's folder and manifest."""
    return {"run": str(run.path), "manifest": asdict(run.manifest)}


def head_values(view: HeadView) -> dict[str, Any]:
    """One head."""
    return {
        "run": str(view.run),
        "head": view.head.plain_values(),
        "relations": [row.plain_values() for row in view.relations],
        "domains": [row.plain_values() for row in view.domains],
        "profile": [{"distance": name, "share": share} for name, share in view.profile],
        "examples": list(view.examples),
    }
