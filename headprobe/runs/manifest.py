"""The manifest of a run: what it was made from, in enough detail to trust and to repeat it."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal, Self

from headprobe.errors import HeadprobeError
from headprobe.runs.files import read_json, read_or_fail
from headprobe.vocabulary import build_value

SCHEMA_VERSION = 1
"""Rises when a file or a column changes its name or its meaning (docs/output.md)."""

METHOD_VERSION = 7
"""Rises when any number could change."""

STAGES = ("read", "load", "measure", "controls", "judge")
"""The stages of a scan, by which its time is counted."""


_MOST = 1 << 16
"""No model has more layers, more heads in a layer or more dimensions of a head."""


@dataclass(frozen=True)
class ModelNote:
    """The model that was scanned."""

    asked: str
    """The checkpoint as the user named it; the base model where the user named an adapter."""

    kind: str
    """The kind of checkpoint: ``folder``, ``gguf``, ``hub``, ``bundled`` or ``memory``."""

    revision: str | None
    """The commit on the Hub; None for any other kind."""

    weights_sha256: str
    """Hash of the weight files, including those of the adapter, or of a model in memory."""

    architecture: str
    dtype: str
    device: str
    n_layers: int
    n_heads: int

    n_kv_heads: tuple[int, ...]
    """The number of key/value heads of each layer."""

    head_dim: int

    context: int | None
    """The longest text in tokens; None if the model's configuration gives no limit."""

    gguf: str | None = None
    """The name of the GGUF file, if the checkpoint is one."""

    quantization: str | None = None
    """How the weights are stored, such as ``4-bit (bitsandbytes)`` or ``Q4_1, dequantised to
    float32``; None if they are not quantised."""

    adapter: str | None = None
    """The folder or Hub id of the adapter, if there is one."""

    adapter_sha256: str | None = None
    """Hash of the adapter's files."""

    dtype_reason: str = ""
    """Why ``--dtype auto`` chose this dtype; empty if the user chose it."""


@dataclass(frozen=True)
class TokenizerNote:
    """The tokenizer of the model."""

    name: str

    start_token: str | None
    """The token at position 0 of every passage."""

    start_prepended: bool
    """Whether headprobe adds the start token because the tokenizer does not."""


Annotation = Literal["gold", "parsed", "none"]
"""Where the annotation of a probe file comes from."""


@dataclass(frozen=True)
class ProbeNote:
    """One probe file, with the counts of what it contains."""

    name: str

    path: str
    """The path as the user gave it."""

    sha256: str
    """Hash of the file's bytes."""

    documents: int
    passages: int
    sentences: int
    words: int

    annotation: Annotation = "gold"
    """``gold`` for annotated files, ``parsed`` for plain text that an annotator parsed, else
    ``none``."""


@dataclass(frozen=True)
class AccuracyNote:
    """How often an annotator agrees with gold sentences (``probes.parse_accuracy``)."""

    sentences: int
    """The number of gold sentences."""

    words: int
    """The number of their words, without punctuation."""

    aligned: float
    """Share of the words that the annotator separates in the same way."""

    upos: float
    """Share with the gold part of speech, of the aligned words."""

    uas: float
    """Share of the words with the gold head."""

    las: float
    """Share of the words with the gold head and relation."""

    relations: Mapping[str, float]
    """Relation -> F1 of its edges, where there are enough gold words."""


@dataclass(frozen=True)
class AnnotatorNote:
    """The parser that annotated the plain text files."""

    option: str
    """The annotator as the user named it."""

    tool: str
    version: str
    model: str
    model_version: str
    language: str

    accuracy: AccuracyNote | None
    """Its accuracy on the bundled gold sentences; None for languages other than English."""


@dataclass(frozen=True)
class BitsNote:
    """The model's loss on a seeded sample of passages: whether the model knows such text."""

    value: float
    """Bits per character."""

    passages: int
    """The number of passages in the sample."""

    characters: int
    """The number of characters in the sample."""

    text_bytes: int = 0
    """The number of bytes of UTF-8 in the sample; 0 in runs that did not count them."""

    per_byte: float | None = None
    """Bits per byte of UTF-8; None where the bytes were not counted. Values of different scripts
    are comparable: a Chinese character takes three bytes and carries about as much as three Latin
    letters."""


ControlName = Literal["twin", "shuffled"]
"""The controls of a run."""


