"""What a run was made from, for its manifest."""

import platform
import sys
from collections.abc import Mapping
from datetime import datetime
from importlib import metadata

import torch

import headprobe
from headprobe.align.encoder import Encoder
from headprobe.evidence.sinks import FlaggedSink, flagged_sinks
from headprobe.model.checkpoint import Source, hash_weights
from headprobe.model.heads import HeadGrid
from headprobe.store.instances import FOLD_HASH
from headprobe.store.manifest import BitsNote, ControlNote, Manifest, ModelNote, TokenizerNote
from headprobe.verdicts.rules import Rules
from headprobe.workflows.judging import measured_with
from headprobe.workflows.measuring import Measured
from headprobe.workflows.reading import Reading

_PACKAGES = ("torch", "transformers", "tokenizers", "numpy")


def describe_run(
    model: ModelNote,
    encoder: Encoder,
    reading: Reading,
    measured: Measured,
    rules: Rules,
    *,
    controls: tuple[ControlNote, ...],
    used: int,
    seed: int,
    started: datetime,
    seconds: Mapping[str, float],
) -> Manifest:
    """The manifest of a finished measurement; ``used`` counts its instances."""
    tallies, corpus = measured.tallies, reading.corpus
    sinks = flagged_sinks(tallies, rules.sinks.weight, rules.sinks.min_passages)
    return Manifest(
        model=model,
        tokenizer=TokenizerNote(
            name=encoder.name,
            start_token=" ".join(encoder.start_tokens),
            start_prepended=encoder.prepended,
        ),
        sinks_removed=tuple(f"{token} (start)" for token in encoder.start_tokens),
        sinks_flagged=tuple(_describe_sink(sink, measured, encoder) for sink in sinks),
        probes=reading.probes,
        passages=len(corpus.lengths),
        tokens=int(corpus.lengths.sum()),
        used=used,
        skipped=sum(skip.count for skip in reading.skipped),
        unusable_words=reading.unusable_words,
        bits_per_character=BitsNote(
            measured.bits_per_character, measured.scored_passages, int(tallies["characters"])
        ),
        seed=seed,
        versions={
            "headprobe": headprobe.__version__,
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in _PACKAGES},
        },
        started=started.isoformat(timespec="seconds"),
        seconds=dict(seconds),
        peak_memory_mib=_peak_memory(torch.device(model.device)),
        rules_sha256=rules.sha256,
        fold_hash=FOLD_HASH,
        measured_with=measured_with(rules),
        controls=controls,
    )


def describe_model(source: Source, grid: HeadGrid) -> ModelNote:
    """The checkpoint as it was loaded."""
    config = grid.model.config
    text = config.get_text_config()
    return ModelNote(
        asked=source.name,
        kind=source.kind,
        revision=source.revision or getattr(config, "_commit_hash", None),
        weights_sha256=hash_weights(source),
        architecture=type(grid.model).__name__,
        dtype=str(grid.model.dtype).removeprefix("torch."),
        device=str(grid.device),
        n_layers=len(grid.layers),
        n_heads=grid.n_heads,
        n_kv_heads=(grid.n_kv_heads,) * len(grid.layers),
        head_dim=grid.head_dim,
        context=getattr(text, "max_position_embeddings", None),
    )


def _describe_sink(sink: FlaggedSink, measured: Measured, encoder: Encoder) -> str:
    if sink.kind == "token":
        key = f"token {encoder.tokens([int(measured.token_numbers[sink.index])])[0]!r}"
    else:
        key = f"position {sink.index} of the text"
    return f"{key}: {sink.weight:.2f} of the attention in layer {sink.layer}"


def _peak_memory(device: torch.device) -> float | None:
    """MiB of this process at its largest, and on top of it what an accelerator held."""
    if sys.platform == "win32":
        return None
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    if device.type == "cuda":
        peak += torch.cuda.max_memory_allocated(device)
    return round(peak / 2**20, 1)
