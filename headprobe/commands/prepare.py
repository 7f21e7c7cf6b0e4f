"""Everything that a scan prepares before it loads weights, so that errors come early.

Probe files become an aligned corpus, and device and dtype are chosen.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from headprobe.batching.corpus import Corpus, align
from headprobe.batching.encoder import Encoder
from headprobe.commands.annotation import describe_annotator
from headprobe.commands.distributed import local_rank
from headprobe.commands.judging import role_warnings
from headprobe.config import Partition, ScanConfig
from headprobe.errors import HeadprobeError
from headprobe.format import clip
from headprobe.measure.loop import PassPlan
from headprobe.model.adapters import resolve_adapter
from headprobe.model.dtypes import choose_dtype
from headprobe.model.in_memory import InMemoryModel
from headprobe.model.load import (
    CheckpointSource,
    check_tokens,
    choose_device,
    load_config,
    load_encoder,
)
from headprobe.probes.annotator import Annotator, open_annotator
from headprobe.probes.catalog import find_probe_files, is_plain_text, read_documents
from headprobe.probes.document import Passage
from headprobe.probes.file import ProbeFile
from headprobe.probes.passages import cut_passages, sample_passages
from headprobe.progress import Progress
from headprobe.roles.rules import Rules
from headprobe.runs.manifest import Annotation, AnnotatorNote, ProbeNote
from headprobe.vocabulary import Skipped

PASSAGE_TOKENS = 512
"""Default of the maximum tokens per passage; a smaller context of the model takes precedence."""

PASSAGE_BUDGET = "passage.budget"
"""The name of ``--budget`` in ``Manifest.measured_with``, where a scan has one."""

UNBOUNDED = 1 << 30
"""The context of a model whose configuration gives none."""

MAX_UNUSABLE_SHARE = 0.20
"""Share of unusable words above which a warning is printed (docs/method.md)."""


@dataclass(frozen=True)
class ProbeCorpus:
    """The probes of a scan as a corpus of tokens."""

    corpus: Corpus
    files: tuple[ProbeNote, ...]
    """The probe files, with numbers of documents, passages, sentences and words."""
    skipped: tuple[Skipped, ...]
    """Input that was left out."""
    sampled_from: int | None = None
    """Number of passages before sampling; None without sampling."""
    annotator: AnnotatorNote | None = None
    """The parser of the plain text files; None if they were not parsed."""
    budget: int | None = None
    """The maximum of tokens per passage, if the user gave one."""

    @property
    def unusable_words(self) -> float:
        """The share of words without a token of their own."""
        usable = self.corpus.instances.usable
        return float(1 - usable.mean()) if len(usable) else 0.0


class _SkippedCounts:
    """Counts of skipped input by source, kind and reason."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str, str]] = Counter()

    def __call__(self, skipped: Skipped) -> None:
        self._counts[skipped.source, skipped.what, skipped.reason] += skipped.count

    def all(self) -> tuple[Skipped, ...]:
        return tuple(Skipped(*place, count) for place, count in self._counts.items())


def read_corpus(
    files: Sequence[ProbeFile],
    encoder: Encoder,
    *,
    context: int | None,
    budget: int | None,
    max_passages: int | None,
    seed: int,
    progress: Progress,
    annotator: Annotator | None = None,
) -> ProbeCorpus:
    """Read the probe files, cut them into passages, and align their words with tokens.

    ``annotator`` parses plain text.

    ``budget`` is the maximum of tokens per passage, including start tokens; by default, the smaller
    of ``PASSAGE_TOKENS`` and the model's ``context``. ``max_passages`` is the size of a random
    sample of passages. Raises HeadprobeError where no usable word remains.
    """
    starts = len(encoder.start)
    longest = (context or UNBOUNDED) - starts
    room = min(budget or PASSAGE_TOKENS, context or PASSAGE_TOKENS) - starts
    if room < 1:
        raise HeadprobeError(
            f"passages of {room + starts} tokens",
            f"leave no room for text after {starts} start tokens",
            "Allow for longer ones with --budget, or check the model's context and its tokenizer",
        )
    skips, counts = _SkippedCounts(), {file: Counter[str]() for file in files}

    def passages() -> Iterator[tuple[int, Passage]]:
        for number, file in enumerate(files):
            for document in read_documents([file], skips, progress.advance, annotator):
                counts[file]["documents"] += 1
                for passage in cut_passages(document, encoder.count, room, skips, longest):
                    yield number, passage

    def counted(numbered: Iterable[tuple[int, Passage]]) -> Iterator[Passage]:
        for number, passage in numbered:
            tally = counts[files[number]]
            tally["passages"] += 1
            tally["sentences"] += passage.words[-1].sentence + 1
            tally["words"] += len(passage.words)
            yield passage

    progress.stage("reading probes", sum(file.size for file in files), "bytes")
    used: Iterable[tuple[int, Passage]] = passages()
    sampled_from = None
    if max_passages is not None:
        chosen, sampled_from = sample_passages(used, max_passages, seed)
        for number, file in enumerate(files):
            documents = {passage.document for of, passage in chosen if of == number}
            counts[file]["documents"] = len(documents)
        used = chosen
    corpus = align(counted(used), encoder, skips, seed=seed)
    probes = ProbeCorpus(
        corpus,
        tuple(
            ProbeNote(
                name=file.name,
                path=str(file.path),
                sha256=file.sha256,
                documents=counts[file]["documents"],
                passages=counts[file]["passages"],
                sentences=counts[file]["sentences"],
                words=counts[file]["words"],
                annotation=_annotation(file, annotator),
            )
            for file in files
        ),
        skips.all(),
        sampled_from,
        None if annotator is None else describe_annotator(annotator),
        budget,
    )
    if not corpus.instances.usable.any():
        raise HeadprobeError(
            ", ".join(file.name for file in files),
            f"no usable word remains ({_reasons(probes.skipped)})",
            "Give probes that fit the model's tokenizer and context",
        )
    if probes.unusable_words > MAX_UNUSABLE_SHARE:
        progress.warn(
            f"{probes.unusable_words:.0%} of the words are unusable, without a token of their own: "
            "this tokenizer fits these probes badly, and the results describe the other words only"
        )
    return probes


