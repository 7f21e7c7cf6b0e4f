"""Results of commands, for ``report`` and for JSON: plain dataclasses and values."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headprobe.results.importance import ablation_values, takeover_values
from headprobe.runs import folder as run_folder
from headprobe.runs.folder import CONTROLS, POWER, Run
from headprobe.runs.manifest import ProbeNote
from headprobe.runs.tables import Row
from headprobe.vocabulary import REDUNDANT

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Change:
    """A head whose role changed."""

    name: str
    """The head's name."""
    was: str
    """Its role before."""
    now: str
    """Its role now."""
    reason: str
    """The reason of the verdict now."""


@dataclass(frozen=True)
class Estimate:
    """What a scan will take, approximately."""

    seconds: Mapping[str, float]
    """Seconds by stage."""
    memory_mib: float
    """Peak memory of the process."""


@dataclass(frozen=True)
class Plan:
    """What a scan would measure and write.

    The shape of the model comes from its configuration, without its weights. ``relations`` has the
    description and the number of instances of each relation. ``estimate`` is None for a model of
    which no small copy could be timed.
    """

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
    estimate: Estimate | None = None


@dataclass(frozen=True)
class AblationPlan:
    """What an ablation will run."""

    sets: tuple[str, ...]
    """The names of the sets of heads."""
    interventions: int
    """Number of sets, with the random sets."""
    passes: float
    """The work in passes of the whole model, where layers below the first ablated one are reused.
    """
    text_tokens: int
    pair_tokens: int
    outcomes: tuple[str, ...]
    pairs: int
    """Number of minimal pairs."""


@dataclass(frozen=True)
class ProbeSet:
    """A probe file and its size."""

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
    """A document to be printed.

    ``chains`` has the mentions of each entity, ``declared`` the links that the file declares, as
    (relation, query, targets).
    """

    id: str
    domain: str
    sentences: tuple[SampleSentence, ...]
    chains: tuple[tuple[str, ...], ...]
    declared: tuple[tuple[str, str, tuple[str, ...]], ...]


@dataclass(frozen=True)
class Fault:
    """A planted role that a scan missed, or a role that was not planted."""

    head: str
    """Name of the head; empty where only the number of heads is known."""
    planted: str
    """What was planted in the head."""
    role: str
    """The role that is missing or wrong."""
    named: bool
    """True for a wrong role, False for a missing one."""
    reason: str
    """The reason of the verdict."""


@dataclass(frozen=True)
class CaseResult:
    """Result of the self-test for one checkpoint."""

    case: str
    kind: str
    heads: int
    planted: int
    """Number of planted roles."""
    found: int
    """Number of planted roles that the scan named."""
    missed: int
    """Number of planted roles that it did not name."""
    falsely_named: int
    """Number of roles that it named and that were not planted."""
    faults: tuple[Fault, ...]


@dataclass(frozen=True)
class SelfTest:
    """Results of all cases, and totals by kind of checkpoint."""

    cases: tuple[CaseResult, ...]
    totals: tuple[CaseResult, ...]
    right: bool
    seconds: float


@dataclass(frozen=True)
class TextView:
    """Attention of one head over a text, word by word."""

    name: str
    """The head's name."""
    words: tuple[str, ...]
    """[W]: the words as written in the text."""
    weights: tuple[tuple[float, ...], ...]
    """``weights[q][k]`` is the raw attention from the last token of word q to all tokens of word k,
    for k <= q. Rows of words that are not usable are empty."""
    sink: tuple[float, ...]
    """[W]: raw attention to the removed sinks."""
    usable: tuple[bool, ...]
    """[W]: whether the word has tokens of its own (docs/method.md)."""


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
"""The kind of a head without a role."""

IDLE, REPEATER = "idle", "repeater"
"""The two kinds of redundant heads."""


def kind_of(head: Row) -> str:
    """Return the head's role, with ``idle`` or ``repeater`` instead of ``redundant``."""
    if head.text("role") != REDUNDANT:
        return head.text("role") or NONE
    return IDLE if head.flag("idle") else REPEATER


def roles_of(head: Row) -> list[str]:
    """Return all roles of the head, strongest first; ``redundant`` is a kind and not a role."""
    roles = dict.fromkeys(head.text("roles").split(";"))
    return [role for role in roles if role not in ("", REDUNDANT)]


