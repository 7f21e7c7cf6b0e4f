"""Adapters (LoRA and others that peft reads): finding their base model and loading them on it.

An adapter stays active next to the base model's weights and is not merged into them. Merging
rounds, especially into quantised or half-precision weights, and users run the model with its
adapter active.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import PreTrainedModel
from transformers.utils.hub import cached_file

from headprobe.errors import HeadprobeError
from headprobe.model.chatter import hold_back_chatter
from headprobe.model.configuration import LARGEST
from headprobe.model.files import check_folder, local_path
from headprobe.model.hub import hub_is_reachable
from headprobe.model.load_errors import friendly_load_errors, quote

if TYPE_CHECKING:
    from headprobe.model.load import CheckpointSource

CONFIG = "adapter_config.json"
"""The file of a peft adapter's settings."""

WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
"""The files that may hold an adapter's weights; peft loads the first that exists."""


def resolve_adapter(source: "CheckpointSource") -> "CheckpointSource":
    """Return the source with its base model and its adapter separate.

    Where MODEL itself is an adapter, the base model is the one that its settings name. Raises
    HeadprobeError for an adapter that is not one, that names no base model, or whose base model is
    an adapter itself.
    """
    if source.in_memory is not None:
        return source
    own = _find(source.name, source.revision, CONFIG) if not source.bundled else None
    if source.adapter is not None:
        if own is not None:
            raise HeadprobeError(
                source.name,
                "is an adapter itself",
                "Name the base model and give the adapter as --adapter",
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
    """The error where the base model that an adapter names cannot be loaded."""
    adapter = str(source.adapter)
    return HeadprobeError(
        adapter,
        f"is an adapter of {quote(source.name)}, which cannot be loaded ({error.what})",
        _remedy(adapter),
    )


def _remedy(adapter: str) -> str:
    return f"Name its base model as MODEL, with --adapter {adapter}"


def load_adapter(source: "CheckpointSource", model: PreTrainedModel) -> PreTrainedModel:
    """Load the source's adapter into the layers of ``model``, in place, and return the model.

    Raises HeadprobeError where the adapter does not fit the model.
    """
    adapter = str(source.adapter)
    try:
        with hold_back_chatter():  # this imports the quantisation libraries that are installed
            import peft
    except ImportError as error:
        raise HeadprobeError(
            adapter, "is an adapter, which needs peft", "Install it: pip install headprobe[lora]"
        ) from error
    place = _place(adapter)
    options: dict[str, Any] = {"revision": source.adapter_revision}
    if local_path(adapter) is None and not hub_is_reachable():
        options["local_files_only"] = True
    with (
        friendly_load_errors(adapter, f"cannot be loaded on {source.name}"),
        hold_back_chatter(),
    ):
        config = peft.PeftConfig.from_pretrained(place, **options)
        if config.is_prompt_learning:
            raise HeadprobeError(
                adapter,
                f"adds trained vectors before the text ({config.peft_type.value})",
                "Use an adapter that changes weights, such as LoRA",
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
            f"its weights for {source.name} are missing ({len(missing)}, first {missing[0]})",
            "Name the base model that it was trained on, or get another copy",
        )
    if unused := sorted(
        name for name in stored - expected if "embed" not in name and "lm_head" not in name
    ):
        raise HeadprobeError(
            adapter,
            f"{source.name} has no layers for its weights ({len(unused)}, first {unused[0]})",
            "Name the base model that it was trained on",
        )
    base: PreTrainedModel = tuned.get_base_model()
    return base


def hash_adapter(source: "CheckpointSource") -> str:
    """The SHA-256 of the names and contents of the adapter's settings and weights."""
    digest = hashlib.sha256()
    for name in (CONFIG, *WEIGHTS):
        path = _find(str(source.adapter), source.adapter_revision, name)
        if path is not None:
            with path.open("rb") as stream:
                digest.update(name.encode() + hashlib.file_digest(stream, "sha256").digest())
            if name in WEIGHTS:
                break  # peft loads the first only
    return digest.hexdigest()


def _stored_names(adapter: str, revision: str | None) -> list[str]:
    """The names of the weights in the adapter's file."""
    from peft.utils import load_peft_weights

    return list(load_peft_weights(_place(adapter), device="cpu", revision=revision))


def _read_settings(adapter: str, revision: str | None) -> Mapping[str, Any]:
    """The adapter's settings; raises HeadprobeError where there are none that can be read."""
    path = _find(adapter, revision, CONFIG)
    if path is None:
        what = "no such adapter" if local_path(adapter) is None else f"has no {CONFIG}"
        raise HeadprobeError(adapter, what, "Name a folder written by peft's save_pretrained")
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise HeadprobeError(
            adapter, f"its {CONFIG} is not valid JSON", "Get another copy"
        ) from error
    if not isinstance(settings, dict):
        raise HeadprobeError(adapter, f"its {CONFIG} contains no settings", "Get another copy")
    if endless := _endless(settings):
        raise HeadprobeError(adapter, f"its {CONFIG} {endless}", "Get another copy, or correct it")
    return settings


_PATTERNS = (
    *("target_modules", "exclude_modules", "modules_to_save", "layers_pattern"),
    *("rank_pattern", "alpha_pattern"),
)
"""Settings that peft takes as regular expressions for the names of modules, or as lists of them."""

MOST_REPEATS = 6
"""The most repetitions in one of them. Matching takes as many steps as a name has letters, to the
power of this number."""

LARGEST_RANK = 1 << 16
"""The largest accepted rank of an adapter."""


def _endless(settings: Mapping[str, Any]) -> str | None:
    """What in the settings would keep peft busy without end; None where nothing does."""
    for key in _PATTERNS:
        for pattern in _texts(settings.get(key)):
            plain = re.sub(r"\\.|\[\^?\]?[^\]]*\]", "x", pattern, flags=re.DOTALL)
            if re.search(r"\)[*+{]", plain) or len(re.findall(r"[*+{]", plain)) > MOST_REPEATS:
                return f"gives a pattern in {key} that may take for ever ({quote(pattern)})"
    ranks = settings.get("rank_pattern")
    for rank in (settings.get("r"), *(ranks.values() if isinstance(ranks, Mapping) else ())):
        if isinstance(rank, int) and rank > LARGEST_RANK:
            return f"gives a rank of more than {LARGEST_RANK:,}"
    copies, most = settings.get("layer_replication"), LARGEST["num_hidden_layers"]
    if isinstance(copies, list) and (len(copies) > most or sum(map(_span, copies)) > most):
        return f"asks for more than {most:,} layers"
    return None


def _texts(value: Any) -> Iterator[str]:
    """The texts in a setting that is one text, a list of them, or a mapping from them."""
    values = [value] if isinstance(value, str) else value
    if isinstance(values, list | Mapping):
        yield from (each for each in values if isinstance(each, str))


def _span(ends: Any) -> int:
    """The number of layers in a pair of the first and the last."""
    match ends:
        case [int(first), int(last)]:
            return max(0, last - first)
    return 0


def _place(name: str) -> str:
    """The adapter as peft takes it: an existing path, with ``~`` expanded, or a Hub id."""
    return str(local_path(name) or name)


def _find(name: str, revision: str | None, file: str) -> Path | None:
    """The path of a file in an adapter's folder or Hub repository, or None."""
    folder = local_path(name)
    if folder is not None and folder.is_dir():
        check_folder(name, folder)
    if folder is not None:
        return folder / file if (folder / file).is_file() else None
    if not _may_be_on_hub(name):
        return None
    with friendly_load_errors(name), hold_back_chatter():
        path = cached_file(
            name,
            file,
            revision=revision,
            local_files_only=not hub_is_reachable(),
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
    return None if path is None else Path(path)


def _may_be_on_hub(name: str) -> bool:
    return bool(name.strip()) and not name.startswith((".", "/", "~")) and name.count("/") <= 1
