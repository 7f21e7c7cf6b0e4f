"""Loading a checkpoint: configuration, tokenizer, weights; and every way in which that can fail."""

import atexit
import hashlib
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import numpy as np
import torch
from accelerate.utils import align_module_device
from numpy.typing import NDArray
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers.utils import SAFE_WEIGHTS_NAME, WEIGHTS_NAME
from transformers.utils import logging as transformers_logging
from transformers.utils.hub import cached_file

from headprobe.align.encoder import Encoder
from headprobe.errors import HeadprobeError
from headprobe.model.faults import mended
from headprobe.model.placing import room_beside, tell_places
from headprobe.packaged import DEMO_MODEL


@dataclass(frozen=True)
class Source:
    """Where a checkpoint comes from: a Hub id (with a revision), a folder, or the package."""

    name: str
    revision: str | None = None
    trust_remote_code: bool = False
    bundled: bool = False

    @classmethod
    def demo(cls) -> Self:
        """The demo model that comes with the package."""
        return cls("demo", bundled=True)

    @property
    def kind(self) -> str:
        """``bundled``, ``folder`` or ``hub``."""
        if self.bundled:
            return "bundled"
        return "hub" if self.folder is None else "folder"

    @property
    def folder(self) -> Path | None:
        """The local folder, or None for a Hub id."""
        path = DEMO_MODEL if self.bundled else Path(self.name).expanduser()
        return path if path.exists() else None

    @property
    def options(self) -> dict[str, Any]:
        return {"revision": self.revision, "trust_remote_code": self.trust_remote_code}

    @property
    def place(self) -> str:
        return str(self.folder or self.name)


def check_source(source: Source) -> None:
    """Refuse what can be seen to be no checkpoint without importing or asking anyone."""
    if not source.name.strip():
        raise HeadprobeError("MODEL", "is empty", "Name a checkpoint's folder or Hub id")
    folder = source.folder
    if folder is None:
        looks_local = source.name.startswith((".", "/", "~")) or source.name.count("/") > 1
        if looks_local:
            raise HeadprobeError(
                source.name, "no such folder", "Name a checkpoint's folder or Hub id"
            )
        return
    if folder.is_file():
        raise HeadprobeError(source.name, "is a file", "Name the folder that holds it")
    if not any(folder.iterdir()):
        raise HeadprobeError(source.name, "the folder is empty", "Name a checkpoint's folder")
    if not (folder / "config.json").is_file():
        raise HeadprobeError(
            source.name, "has no config.json", "Name a folder made by save_pretrained"
        )


def load_config(source: Source) -> Any:
    """The text decoder's configuration; HeadprobeError for what is not one."""
    check_source(source)
    with mended(source.name), quietly():
        config = AutoConfig.from_pretrained(source.place, **source.options)
    if getattr(config, "is_encoder_decoder", False):
        raise HeadprobeError(
            source.name,
            f"is an encoder-decoder ({config.model_type})",
            "headprobe reads decoders; name a Llama-style checkpoint",
        )
    return config


def load_encoder(source: Source) -> Encoder:
    """The tokenizer, which must be a fast one."""
    folder = source.folder
    if folder is not None and not any(
        (folder / name).is_file()
        for name in ("tokenizer.json", "tokenizer.model", "vocab.json", "tokenizer_config.json")
    ):
        raise HeadprobeError(
            source.name, "has no tokenizer", "Save the tokenizer beside the weights"
        )
    with mended(source.name, "its tokenizer cannot be loaded"), quietly():
        tokenizer = AutoTokenizer.from_pretrained(source.place, use_fast=True, **source.options)
    return Encoder(tokenizer, source.name)


def check_tokens(name: str, config: Any, ids: NDArray[np.integer]) -> None:
    """HeadprobeError where the tokenizer makes tokens that the model does not have."""
    largest, known = int(ids.max(initial=-1)), config.get_text_config().vocab_size
    if largest >= known:
        raise HeadprobeError(
            name,
            f"its tokenizer makes token {largest}, and its config.json knows {known} tokens",
            "The tokenizer belongs to another model; get both from one place",
        )


