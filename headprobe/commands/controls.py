"""Sums of the controls, which should earn no role: a random twin, and shuffled links."""

import hashlib
import json
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from headprobe.analysis.shuffled_links import shuffle_links
from headprobe.batching.corpus import Corpus
from headprobe.commands.distributed import ProcessGroup
from headprobe.commands.judging import ControlSums
from headprobe.errors import HeadprobeError
from headprobe.measure.loop import Measurement, PassPlan, measure
from headprobe.model.heads import ObservedModel
from headprobe.runs.checkpoint import CheckpointWriter
from headprobe.runs.fingerprint import Fingerprint
from headprobe.runs.folder import CONTROL_SUMS, list_runs
from headprobe.runs.manifest import METHOD_VERSION, ControlName
from headprobe.runs.sums import OPTIONAL

MODEL_PART = "checkpoint"
"""The name of the checkpoint's own part of a partial scan; each control has another part."""

_IGNORED_KEYS = ("_name_or_path", "transformers_version", "dtype", "torch_dtype")
"""Keys of a configuration that do not change the model; the dtype is compared separately."""


@dataclass(frozen=True)
class MeasurementSetup:
    """Everything that the sums depend on besides the weights, and how this process measures."""

    corpus: Corpus
    configuration: str
    device: torch.device
    dtype: torch.dtype
    seed: int
    idle_line: float
    memory: int | None
    warn: Callable[[str], None]
    pass_plan: PassPlan
    writer: CheckpointWriter
    group: ProcessGroup

    def measure(
        self,
        observed: ObservedModel,
        advance: Callable[[int], None],
        corpus: Corpus | None = None,
        part: str = MODEL_PART,
    ) -> Measurement:
        """Measure a model on the passages, or on a ``corpus`` with other instances of them.

        With several processes, the sums of all are on the first one.
        """
        measured = measure(
            observed,
            corpus or self.corpus,
            seed=self.seed,
            idle_line=self.idle_line,
            memory=self.memory,
            advance=advance,
            warn=self.warn,
            pass_plan=self.pass_plan,
            checkpoint=self.writer.part(part),
        )
        return replace(measured, tallies=self.group.reduce_sums(measured.tallies))

    def key(self, control: str, weights: str) -> str:
        """Return a hash that is equal for controls with the same sums (up to rounding)."""
        values = {
            "control": control,
            "weights": weights,
            "configuration": self.configuration,
            "dtype": str(self.dtype),
            "device": self.device.type,  # random weights differ between devices
            "versions": [torch.__version__, transformers.__version__],
            "seed": self.seed,
            "idle_line": self.idle_line,
            "method": METHOD_VERSION,
            "corpus": hash_corpus(self.corpus),
        }
        return Fingerprint(values).sha256


def config_text(config: Any) -> str:
    """Return a model's configuration as text; it does not depend on where the model is stored."""
    values = {
        key: value for key, value in deepcopy(config).to_dict().items() if key not in _IGNORED_KEYS
    }
    return json.dumps(values, sort_keys=True, default=str)


def measure_twin(
    setup: MeasurementSetup,
    runs: Path,
    load: Callable[[], ObservedModel],
    advance: Callable[[int], None],
) -> ControlSums:
    """Return the sums of the random twin.

    They are reused from a run in the folder ``runs`` if one has the same control, or else measured
    on the model that ``load`` returns.
    """
    key = setup.key("twin", "random")
    instances = setup.corpus.instances
    return _find_measured("twin", setup, key, instances, runs) or ControlSums(
        "twin",
        setup.seed,
        key,
        None,
        instances,
        setup.measure(load(), advance, part="twin").tallies,
    )


def measure_shuffled(
    setup: MeasurementSetup,
    runs: Path,
    weights: str,
    observed: ObservedModel,
    advance: Callable[[int], None],
) -> ControlSums:
    """Return the sums with shuffled links, for a model with the hash ``weights``.

    They are reused from a run in the folder ``runs`` if one has the same control, or else measured
    in a second pass of the model.
    """
    key = setup.key("shuffled", weights)
    instances = shuffle_links(setup.corpus.instances, setup.seed)
    known = _find_measured("shuffled", setup, key, instances, runs)
    if known is not None:
        return known
    corpus = replace(setup.corpus, instances=instances)
    tallies = setup.measure(observed, advance, corpus, "shuffled").tallies
    return ControlSums("shuffled", setup.seed, key, None, instances, tallies)


def _find_measured(
    name: ControlName, setup: MeasurementSetup, key: str, instances: Any, folder: Path
) -> ControlSums | None:
    if setup.pass_plan.parts > 1:  # runs have the sums of all parts
        return None
    for run in list_runs(folder)[0]:
        if any((note.control, note.key) == (name, key) for note in run.manifest.controls):
            try:
                tallies = run.sums(CONTROL_SUMS[name], instances)
            except HeadprobeError:
                continue  # damaged or removed: measure again
            if OPTIONAL - tallies.arrays.keys():
                continue  # of an earlier version
            return ControlSums(name, setup.seed, key, run.path.name, instances, tallies)
    return None


def hash_corpus(corpus: Corpus) -> str:
    """Return a hash of all arrays of a corpus: probes, tokens, passages and samples."""
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
