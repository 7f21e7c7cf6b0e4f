"""Adapters (LoRA and others of peft) over a base model: which base, and how they are put on it.

They stay active beside the base's weights instead of being merged into them: merging rounds, most
of all into quantised or half-precision weights, and the model that users run has them active.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import PreTrainedModel
from transformers.utils.hub import cached_file

from headprobe.errors import HeadprobeError
from headprobe.model.chatter import hold_back_chatter
from headprobe.model.load_errors import friendly_load_errors

if TYPE_CHECKING:
    from headprobe.model.load import CheckpointSource

CONFIG = "adapter_config.json"
WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")


def resolve_adapter(source: "CheckpointSource") -> "CheckpointSource":
    """The base and the adapter: MODEL itself may be an adapter, whose base is the one it names.

    HeadprobeError where an adapter is none, names no base, or lies over another adapter.
    """
    if source.in_memory is not None:
        return source
    own = _find(source.name, source.revision, CONFIG) if not source.bundled else None
    if source.adapter is not None:
        if own is not None:
            raise HeadprobeError(
                source.name, "is an adapter itself", "Name the base model beside --adapter"
            )
        _read_settings(source.adapter, source.adapter_revision)
        return source
    if own is None:
        return source
    settings = _read_settings(source.name, source.revision)
    base = settings.get("base_model_name_or_path")
    if not base or not isinstance(base, str):
        raise HeadprobeError(
            source.name, "is an adapter that does not name its base model", _remedy(source.name)
        )
    revision = settings.get("revision")
    return replace(
        source,
        name=base,
        revision=revision if isinstance(revision, str) else None,
        adapter=source.name,
        adapter_revision=source.revision,
        base_of_adapter=True,
    )


def base_is_missing(source: "CheckpointSource", error: HeadprobeError) -> HeadprobeError:
    """The base that an adapter names cannot be loaded: how to give it."""
    adapter = str(source.adapter)
    return HeadprobeError(
        adapter,
        f"is an adapter of {source.name}, which cannot be loaded ({error.what})",
        _remedy(adapter),
    )


def _remedy(adapter: str) -> str:
    return f"Give its base: headprobe scan BASE --adapter {adapter}"


def load_adapter(source: "CheckpointSource", model: PreTrainedModel) -> PreTrainedModel:
    """``model`` with the source's adapter active in its layers; HeadprobeError where it does not
    fit. The model's own modules are changed."""
    adapter = str(source.adapter)
    try:
        with hold_back_chatter():  # it imports the quantisation libraries that are installed
            import peft
    except ImportError as error:
        raise HeadprobeError(
            adapter, "is an adapter, which peft reads", "Install it: pip install headprobe[lora]"
        ) from error
    place = _place(adapter)
    options: dict[str, Any] = {"revision": source.adapter_revision}
    with (
        friendly_load_errors(adapter, f"cannot be put on {source.name}"),
        hold_back_chatter(),
    ):
        config = peft.PeftConfig.from_pretrained(place, **options)
        if config.is_prompt_learning:
            raise HeadprobeError(
                adapter,
                f"puts trained vectors before the text ({config.peft_type.value})",
                "headprobe reads adapters that change weights, as LoRA does",
            )
        try:
            tuned: Any = peft.PeftModel.from_pretrained(model, place, config=config, **options)
            stored = set(_stored_names(adapter, source.adapter_revision))
            expected = set(peft.get_peft_model_state_dict(tuned, save_embedding_layers=False))
        except RuntimeError as error:
            if "size mismatch" not in str(error):
                raise
            raise HeadprobeError(
                adapter,
                f"its weights do not have the shapes of {source.name}",
                "Name the base model that it was trained on",
            ) from error
    if missing := sorted(expected - stored):
        raise HeadprobeError(
            adapter,
            f"its weights for {source.name} are missing ({len(missing)}, {missing[0]} first)",
            "Name the base model that it was trained on, or get another copy",
        )
    if unused := sorted(
        name for name in stored - expected if "embed" not in name and "lm_head" not in name
    ):
        raise HeadprobeError(
            adapter,
            f"{source.name} has no place for its weights ({len(unused)}, {unused[0]} first)",
            "Name the base model that it was trained on",
        )
    base: PreTrainedModel = tuned.get_base_model()
    return base


def hash_adapter(source: "CheckpointSource") -> str:
    """SHA-256 over the adapter's configuration and weights, each by name and content."""
    digest = hashlib.sha256()
    for name in (CONFIG, *WEIGHTS):
        path = _find(str(source.adapter), source.adapter_revision, name)
        if path is not None:
            with path.open("rb") as stream:
                digest.update(name.encode() + hashlib.file_digest(stream, "sha256").digest())
            if name in WEIGHTS:
                break  # peft, too, takes the first
    return digest.hexdigest()


def _stored_names(adapter: str, revision: str | None) -> list[str]:
    """The names of the weights that the adapter's file holds."""
    from peft.utils import load_peft_weights

    return list(load_peft_weights(_place(adapter), device="cpu", revision=revision))


def _read_settings(adapter: str, revision: str | None) -> Mapping[str, Any]:
    path = _find(adapter, revision, CONFIG)
    if path is None:
        folder = Path(adapter).expanduser()
        what = f"has no {CONFIG}" if folder.exists() else "no such adapter"
        raise HeadprobeError(adapter, what, "Name a folder that peft's save_pretrained made")
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise HeadprobeError(
            adapter, f"its {CONFIG} is no valid JSON", "Get another copy"
        ) from error
    if not isinstance(settings, dict):
        raise HeadprobeError(adapter, f"its {CONFIG} holds no settings", "Get another copy")
    return settings


def _place(name: str) -> str:
    path = Path(name).expanduser()
    return str(path) if path.exists() else name


def _find(name: str, revision: str | None, file: str) -> Path | None:
    """A file of a folder or of a repository on the Hub; None where it has none."""
    folder = Path(name).expanduser()
    if folder.exists() or not _may_be_on_hub(name):
        return folder / file if (folder / file).is_file() else None
    with friendly_load_errors(name), hold_back_chatter():
        found = cached_file(
            name,
            file,
            revision=revision,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
    return None if found is None else Path(found)


def _may_be_on_hub(name: str) -> bool:
    return bool(name.strip()) and not name.startswith((".", "/", "~")) and name.count("/") <= 1
