"""Corpora of made-up passages."""

from functools import cache

import pytest

from headprobe.batching.corpus import align
from headprobe.batching.encoder import Encoder
from headprobe.measure.loop import measure
from headprobe.model.heads import observe_model
from tests.helpers.checkpoints import toy_tokenizer
from tests.helpers.passes import passages_of
from tests.helpers.probes import PROBES
from tests.helpers.tiny import random_ids, tiny_model


def corpus_of(budget: int = 40):
    encoder = Encoder(toy_tokenizer(), "toy")
    return align(passages_of(PROBES, encoder, budget), encoder, lambda _: None, seed=0)


def measured(grid, corpus, warnings=None, **options):
    warn = warnings.append if warnings is not None else pytest.fail
    passed = []
    found = measure(
        grid, corpus, seed=0, idle_line=0.3, advance=passed.append, warn=warn, **options
    )
    assert sum(passed) == len(corpus.lengths)
    return found.tallies


SHARED_GRID = cache(lambda: observe_model(tiny_model("llama-gqa"), "tiny", random_ids(9)))
