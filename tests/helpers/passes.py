"""Passages of the tiny probes, and the sums of one measurement of them."""

from itertools import islice
from pathlib import Path

from headprobe.batching.corpus import align
from headprobe.batching.encoder import Encoder
from headprobe.measure.loop import measure
from headprobe.measure.memory import BatchLimits
from headprobe.model.heads import observe_model
from headprobe.probes.catalog import find_probe_files, read_documents
from headprobe.probes.passages import cut_passages
from tests.helpers.tiny import random_ids

SMALL = BatchLimits(tokens=64, scores=1 << 12)
LARGE = BatchLimits(tokens=4096, scores=1 << 24)


def passages_of(path: Path, encoder: Encoder, budget: int, most: int = 10**6):
    ignore = lambda _: None  # noqa: E731
    documents = read_documents(find_probe_files([str(path)]), ignore)
    cuts = (
        p for document in documents for p in cut_passages(document, encoder.count, budget, ignore)
    )
    return list(islice(cuts, most))


def run(model, passages, encoder, limits=LARGE):
    corpus = align(passages, encoder, lambda _: None, seed=0)
    observed = observe_model(model, "tiny", random_ids(9))
    measured = measure(
        observed, corpus, seed=0, idle_line=0.3, limits=limits, advance=lambda _: None
    )
    return corpus.instances, measured.tallies
