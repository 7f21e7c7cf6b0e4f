"""The provenance of a run, for its manifest: model, tokenizer, versions, memory."""

import functools
import hashlib
import platform
import sys
from collections.abc import Mapping
from datetime import datetime
from importlib import metadata
from typing import Any

import torch

import headprobe
from headprobe.batching.encoder import Encoder
from headprobe.commands.judging import measuring_rules
from headprobe.commands.prepare import PASSAGE_BUDGET, ProbeCorpus
from headprobe.measure.loop import PassPlan
from headprobe.model.adapters import hash_adapter
from headprobe.model.heads import ObservedModel
from headprobe.model.load import CheckpointSource, hash_weights
from headprobe.model.quantization import describe_quantization
from headprobe.roles.rules import Rules
from headprobe.runs.instances import FOLD_HASH
from headprobe.runs.manifest import BitsNote, Manifest, ModelNote, TokenizerNote, WorkNote

_PACKAGES = ("torch", "transformers", "tokenizers", "numpy")


def draft_manifest(
    model: ModelNote,
    encoder: Encoder,
    probes: ProbeCorpus,
    rules: Rules,
    *,
    seed: int,
    started: datetime,
    seconds: Mapping[str, float],
    work: WorkNote,
) -> Manifest:
    """Return the manifest without the values that follow from the sums (``commands.judging``)."""
    corpus = probes.corpus
    scored = PassPlan.whole_run(corpus, seed).scored
    budget = {} if probes.budget is None else {PASSAGE_BUDGET: float(probes.budget)}
    return Manifest(
        model=model,
        tokenizer=TokenizerNote(
            name=encoder.name,
            start_token=" ".join(encoder.start_tokens),
            start_prepended=encoder.prepended,
        ),
        sinks_removed=tuple(f"{token} (start)" for token in encoder.start_tokens),
        sinks_flagged=(),
        probes=probes.files,
        passages=corpus.instances.text_passages,
        tokens=int(corpus.lengths[: corpus.instances.text_passages].sum()),
        used=0,
        skipped=sum(skip.count for skip in probes.skipped),
        unusable_words=probes.unusable_words,
        bits_per_character=BitsNote(0.0, len(scored), 0, int(corpus.text_bytes[scored].sum())),
        seed=seed,
        versions=versions(),
        started=started.isoformat(timespec="seconds"),
        seconds=dict(seconds),
        peak_memory_mib=_peak_memory(),
        rules_sha256=rules.sha256,
        fold_hash=FOLD_HASH,
        measured_with=measuring_rules(rules) | budget,
        work=work,
        sampled_from=probes.sampled_from,
        annotator=probes.annotator,
    )


def versions() -> dict[str, str]:
    """Return the versions of the software that numbers can depend on."""
    return {
        "headprobe": headprobe.__version__,
        "python": platform.python_version(),
        **_package_versions(),
    }


@functools.cache
def _package_versions() -> dict[str, str]:
    return {name: metadata.version(name) for name in _PACKAGES}


def describe_model(
    source: CheckpointSource, observed: ObservedModel, dtype_reason: str
) -> ModelNote:
    """Describe the checkpoint as it was loaded; ``dtype_reason`` says why in this dtype."""
    config = observed.model.config
    text = config.get_text_config()
    dtype = str(observed.model.dtype).removeprefix("torch.")
    file = source.gguf_file
    return ModelNote(
        asked=source.name,
        kind=source.kind,
        revision=source.revision or getattr(config, "_commit_hash", None) or source.commit,
        weights_sha256=hash_model(source, config),
        architecture=type(observed.model).__name__,
        dtype=dtype,
        device=", ".join(map(str, observed.devices)),
        n_layers=len(observed.layers),
        n_heads=observed.n_heads,
        n_kv_heads=(observed.n_kv_heads,) * len(observed.layers),
        head_dim=observed.head_dim,
        context=getattr(text, "max_position_embeddings", None),
        gguf=source.gguf,
        quantization=describe_quantization(config) if file is None else file.describe(dtype),
        adapter=source.adapter if source.in_memory is None else source.in_memory.adapter,
        adapter_sha256=None if source.adapter is None else hash_adapter(source),
        dtype_reason=dtype_reason,
    )


def hash_model(source: CheckpointSource, config: Any) -> str:
    """Return the SHA-256 of all weights that are loaded, including an adapter's."""
    if source.in_memory is not None:
        return source.in_memory.sha256()
    base = hash_weights(source, config)
    if source.adapter is None:
        return base
    return hashlib.sha256(f"{base} {hash_adapter(source)}".encode()).hexdigest()


def _peak_memory() -> float | None:
    """Peak memory of this process and of each accelerator, added, in MiB."""
    if sys.platform == "win32":
        return None
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    if torch.cuda.is_initialized():
        peak += sum(map(torch.cuda.max_memory_allocated, range(torch.cuda.device_count())))
    return round(peak / 2**20, 1)