def _annotation(file: ProbeFile, annotator: Annotator | None) -> Annotation:
    if not is_plain_text(file):
        return "gold"
    return "none" if annotator is None else "parsed"


def _reasons(skipped: Sequence[Skipped]) -> str:
    totals: Counter[str] = Counter()
    for skip in skipped:
        totals[f"{skip.what} {skip.reason}"] += skip.count
    return "; ".join(f"{count} x {reason}" for reason, count in totals.most_common(3)) or "empty"


@dataclass(frozen=True)
class PreparedScan:
    """A scan that is ready to load its model."""

    source: CheckpointSource
    config: Any
    encoder: Encoder
    device: torch.device
    dtype: torch.dtype
    dtype_reason: str
    probes: ProbeCorpus
    pass_plan: PassPlan

    @property
    def check_tokens(self) -> torch.Tensor:
        """[T]: the start of the first passage, on which the captured attention is verified."""
        end = min(int(self.probes.corpus.token_first[1]), 64)
        return torch.from_numpy(self.probes.corpus.token_ids[:end]).long()


def checkpoint_source(
    config: ScanConfig, in_memory: InMemoryModel | None = None
) -> CheckpointSource:
    """Return the source of the checkpoint as the user names it; ``in_memory`` replaces it.

    ``resolve_adapter`` finds out whether the name is an adapter's.
    """
    if in_memory is not None:
        return CheckpointSource(in_memory.name, in_memory=in_memory)
    if config.model is None:
        if config.gguf is not None:
            raise HeadprobeError(
                f"--gguf {config.gguf}",
                "names a file inside MODEL, and MODEL is missing",
                "Name the folder or Hub id before it, or the file itself as MODEL",
            )
        if config.adapter is not None:  # an adapter names its base model
            return CheckpointSource(config.adapter)
        return CheckpointSource.demo()
    return CheckpointSource(
        config.model,
        config.revision,
        config.trust_remote_code,
        adapter=config.adapter,
        gguf=config.gguf,
        gguf_cache=config.gguf_cache,
    )


def prepare_scan(
    config: ScanConfig,
    source: CheckpointSource,
    rules: Rules,
    progress: Progress,
    rank: Partition | None = None,
) -> PreparedScan:
    """Do everything that a scan can do without the weights, so that errors come early.

    ``rank`` is the share of this process, where several processes share the scan. Raises
    HeadprobeError for whatever keeps the scan from running.
    """
    files = find_probe_files(config.probes)
    if not files:
        raise HeadprobeError("scan", "no probe sets are bundled", "Name probes: -p FILE-OR-FOLDER")
    if config.annotate is not None and not any(map(is_plain_text, files)):
        raise HeadprobeError(
            f"--annotate {clip(config.annotate, 60)}",
            "parses plain text, and all probes are annotated already",
            "Name a text file or a folder of them with -p, or omit --annotate",
        )
    progress.stage("reading the model's configuration")
    source = resolve_adapter(source)
    model_config = load_config(source)
    reason = ""
    if source.in_memory is None:
        device = choose_device(config.device, None if rank is None else local_rank())
        quantised = source.kind == "gguf"
        dtype, reason = choose_dtype(config.dtype, model_config, device, stored_below_32=quantised)
    else:
        device = source.in_memory.device(config.device)
        dtype = source.in_memory.dtype(config.dtype)
    encoder = load_encoder(source)
    annotator = None
    if config.annotate is not None:
        progress.stage("loading the annotator")
        annotator = open_annotator(config.annotate)
    probes = read_corpus(
        files,
        encoder,
        context=getattr(model_config.get_text_config(), "max_position_embeddings", None),
        budget=config.budget,
        max_passages=config.max_passages,
        seed=config.seed,
        progress=progress,
        annotator=annotator,
    )
    check_tokens(source.name, model_config, probes.corpus.token_ids)
    for warning in role_warnings(probes.corpus.instances.judged_relations, rules):
        progress.warn(warning)
    partitions = [partition for partition in (config.shard, rank) if partition is not None]
    pass_plan = PassPlan.whole_run(probes.corpus, config.seed).partition(probes.corpus, partitions)
    return PreparedScan(source, model_config, encoder, device, dtype, reason, probes, pass_plan)
