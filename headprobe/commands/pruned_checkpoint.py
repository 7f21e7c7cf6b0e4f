"""Saving a pruned checkpoint, and the proof that stock transformers loads it as measured."""

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from headprobe.causal.losses import ScoredSequences
from headprobe.causal.pruning import kept_groups, some_sequences, stock_losses, tolerance
from headprobe.errors import HeadprobeError
from headprobe.model.chatter import hold_back_chatter
from headprobe.model.heads import ObservedModel
from headprobe.model.load import ATTENTION, CheckpointSource, load_tokenizer, quiet_libraries
from headprobe.model.load_errors import friendly_load_errors, quote
from headprobe.model.surgery import Joint, remove_groups, silence_heads, smaller_model
from headprobe.runs.files import (
    atomic_folder,
    check_space,
    foreign_files,
    read_json_object,
    write_or_fail,
)
from headprobe.runs.head_mask import FORMAT, HeadMask, write_mask

MASK = "head_mask.json"
"""The mask inside a checkpoint, which also lists the checkpoint's files."""

PROOF_TOKENS = 1_000
"""On how many tokens the saved checkpoint is compared with the hooked model, or more."""

_REMEDY = "Name another folder: --save DIR"


@dataclass(frozen=True)
class SavedCheckpoint:
    """A checkpoint that was written, and how it compares with the hooked model."""

    path: Path
    model_type: str
    """The architecture as ``config.json`` names it."""
    origin_type: str
    """That of the original model."""
    dtype: str
    quantization: str | None
    """How the original weights are stored where they are quantised: these are not."""
    parameters: int
    origin_parameters: int
    """The number of parameters of the original model."""
    bytes: int
    """The size of the weight files."""
    tokens: int
    """The number of tokens on which the losses were compared."""
    loss: float
    """Their mean loss by stock transformers, in nats per token."""
    hooked_loss: float
    """Their mean loss by the hooked model."""
    largest_difference: float
    """The largest difference of a token's loss."""


def check_checkpoint_target(folder: Path, overwrite: bool) -> None:
    """Raise HeadprobeError unless a checkpoint may be written to ``folder``.

    It must not exist, or be empty; with ``overwrite`` it may be an earlier checkpoint of ours that
    holds no other files.
    """
    if not os.path.lexists(folder):
        parent = folder.absolute().parent
        while not os.path.lexists(parent):
            parent = parent.parent
        if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
            raise HeadprobeError(str(folder), "cannot be created", _REMEDY)
        return
    if folder.is_symlink() or not folder.is_dir():
        raise HeadprobeError(str(folder), "exists and is not a folder", _REMEDY)
    if not any(folder.iterdir()):
        return
    own = _own_files(folder)
    if not own:
        raise HeadprobeError(
            str(folder), "exists and is not a checkpoint that headprobe pruned", _REMEDY
        )
    if not overwrite:
        raise HeadprobeError(
            str(folder), "exists already", "Name another folder, or replace it: --overwrite"
        )
    if foreign := foreign_files(folder, own):
        raise HeadprobeError(
            str(folder),
            f"also holds files that headprobe did not write ({quote(', '.join(foreign[:3]))})",
            "Move them elsewhere first, or name another folder: --save DIR",
        )


def _own_files(folder: Path) -> frozenset[str]:
    """The names of the files that a checkpoint of ours lists; empty for any other folder."""
    values = read_json_object(folder / MASK)
    files = values.get("files")
    if values.get("format") != FORMAT or not isinstance(files, list):
        return frozenset()
    return frozenset(name for name in files if isinstance(name, str))