def choose_device(asked: str, rank: int | None = None) -> torch.device:
    """``auto``: CUDA, else Apple's GPU, else the CPU; otherwise the device asked for. Of several
    processes on one machine number ``rank`` has its own CUDA device."""
    if asked in ("auto", "cuda") and torch.cuda.is_available():
        there = torch.cuda.device_count()
        if rank is not None and rank >= there:
            raise HeadprobeError(
                f"rank {rank}",
                f"has no accelerator of its own: there are {there}",
                f"Start torchrun with --nproc-per-node {there}, or add --device cpu",
            )
        return torch.device("cuda") if rank is None else torch.device("cuda", rank)
    if asked == "auto":
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(asked)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise HeadprobeError(
            f"--device {asked}", "no such device here", "Try --device auto or --device cpu"
        ) from error
    return device


def load_model(
    source: Source,
    config: Any,
    device: torch.device,
    dtype: torch.dtype,
    warn: Callable[[str], None],
    *,
    spread: bool = False,
) -> PreTrainedModel:
    """The causal language model, in evaluation mode, every weight present and a number; told of
    through ``warn``: weights that the model has no use for. With ``spread`` a model that does not
    fit on the device fills one accelerator after another, then the host's memory, and then the
    disk."""
    with mended(source.name), quietly():
        room = room_beside(config, device, dtype) if spread else None
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            source.place,
            config=config,
            dtype=dtype,
            device_map={"": device} if room is None else "sequential",
            max_memory=room,
            offload_folder=None if room is None else offload_folder(),
            output_loading_info=True,
            **source.options,
        )
    model, report = loaded
    if room is not None and (told := tell_places(model, source.name, device)):
        warn(told)
    missing = sorted(report["missing_keys"])
    if missing:
        raise HeadprobeError(
            source.name,
            f"weights of {type(model).__name__} are missing ({len(missing)}, {missing[0]} first)",
            "The weights belong to another model or are incomplete; download them again",
        )
    unused = sorted(report["unexpected_keys"])
    if unused:
        warn(
            f"{source.name}: {type(model).__name__} does not use all of its weights "
            f"({len(unused)} are left, {unused[0]} first); does its config.json belong to it?"
        )
    for path, module in model.named_modules():
        with align_module_device(module):  # where it is offloaded, for as long as it is looked at
            for name, weight in module.named_parameters(path, recurse=False):
                low, high = torch.aminmax(weight.detach())
                if not (torch.isfinite(low) and torch.isfinite(high)):
                    raise HeadprobeError(
                        source.name,
                        f"weight {name} holds values that are not numbers",
                        "The checkpoint is damaged; get another copy or revision",
                    )
    evaluated: PreTrainedModel = model.eval()
    return evaluated


def offload_folder() -> str:
    """For weights that no safetensors file holds as they are needed; gone when the process ends."""
    folder = TemporaryDirectory(prefix="headprobe-")
    atexit.register(folder.cleanup)
    return folder.name


def hash_weights(source: Source) -> str:
    """SHA-256 over the checkpoint's weight files, each by name and content, in order of name."""
    digest = hashlib.sha256()
    for path in sorted(_weight_files(source), key=lambda path: path.name):
        with path.open("rb") as stream:
            digest.update(path.name.encode() + hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def _weight_files(source: Source) -> list[Path]:
    """The files that transformers takes weights from: safetensors first, whole before shards."""
    for stem in (SAFE_WEIGHTS_NAME, WEIGHTS_NAME):
        whole, index = _stored(source, stem), _stored(source, f"{stem}.index.json")
        if whole is not None:
            return [whole]
        if index is not None:
            shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
            return [path for shard in shards if (path := _stored(source, shard)) is not None]
    return []


def _stored(source: Source, name: str) -> Path | None:
    """A file of the checkpoint on this machine."""
    found = cached_file(
        source.place,
        name,
        revision=source.revision,
        local_files_only=True,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    return None if found is None else Path(found)


@contextmanager
def quietly() -> Iterator[None]:
    """Keep the libraries' own advice and bars off the screen: what matters, we say ourselves."""
    level = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    hub = logging.getLogger("huggingface_hub")
    hub_level = hub.level
    hub.setLevel(logging.CRITICAL)
    transformers_logging.set_verbosity(logging.CRITICAL)
    transformers_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers_logging.set_verbosity(level)
        hub.setLevel(hub_level)
        if bars:
            transformers_logging.enable_progress_bar()
