"""The memory of a corpus grows with its words only."""

import tracemalloc
from dataclasses import fields, replace

import numpy as np

from headprobe.batching.corpus import align
from headprobe.batching.encoder import Encoder
from headprobe.probes.catalog import find_probe_files, read_documents
from headprobe.probes.passages import cut_passages
from tests.helpers.checkpoints import toy_tokenizer
from tests.helpers.probes import PROBES

BYTES_A_WORD = 530
"""Peak bytes per word while aligning, with its tokens, links and classes."""


def ignore(_: object) -> None:
    """Ignore skipped parts."""


def grown(copies: int) -> tuple[int, int, int]:
    """Return the words of so many copies of the probes, the peak bytes while aligning them, and the
    bytes of the corpus."""
    encoder = Encoder(toy_tokenizer(), "toy")

    def passages():
        for copy in range(copies):
            for document in read_documents(find_probe_files([str(PROBES)]), ignore):
                named = replace(document, id=f"{copy}/{document.id}")
                yield from cut_passages(named, encoder.count, 40, ignore)

    tracemalloc.start()
    corpus = align(passages(), encoder, ignore, seed=0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    held = sum(
        value.nbytes
        for whole in (corpus, corpus.instances)
        for field in fields(whole)
        if isinstance(value := getattr(whole, field.name), np.ndarray)
    )
    return len(corpus.instances.form), peak, held


def test_memory_per_word_is_bounded() -> None:
    grown(1)
    few, many = grown(40), grown(160)
    words = many[0] - few[0]
    assert words > 5000
    assert (many[1] - few[1]) / words < BYTES_A_WORD
    assert (many[2] - few[2]) / words < BYTES_A_WORD