def save_checkpoint(
    folder: Path,
    observed: ObservedModel,
    source: CheckpointSource,
    mask: HeadMask,
    mask_values: Mapping[str, Any],
    mean: Tensor | None,
    layout: Joint | None,
    hooked: tuple[ScoredSequences, NDArray[np.float32]],
    *,
    quantization: str | None,
    overwrite: bool,
) -> SavedCheckpoint:
    """Write the model without the heads of ``mask`` to ``folder``, whole or not at all.

    ``mean`` [L, H, V] takes the place of their outputs, or zero where it is None. ``layout`` is
    that of joint projections, ``quantization`` says how the original weights are stored. The model
    itself may be changed. The checkpoint is loaded again and compared with the losses [M] of the
    ``hooked`` model; HeadprobeError where they differ by more than rounding.
    """
    model = observed.model
    origin = sum(parameter.numel() for parameter in model.parameters())
    origin_type = model.config.model_type
    size = sum(each.numel() * each.element_size() for each in model.parameters())
    check_space(folder.absolute().parent, size, f"Make room, or {_REMEDY[0].lower()}{_REMEDY[1:]}")
    if mask.groups_removed:
        kept = kept_groups(observed, mask.removed)
        smaller = smaller_model(observed, mask.groups_removed, source.name)
        pruned = remove_groups(observed, smaller, kept, layout or "parts")
    else:
        pruned = silence_heads(observed, mask.removed, mean)
    created = [each for each in folder.absolute().parents if not each.exists()]
    own = _own_files(folder) if folder.is_dir() else frozenset()
    target = folder.resolve()
    try:
        with (
            write_or_fail(folder, _REMEDY),
            atomic_folder(target, own, lambda: check_checkpoint_target(folder, overwrite)) as new,
        ):
            _write(pruned, source, mask_values, new)
            config, losses, scored = _load_again(new, source, pruned.dtype, hooked[0])
            expected = hooked[1][: len(losses)]
            difference = np.abs(losses - expected)
            if not difference.mean() <= tolerance(model):
                raise HeadprobeError(
                    source.name,
                    f"saved without these heads it computes something else: the losses of "
                    f"{len(scored.row):,} tokens differ by {difference.mean():.1e} nats",
                    "Use --mask and remove the heads with your own tools",
                )
            size = sum(path.stat().st_size for path in new.glob("*.safetensors"))
    except BaseException:
        with suppress(OSError):
            for each in created:
                each.rmdir()
        raise
    return SavedCheckpoint(
        path=folder,
        model_type=config.model_type,
        origin_type=origin_type,
        dtype=str(pruned.dtype).removeprefix("torch."),
        quantization=quantization,
        parameters=sum(parameter.numel() for parameter in pruned.parameters()),
        origin_parameters=origin,
        bytes=size,
        tokens=len(losses),
        loss=float(losses.mean(dtype=np.float64)),
        hooked_loss=float(expected.mean(dtype=np.float64)),
        largest_difference=float(difference.max()),
    )


def _write(
    model: PreTrainedModel, source: CheckpointSource, mask: Mapping[str, Any], folder: Path
) -> None:
    """Write weights, configuration, tokenizer and mask to an empty folder."""
    tokenizer = load_tokenizer(source)
    with quiet_libraries(), hold_back_chatter():
        try:
            model.save_pretrained(folder)
        except SafetensorError as error:  # how it reports a full disk
            raise HeadprobeError(
                str(folder.parent), f"cannot be written ({quote(error)})", _REMEDY
            ) from error
        except ValueError as error:
            raise HeadprobeError(
                source.name,
                f"cannot be saved again ({quote(error)})",
                "Correct its generation_config.json",
            ) from error
        tokenizer.save_pretrained(folder)
    files = sorted([*(path.name for path in folder.iterdir()), MASK])
    write_mask(folder / MASK, {**mask, "files": files})


def _load_again(
    folder: Path, source: CheckpointSource, dtype: torch.dtype, scored: ScoredSequences
) -> tuple[Any, NDArray[np.float32], ScoredSequences]:
    """The configuration of a saved checkpoint and its losses on some of the scored tokens, as stock
    transformers loads and runs it on the CPU."""
    part, _ = some_sequences(scored, PROOF_TOKENS)
    with (
        quiet_libraries(),
        hold_back_chatter(),
        friendly_load_errors(source.name, "its pruned checkpoint cannot be loaded"),
    ):
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            attn_implementation=ATTENTION,
            trust_remote_code=source.trust_remote_code,
        ).eval()
    return model.config, stock_losses(model, part), part
