"""Sums of what must find nothing: a twin with random weights, and links that mean nothing."""

import hashlib
import json
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
import transformers

from headprobe.analysis.shuffled_links import shuffle_links
from headprobe.batching.corpus import Corpus
from headprobe.commands.distributed import Alone
from headprobe.commands.judging import Control
from headprobe.measure.loop import Measured, Work, measure
from headprobe.model.heads import HeadGrid
from headprobe.runs.checkpoint import Journal
from headprobe.runs.folder import CONTROL_SUMS, list_runs
from headprobe.runs.manifest import METHOD_VERSION
from headprobe.runs.sums import Tallies

CHECKPOINT = "checkpoint"
"""The part of a journal that is no control's."""

_ASIDE = ("_name_or_path", "transformers_version", "dtype", "torch_dtype")
"""What a configuration says without meaning another model; the dtype that is used counts by
itself."""


@dataclass(frozen=True)
class Setting:
    """All that sums depend on beside the weights; and the part of the ``work`` that is this
    process's, within ``memory``, kept in the ``journal`` until all ``ranks`` add theirs."""

    corpus: Corpus
    configuration: str
    device: torch.device
    dtype: torch.dtype
    seed: int
    idle_line: float
    memory: int | None
    warn: Callable[[str], None]
    work: Work
    journal: Journal
    ranks: Alone

    def measure(
        self,
        grid: HeadGrid,
        advance: Callable[[int], None],
        corpus: Corpus | None = None,
        part: str = CHECKPOINT,
    ) -> Measured:
        """One pass of a model over the passages, as they are or with other instances."""
        measured = measure(
            grid,
            corpus or self.corpus,
            seed=self.seed,
            idle_line=self.idle_line,
            memory=self.memory,
            advance=advance,
            warn=self.warn,
            work=self.work,
            page=self.journal.page(part),
        )
        return replace(measured, tallies=self.ranks.add(measured.tallies))

    def key(self, control: str, weights: str) -> str:
        """A hash that two controls share where they would have the same sums (up to rounding)."""
        parts = {
            "control": control,
            "weights": weights,
            "configuration": self.configuration,
            "dtype": str(self.dtype),
            "device": self.device.type,  # random weights are drawn there
            "versions": [torch.__version__, transformers.__version__],
            "seed": self.seed,
            "idle_line": self.idle_line,
            "method": METHOD_VERSION,
            "corpus": digest_corpus(self.corpus),
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def describe_configuration(config: Any) -> str:
    """A model's configuration as text, the same for the same model wherever it lies."""
    values = {key: value for key, value in deepcopy(config).to_dict().items() if key not in _ASIDE}
    return json.dumps(values, sort_keys=True, default=str)


def twin_of(
    setting: Setting, runs: Path, load: Callable[[], HeadGrid], advance: Callable[[int], None]
) -> Control:
    """The twin's sums: those of a run in the folder ``runs`` that has the same, else measured on
    the model that ``load`` gives."""
    key = setting.key("twin", "random")
    instances = setting.corpus.instances
    return _known("twin", setting, key, instances, runs) or Control(
        "twin",
        setting.seed,
        key,
        None,
        instances,
        setting.measure(load(), advance, part="twin").tallies,
    )


def shuffled_of(
    setting: Setting, runs: Path, weights: str, grid: HeadGrid, advance: Callable[[int], None]
) -> Control:
    """The sums over shuffled links, of a second pass of the model (``weights``: their hash) where
    no run in the folder ``runs`` has them."""
    key = setting.key("shuffled", weights)
    instances = shuffle_links(setting.corpus.instances, setting.seed)
    known = _known("shuffled", setting, key, instances, runs)
    if known is not None:
        return known
    corpus = replace(setting.corpus, instances=instances)
    tallies = setting.measure(grid, advance, corpus, "shuffled").tallies
    return Control("shuffled", setting.seed, key, None, instances, tallies)


def _known(name: str, setting: Setting, key: str, instances: Any, folder: Path) -> Control | None:
    if setting.work.parts > 1:  # those are the sums of a whole run
        return None
    for run in list_runs(folder)[0]:
        if any((note.control, note.key) == (name, key) for note in run.manifest.controls):
            try:
                tallies = Tallies.load(run.path / CONTROL_SUMS[name])
            except (OSError, ValueError, BadZipFile):
                continue  # damaged or taken away: measured again
            return Control(name, setting.seed, key, run.path.name, instances, tallies)
    return None


def digest_corpus(corpus: Corpus) -> str:
    """Of every array: so what the probes, the tokenizer and all cuts and samples come to counts."""
    digest = hashlib.sha256()
    instances = corpus.instances
    for whole in (corpus, instances):
        for field in fields(whole):
            value = getattr(whole, field.name)
            if isinstance(value, np.ndarray):
                text = value.dtype.kind in "US"
                array = np.array("\n".join(value.tolist()).encode()) if text else value
                digest.update(f"{field.name} {array.dtype.kind} {array.shape} ".encode())
                digest.update(np.ascontiguousarray(array).tobytes())
    digest.update(repr((corpus.starts, instances.relations)).encode())
    return digest.hexdigest()