@dataclass(frozen=True)
class HeadList:
    """Heads of a run, sorted by a number."""

    run: Path
    role: str | None
    """The role or kind that all of them hold; None for any."""
    sort: str
    """The column by which they are sorted."""
    heads: tuple[Row, ...]
    """Rows of ``heads.csv`` with the numbers of the role that is shown, its ``family``,
    ``relation`` and ``looks_to``, and the further numbers ``n`` and ``held_out``."""
    total: int
    """Number of heads before the list was cut."""


@dataclass(frozen=True)
class HeadView:
    """Everything that a run has about one head."""

    run: Path
    head: Row
    """The head's row of ``heads.csv``."""
    relations: tuple[Row, ...]
    """Its rows of ``relations.csv``."""
    profile: tuple[tuple[str, float], ...]
    """Ranges of word distance (``1``, ``9–16``), and the share of the head's stripped attention in
    each. Distances with little attention form one last range (``65+``)."""
    full_profile: tuple[tuple[str, float], ...]
    """The same without an open range at the end: ranges that can be compared between heads."""
    examples: tuple[Mapping[str, Any], ...]
    """Its lines of ``examples.jsonl``."""
    domains: tuple[Row, ...] = ()
    """Its rows of ``domains.csv``."""
    ablation: tuple[Row, ...] = ()
    """The rows of ``ablation.csv`` whose set has the head."""
    takeover: tuple[Row, ...] = ()
    """The rows of ``takeover.csv`` in which it was ablated or responded."""


def run_values(run: Run) -> dict[str, Any]:
    """Return a run as JSON values: folder, manifest, numbers of heads, and its tables.

    ``kinds`` counts the heads by their column ``role``, and ``roles`` the heads that hold a role,
    alone or among others.
    """
    heads = run.rows(run_folder.HEADS)
    return {
        "run": str(run.path),
        "manifest": asdict(run.manifest),
        "kinds": dict(Counter(head.text("role") for head in heads)),
        "roles": dict(Counter(role for head in heads for role in roles_of(head))),
        "heads": [_of_heads(head) for head in heads],
        **{
            name: [row.plain_values() for row in run.rows(table)]
            for name, table in (("control_gains", CONTROLS), ("power", POWER))
            if table in run.tables
        },
        "skipped": [row.plain_values() for row in run.rows(run_folder.SKIPPED)],
    }


def _of_heads(head: Row) -> dict[str, Any]:
    """Return a row of ``heads.csv`` as JSON values; its roles are a list."""
    roles = [role for role in head.text("roles").split(";") if role]
    return {**head.plain_values(), "roles": roles}


def list_values(heads: HeadList) -> dict[str, Any]:
    """Return a list of heads as JSON values."""
    return {
        "run": str(heads.run),
        "role": heads.role,
        "sort": heads.sort,
        "total": heads.total,
        "heads": [_of_heads(head) for head in heads.heads],
    }


def overview_values(run: Run) -> dict[str, Any]:
    """Return what a list of runs shows of one run as JSON values; ``manifest.json`` has the rest.

    ``probes`` are the names of the probe files, ``seconds`` the time of all stages together.
    """
    manifest = run.manifest
    return {
        "run": str(run.path),
        "model": manifest.model.asked,
        "n_layers": manifest.model.n_layers,
        "n_heads": manifest.model.n_heads,
        "probes": [probe.name for probe in manifest.probes],
        "passages": manifest.passages,
        "tokens": manifest.tokens,
        "started": manifest.started,
        "seconds": round(sum(manifest.seconds.values()), 3),
    }


def head_values(view: HeadView) -> dict[str, Any]:
    """Return a head as JSON values."""
    causal = {
        "ablation": [ablation_values(row) for row in view.ablation],
        "takeover": [takeover_values(row) for row in view.takeover],
    }
    return {
        "run": str(view.run),
        "head": _of_heads(view.head),
        "relations": [row.plain_values() for row in view.relations],
        "domains": [row.plain_values() for row in view.domains],
        "profile": [{"distance": name, "share": share} for name, share in view.profile],
        "examples": list(view.examples),
        **{name: rows for name, rows in causal.items() if rows},
    }
