"""``headprobe scan --dry-run``: how much time and memory the scan will take, approximately.

A model of the same shape with random weights, few layers and a small vocabulary is measured on a
few passages, in the same way as the scan measures. The time of the scan follows from the numbers
of tokens and layers. The checkpoint's own weights are not read.
"""

import time
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
import psutil
import torch

from headprobe.batching.corpus import Corpus
from headprobe.commands.prepare import PreparedScan
from headprobe.config import ScanConfig
from headprobe.errors import HeadprobeError
from headprobe.measure.collector import StatisticsCollector
from headprobe.measure.loop import PassPlan, measure
from headprobe.measure.memory import WorkingSet
from headprobe.model.devices import free_memory, weight_bytes
from headprobe.model.heads import ObservedModel, observe_model
from headprobe.model.load import quiet_libraries
from headprobe.model.load_errors import friendly_load_errors
from headprobe.model.twin import build_twin
from headprobe.results.views import Estimate
from headprobe.roles.rules import Rules
from headprobe.vocabulary import LAGS

ALL_LAYERS_BYTES = 64 << 20
"""Models with at most so many bytes of weights are timed with all of their layers."""

LAYERS = 2
"""Number of layers that are timed of larger models."""

VOCABULARY = 4096
"""Maximum size of the vocabulary of the timed model: embeddings take memory, and no time."""

MODEL_SHARE = 0.25
"""Share of the free memory that the timed model may take at most."""

ENOUGH_SECONDS = 0.7
"""The sample of passages is doubled until its measurement takes so long."""

FIRST_SAMPLE = 512
"""Number of tokens of the first sample."""

LOAD_SECONDS, WEIGHT_SECONDS = 0.2, 1 / 300e6
"""Seconds to load a model: always, and to read and hash each byte of its weights."""

JUDGE_SECONDS, JUDGE_WORD_SECONDS = 0.003, 9e-7
"""Seconds to judge and write a run for each head, and for each word and head; fitted to runs of 48
and 270 heads on up to 25,188 words."""

LEAST_SECONDS = 0.05
"""Shorter stages are left out of the estimate."""

_REPEATED_TOKENS = 2 * sum(LAGS)
"""Number of repeated random tokens, which every scan measures."""


def estimate_scan(
    prepared: PreparedScan, config: ScanConfig, rules: Rules, read_seconds: float
) -> Estimate | None:
    """Return the estimate, or None if no model of the checkpoint's shape can be timed here.

    ``read_seconds`` is the time that reading the probes took.
    """
    layers = prepared.config.get_text_config().num_hidden_layers
    try:
        with quiet_libraries():
            weights = weight_bytes(prepared.config, prepared.dtype)
            timed_layers = layers if weights <= ALL_LAYERS_BYTES else min(LAYERS, layers)
            with friendly_load_errors(prepared.source.name):
                small = _reduced(prepared.config, timed_layers)
            reduced_bytes = weight_bytes(small, prepared.dtype)
            if reduced_bytes > MODEL_SHARE * free_memory(prepared.device):
                return None
            corpus = _reduced_corpus(prepared.probes.corpus, small)
            observed = _observe(prepared, small, corpus)
            per_token = _seconds_per_token(prepared, observed, corpus, config, rules)
            working = _working_bytes(observed, corpus, config, layers / timed_layers)
    except HeadprobeError:  # a shape without a model of few layers, or too little memory
        return None
    tokens = prepared.pass_plan.tokens(prepared.probes.corpus) + _REPEATED_TOKENS
    measuring = per_token * tokens * layers / timed_layers
    words = len(prepared.probes.corpus.instances.form)
    heads = layers * observed.n_heads
    controls = config.twin + config.shuffle
    seconds = {
        "read": read_seconds,
        "load": LOAD_SECONDS + weights * WEIGHT_SECONDS,
        "measure": measuring,
        "controls": measuring * controls,
        "judge": heads * (JUDGE_SECONDS + JUDGE_WORD_SECONDS * words) * (1 + controls / 2),
    }
    resident = psutil.Process().memory_info().rss
    memory = resident + weights + working
    shown = {name: value for name, value in seconds.items() if value >= LEAST_SECONDS}
    return Estimate(shown, memory / 2**20)


def _reduced(config: Any, layers: int) -> Any:
    """Return a copy of a model's configuration with few layers and a small vocabulary."""
    reduced = deepcopy(config)
    if hasattr(reduced, "quantization_config"):
        del reduced.quantization_config
    text = reduced.get_text_config()
    whole = text.num_hidden_layers
    for name, value in vars(text).copy().items():
        if isinstance(value, list) and len(value) == whole:  # one entry per layer
            setattr(text, name, value[:layers])
    text.num_hidden_layers = layers
    text.vocab_size = min(text.vocab_size, VOCABULARY)
    for name in ("pad_token_id", "bos_token_id", "eos_token_id"):
        if isinstance(number := getattr(text, name, None), int) and number >= text.vocab_size:
            setattr(text, name, 0)
    return reduced


def _reduced_corpus(corpus: Corpus, config: Any) -> Corpus:
    return replace(corpus, token_ids=corpus.token_ids % config.get_text_config().vocab_size)


def _observe(prepared: PreparedScan, config: Any, corpus: Corpus) -> ObservedModel:
    model = build_twin(prepared.source, config, prepared.device, prepared.dtype, seed=0)
    tokens = torch.from_numpy(corpus.token_ids[: len(prepared.check_tokens)]).long()
    return observe_model(model, prepared.source.name, tokens)


def _seconds_per_token(
    prepared: PreparedScan,
    observed: ObservedModel,
    corpus: Corpus,
    config: ScanConfig,
    rules: Rules,
) -> float:
    """Measure samples of passages until one takes long enough; return the seconds per token."""
    planned = prepared.pass_plan
    passages = np.random.default_rng(0).permutation(
        np.concatenate([planned.scored, planned.others])
    )
    ends = np.cumsum(corpus.lengths[passages])

    def seconds(count: int) -> float:
        chosen = np.sort(passages[:count])
        none = chosen[:0]
        part = PassPlan(none, chosen, none, planned.copy_sequences, planned.parts)
        before = time.perf_counter()
        measure(
            observed,
            corpus,
            seed=config.seed,
            idle_line=rules.idle.output_norm,
            advance=lambda _: None,
            memory=config.memory,
            pass_plan=part,
        )
        return time.perf_counter() - before

    seconds(1)  # compiles the loops and fills the allocator
    tokens = FIRST_SAMPLE
    while True:
        count = min(int(np.searchsorted(ends, tokens)) + 1, len(passages))
        taken = seconds(count)
        if taken >= ENOUGH_SECONDS or count == len(passages):
            return taken / (int(ends[count - 1]) + _REPEATED_TOKENS)
        tokens *= 2


def _working_bytes(
    observed: ObservedModel, corpus: Corpus, config: ScanConfig, layers: float
) -> float:
    """Return the memory of the scan beyond the weights; ``layers`` times those of ``observed``."""
    distinct = len(np.unique(corpus.token_ids))
    collector = StatisticsCollector(
        observed, corpus.instances, distinct, corpus.starts, seed=config.seed, idle_line=0.0
    )
    working = WorkingSet(observed, corpus, collector.held_bytes)
    chunks = (config.memory or working.default_bytes) - working.held_bytes
    return max(chunks, 0) + working.held_bytes * layers
