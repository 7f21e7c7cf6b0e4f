"""What a scan works with before the weights are there: what is wrong with it is said first."""

from dataclasses import dataclass
from typing import Any

import torch

from headprobe.align.encoder import Encoder
from headprobe.errors import HeadprobeError
from headprobe.model.adapters import resolve_adapter
from headprobe.model.checkpoint import (
    Source,
    check_tokens,
    choose_device,
    load_config,
    load_encoder,
)
from headprobe.model.dtypes import choose_dtype
from headprobe.probes.catalog import resolve
from headprobe.report.progress import Progress
from headprobe.verdicts.rules import Rules
from headprobe.workflows.judging import doubts_of_roles
from headprobe.workflows.ranks import local_rank
from headprobe.workflows.reading import Reading, read_corpus
from headprobe.workflows.request import ScanRequest
from headprobe.workflows.shares import Share
from headprobe.workflows.work import Work


@dataclass(frozen=True)
class Found:
    """The checkpoint, its configuration and tokenizer, the device, the dtype and the reason for it,
    the corpus, and the passes of this process."""

    source: Source
    config: Any
    encoder: Encoder
    device: torch.device
    dtype: torch.dtype
    dtype_reason: str
    reading: Reading
    work: Work

    @property
    def proof(self) -> torch.Tensor:
        """[T]: the start of the first passage, on which the capture is proved."""
        end = min(int(self.reading.corpus.token_first[1]), 64)
        return torch.from_numpy(self.reading.corpus.token_ids[:end]).long()


def look(
    request: ScanRequest, rules: Rules, progress: Progress, rank: Share | None = None
) -> Found:
    """Read all that can be known without the weights; HeadprobeError where it will not do. The
    ``rank`` is this process's share of what was asked for."""
    files = resolve(request.probes)
    if not files:
        raise HeadprobeError(
            "scan", "no probe sets are bundled yet", "Name probes: -p FILE-OR-FOLDER"
        )
    progress.stage("reading the model's configuration")
    source = resolve_adapter(request.source)
    config = load_config(source)
    reason = ""
    if source.in_memory is None:
        device = choose_device(request.device, None if rank is None else local_rank())
        quantised = source.kind == "gguf"
        dtype, reason = choose_dtype(request.dtype, config, device, stored_below_32=quantised)
    else:
        device = source.in_memory.device(request.device)
        dtype = source.in_memory.dtype(request.dtype)
    encoder = load_encoder(source)
    reading = read_corpus(
        files,
        encoder,
        context=getattr(config.get_text_config(), "max_position_embeddings", None),
        budget=request.budget,
        max_passages=request.max_passages,
        seed=request.seed,
        progress=progress,
    )
    check_tokens(source.name, config, reading.corpus.token_ids)
    for doubt in doubts_of_roles(reading.corpus.instances.relations, rules):
        progress.warn(doubt)
    shares = [share for share in (request.shard, rank) if share is not None]
    work = Work.of(reading.corpus, request.seed).share(reading.corpus, shares)
    return Found(source, config, encoder, device, dtype, reason, reading, work)
