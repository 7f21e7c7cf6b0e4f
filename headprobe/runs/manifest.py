"""What a run was made from: enough to trust it, and to make it again."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self, TypeVar

from headprobe.errors import HeadprobeError
from headprobe.runs.files import read_json, read_or_fail
from headprobe.vocabulary import build_value

SCHEMA_VERSION = 1
"""Rises when a file or a column changes its name or its meaning (INTERFACE)."""

METHOD_VERSION = 6
"""Rises whenever a number could change (METHOD)."""

STAGES = ("read", "load", "measure", "controls", "judge")

T = TypeVar("T")


@dataclass(frozen=True)
class ModelNote:
    """The checkpoint. ``asked`` is what the user wrote, or the base of the adapter that they named;
    ``kind`` what that turned out to be: ``folder``, ``gguf``, ``hub``, ``bundled`` or ``memory``.
    ``gguf`` is the GGUF file chosen inside it. ``n_kv_heads`` counts key/value heads layer by
    layer; ``weights_sha256`` is the hash of the weight files, those of the adapter included, or of
    a state dictionary in memory; ``context`` the longest text in tokens. ``quantization`` says how
    the weights are stored, such as ``4-bit (bitsandbytes)`` or ``Q4_1, dequantised to float32``;
    ``adapter`` is the folder or Hub id of an adapter and ``adapter_sha256`` the hash of its files.
    All four are None where there is none. ``dtype_reason`` says why ``--dtype auto`` chose this
    dtype, and is empty for any other."""

    asked: str
    kind: str
    revision: str | None
    weights_sha256: str
    architecture: str
    dtype: str
    device: str
    n_layers: int
    n_heads: int
    n_kv_heads: tuple[int, ...]
    head_dim: int
    context: int | None
    gguf: str | None = None
    quantization: str | None = None
    adapter: str | None = None
    adapter_sha256: str | None = None
    dtype_reason: str = ""


@dataclass(frozen=True)
class TokenizerNote:
    """``start_token`` stands at position 0 of every passage; ``start_prepended`` says whether we
    put it there because the tokenizer does not."""

    name: str
    start_token: str | None
    start_prepended: bool


@dataclass(frozen=True)
class ProbeNote:
    """A probe file as it was read. ``path`` is as given, ``sha256`` of its bytes."""

    name: str
    path: str
    sha256: str
    documents: int
    passages: int
    sentences: int
    words: int


@dataclass(frozen=True)
class BitsNote:
    """Bits per character on a seeded sample of passages: does the model know such text?"""

    value: float
    passages: int
    characters: int


@dataclass(frozen=True)
class ControlNote:
    """What a control earned under the run's rules, where nothing is to be found (METHOD section 3).

    ``control`` is ``twin`` or ``shuffled``. ``roles`` counts heads by role, those without one left
    out; ``named`` the heads that hold any role but ``redundant``, which is no matter of content.
    Of shuffled links only the roles that links can earn count.
    ``key`` is a hash of all that its sums depend on; ``taken_from`` the run that had them already.
    """

    control: str
    seed: int
    key: str
    named: int
    redundant: int
    roles: Mapping[str, int]
    taken_from: str | None


@dataclass(frozen=True)
class WorkNote:
    """How the passes were shared: ``shards``, the most ``ranks`` of any of them (processes that
    torchrun started), and how often the work was ``resumed``, on all of them together."""

    shards: int = 1
    ranks: int = 1
    resumed: int = 0


@dataclass(frozen=True)
class Manifest:
    """``manifest.json``. Keys that this version does not know are ignored on loading.

    ``sinks_removed`` names the keys taken out of every row, ``sinks_flagged`` those that draw
    attention whatever the text and were left in (METHOD section 1). ``used`` counts instances,
    ``skipped`` things left out (rows of ``skipped.csv`` by their counts); ``unusable_words`` is a
    share of all words. ``started`` is ISO 8601 in UTC, ``seconds`` go by stage (``STAGES``).
    ``measured_with`` holds the rules that were in the measuring already, which judging the run
    again does not change: the line above which a head is active on a sampled row, and what flags a
    sink. ``sampled_from`` is how many passages there were, where only a sample was measured.
    ``rules_sha256`` is of the rules that judged last.
    """

    model: ModelNote
    tokenizer: TokenizerNote
    sinks_removed: tuple[str, ...]
    sinks_flagged: tuple[str, ...]
    probes: tuple[ProbeNote, ...]
    passages: int
    tokens: int
    used: int
    skipped: int
    unusable_words: float
    bits_per_character: BitsNote | None
    seed: int
    versions: Mapping[str, str]
    started: str
    seconds: Mapping[str, float]
    peak_memory_mib: float | None
    rules_sha256: str
    fold_hash: str
    measured_with: Mapping[str, float] = field(default_factory=dict)
    sampled_from: int | None = None
    controls: tuple[ControlNote, ...] = ()
    work: WorkNote = field(default_factory=WorkNote)
    schema_version: int = field(default=SCHEMA_VERSION)
    method_version: int = field(default=METHOD_VERSION)

    def save(self, path: Path) -> None:
        """Write it as indented JSON, keys in the order of the fields."""
        text = json.dumps(asdict(self), ensure_ascii=True, indent=2)
        path.write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read it; HeadprobeError if it is missing, damaged or of a newer headprobe."""
        remedy = "Scan again, or copy the run folder again from its origin"
        missing = HeadprobeError(str(path), "no such manifest", remedy)
        with read_or_fail(path, remedy, "not a readable manifest", missing):
            values = read_json(path)
            version = values.get("schema_version") if isinstance(values, dict) else None
            if isinstance(version, int) and version > SCHEMA_VERSION:
                what = f"was written by a newer headprobe (schema {version}, not {SCHEMA_VERSION})"
                raise HeadprobeError(str(path), what, "Upgrade headprobe")
            manifest: Self = build_value(cls, values)
        return manifest