@dataclass(frozen=True)
class ControlNote:
    """The roles that a control earned under the run's rules, where there is nothing to detect
    (docs/method.md, Controls). For shuffled links only roles that depend on links count."""

    control: ControlName

    seed: int

    key: str
    """Hash of all that the control's sums depend on; equal keys mean equal sums."""

    named: int
    """Heads with any role except ``redundant``, which does not depend on content."""

    redundant: int
    """Heads whose role is ``redundant``."""

    roles: Mapping[str, int]
    """Heads by role; heads without a role do not count."""

    taken_from: str | None
    """The name of the run whose sums were reused; None if the control was measured."""


@dataclass(frozen=True)
class WorkNote:
    """How the passes of the model were divided."""

    shards: int = 1
    """The number of shards."""

    ranks: int = 1
    """The largest number of processes that torchrun started for a shard."""

    resumed: int = 0
    """How often the scan was resumed, all shards together."""


@dataclass(frozen=True)
class Manifest:
    """``manifest.json``. Loading ignores keys that this version does not know."""

    model: ModelNote
    tokenizer: TokenizerNote

    sinks_removed: tuple[str, ...]
    """The keys that were removed from every attention row (docs/method.md)."""

    sinks_flagged: tuple[str, ...]
    """The keys that attract attention whatever the text, but were not removed."""

    probes: tuple[ProbeNote, ...]

    passages: int
    """The number of passages that were measured."""

    tokens: int
    """The number of tokens that were measured."""

    used: int
    """The number of instances that were measured."""

    skipped: int
    """The number of things left out: the rows of ``skipped.csv``, weighted by their counts."""

    unusable_words: float
    """The share of unusable words among all words."""

    bits_per_character: BitsNote | None
    seed: int

    versions: Mapping[str, str]
    """The versions of headprobe, Python and the packages that can change numbers."""

    started: str
    """When the scan started: ISO 8601, UTC."""

    seconds: Mapping[str, float]
    """Seconds by stage (``STAGES``)."""

    peak_memory_mib: float | None

    rules_sha256: str
    """Hash of the rules that judged the run last."""

    fold_hash: str
    """The hash that assigns documents and word forms to folds (``instances.FOLD_HASH``)."""

    measured_with: Mapping[str, float] = field(default_factory=dict)
    """The rules that are applied while measuring, so that judging the run again does not change
    them: when a head is active on a sampled row, and what flags a sink; and
    ``passage.budget``, the ``--budget`` of a scan that had one."""

    sampled_from: int | None = None
    """The number of all passages, if only a sample of them was measured."""

    annotator: AnnotatorNote | None = None
    """The parser of the plain text files; None if they were not parsed."""

    controls: tuple[ControlNote, ...] = ()
    work: WorkNote = field(default_factory=WorkNote)
    schema_version: int = field(default=SCHEMA_VERSION)
    method_version: int = field(default=METHOD_VERSION)

    def save(self, path: Path) -> None:
        """Write indented JSON, with the keys in the order of the fields."""
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
            manifest.check()
        return manifest

    def check(self) -> None:
        """Raise ValueError where a value cannot be that of any run."""
        model = self.model
        counts = {
            "passages": self.passages,
            "tokens": self.tokens,
            "used": self.used,
            "skipped": self.skipped,
            "unusable_words": self.unusable_words,
            "peak_memory_mib": self.peak_memory_mib or 0,
            "work.resumed": self.work.resumed,
            "sampled_from": self.sampled_from or 0,
            **{f"seconds.{stage}": seconds for stage, seconds in self.seconds.items()},
        }
        checks = {
            "model.n_layers": 1 <= model.n_layers <= _MOST,
            "model.n_heads": 1 <= model.n_heads <= _MOST,
            "model.n_kv_heads": len(model.n_kv_heads) == model.n_layers
            and all(heads >= 1 and model.n_heads % heads == 0 for heads in model.n_kv_heads),
            "model.head_dim": 1 <= model.head_dim <= _MOST,
            "model.context": model.context is None or model.context >= 1,
            "unusable_words": self.unusable_words <= 1,
            "controls": len({note.control for note in self.controls}) == len(self.controls)
            and {note.control for note in self.controls} <= {"twin", "shuffled"},
            "work": min(self.work.shards, self.work.ranks) >= 1,
        }
        wrong = [name for name, value in counts.items() if value < 0]
        wrong += [name for name, is_right in checks.items() if not is_right]
        if wrong:
            raise ValueError(f"{wrong[0]} has a value that no run has")
        datetime.fromisoformat(self.started)
