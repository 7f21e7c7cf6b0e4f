"""The model that a run measured, for commands that need it again."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from headprobe.commands.provenance import hash_model
from headprobe.errors import HeadprobeError
from headprobe.model.adapters import resolve_adapter
from headprobe.model.dtypes import DTYPES
from headprobe.model.heads import ObservedModel, observe_model
from headprobe.model.in_memory import REMEDY, InMemoryModel
from headprobe.model.load import (
    CheckpointSource,
    choose_device,
    load_config,
    open_model,
    quiet_libraries,
)
from headprobe.runs.folder import MANIFEST, Run


def measured_source(
    run: Run, trust_remote_code: bool, in_memory: InMemoryModel | None = None
) -> CheckpointSource:
    """Return the source of the run's model; HeadprobeError if its name means another model here.

    ``in_memory`` is the model of a run that measured one in memory.
    """
    model = run.manifest.model
    if model.kind == "memory":
        if in_memory is None:
            raise HeadprobeError(
                str(run.path),
                "measured a model in memory, which cannot be loaded",
                f"In Python, give model and tokenizer again. Otherwise: {REMEDY}",
            )
        return CheckpointSource(in_memory.name, in_memory=in_memory)
    if in_memory is not None:
        raise HeadprobeError(
            "model", f"{run.path} measured {model.asked}, not a model in memory", "Leave it out"
        )
    source = CheckpointSource(
        model.asked,
        revision=model.revision if model.kind in ("hub", "gguf") else None,
        trust_remote_code=trust_remote_code,
        bundled=model.kind == "bundled",
        adapter=model.adapter,
        gguf=model.gguf,
    )
    _check_kind(run, source)
    return source


@contextmanager
def measured_model(
    run: Run, source: CheckpointSource, ids: torch.Tensor
) -> Iterator[ObservedModel]:
    """The run's model, loaded again and verified on ``ids`` [T]; HeadprobeError if its weights are
    not those that the run measured."""
    dtype = DTYPES.get(run.manifest.model.dtype)
    if source.in_memory is not None:
        dtype = source.in_memory.model.dtype
    if dtype is None:
        raise damaged(run, f"model.dtype is {run.manifest.model.dtype}, which no scan uses")
    with quiet_libraries():
        source = resolve_adapter(source)
        config = load_config(source)
        device = choose_device("auto")
        if source.in_memory is not None:
            device = source.in_memory.device("auto")
        if source.folder is not None:  # weights on the Hub are checked after the download
            check_weights(run, source, config)
        with open_model(source, config, device, dtype, lambda _: None, spread=True) as model:
            if source.folder is None:
                check_weights(run, source, config)
            yield observe_model(model, source.name, ids)


def _check_kind(run: Run, source: CheckpointSource) -> None:
    """Raise HeadprobeError if the model's name means something else here than in the scan."""
    kind = run.manifest.model.kind
    if kind == "folder" and source.folder is None:
        raise HeadprobeError(
            source.name,
            f"the folder of the model of {run.path} is not here",
            "Restore it, or scan the model where it is now",
        )
    if kind == "gguf" and source.kind == "hub" and not run.manifest.model.gguf:
        raise HeadprobeError(
            source.name,
            f"the GGUF file of the model of {run.path} is not here",
            "Run the command in the folder of the scan, or scan the file where it is now",
        )
    if kind != source.kind:
        raise HeadprobeError(
            source.name,
            f"is a {source.kind} here, and the model of {run.path} was a {kind}",
            "Run the command in the folder of the scan, or scan again",
        )


def check_weights(run: Run, source: CheckpointSource, config: Any) -> None:
    """Raise HeadprobeError if the weights are not those that the run measured."""
    if hash_model(source, config) != run.manifest.model.weights_sha256:
        raise HeadprobeError(
            source.name, f"its weights are not those that {run.path} measured", "Scan it again"
        )


def damaged(run: Run, what: str) -> HeadprobeError:
    """Return the error for a manifest that does not fit its model."""
    return HeadprobeError(str(run.path / MANIFEST), what, "Scan again")
