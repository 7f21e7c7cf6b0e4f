"""Loading a checkpoint: its configuration, its tokenizer and its weights.

Every way in which loading can fail raises HeadprobeError.
"""

import atexit
import hashlib
import logging
import shlex
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import numpy as np
import torch
from accelerate.utils import align_module_device
from numpy.typing import NDArray
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.utils import logging as transformers_logging
from transformers.utils.hub import cached_file, extract_commit_hash

from headprobe.batching.encoder import Encoder
from headprobe.errors import HeadprobeError
from headprobe.model.adapters import base_is_missing, load_adapter
from headprobe.model.chatter import hold_back_chatter, hold_back_panics
from headprobe.model.configuration import (
    check_amount,
    check_memory,
    check_raw,
    check_sizes,
    check_tokenizer,
)
from headprobe.model.devices import describe_placement, weight_memory
from headprobe.model.files import check_folder, local_file, local_path, weight_files
from headprobe.model.gguf import GgufFile, check_complete, forget_blocks, is_gguf, list_gguf
from headprobe.model.hub import hub_is_reachable
from headprobe.model.in_memory import InMemoryModel
from headprobe.model.load_errors import friendly_load_errors, unreachable
from headprobe.model.quantization import check_quantization
from headprobe.resources import DEMO_MODEL

ATTENTION = "eager"
"""The attention implementation requested wherever a model is loaded or built. A configuration could
otherwise request a kernel from the Hub, which is code."""


@dataclass(frozen=True)
class CheckpointSource:
    """Where a checkpoint comes from: the Hub, a folder, a GGUF file, the package, or memory."""

    name: str
    """A Hub id, or the path of a folder or GGUF file."""
    revision: str | None = None
    """The branch, tag or commit on the Hub."""
    trust_remote_code: bool = False
    """Whether the checkpoint's own Python code may run."""
    bundled: bool = False
    """Whether this is the demo model of the package."""
    adapter: str | None = None
    """The folder or Hub id of a peft adapter to load on the model."""
    adapter_revision: str | None = None
    """The branch, tag or commit of the adapter on the Hub."""
    base_of_adapter: bool = False
    """Whether ``name`` comes from the adapter's settings and not from the user."""
    in_memory: InMemoryModel | None = None
    """The model itself, where the caller has it: nothing is read from disk."""
    gguf: str | None = None
    """The name of a GGUF file inside the folder or Hub repository ``name``."""
    gguf_cache: bool = True
    """Whether converted copies of GGUF files are read from and written to the cache."""

    @classmethod
    def demo(cls) -> Self:
        """The source of the demo model that comes with the package."""
        return cls("demo", bundled=True)

    @property
    def kind(self) -> str:
        """``bundled``, ``gguf``, ``folder``, ``hub`` or ``memory``."""
        if self.in_memory is not None:
            return "memory"
        if self.bundled:
            return "bundled"
        if self.gguf is not None or self._local_gguf is not None:
            return "gguf"
        return "hub" if self.folder is None else "folder"

    @property
    def folder(self) -> Path | None:
        """The local folder, or None for a Hub id or a model in memory."""
        if self.in_memory is not None:
            return None
        return DEMO_MODEL if self.bundled else local_path(self.name)

    @property
    def _local_gguf(self) -> Path | None:
        """The local GGUF file: MODEL itself, ``gguf`` in the folder, or the only one in a folder
        without a config.json; else None."""
        folder = self.folder
        if folder is None or self.bundled:
            return None
        if folder.is_file():
            return folder if is_gguf(folder) else None
        if self.gguf is not None:
            return folder / self.gguf
        if (folder / "config.json").is_file():
            return None
        names = list_gguf(folder)
        return folder / names[0] if len(names) == 1 else None

    @property
    def gguf_file(self) -> GgufFile | None:
        """The GGUF file with the weights, downloaded if it is on the Hub; None for other kinds."""
        if self.kind != "gguf":
            return None
        path = self._local_gguf
        file_name = self.gguf or ""
        if path is None:
            reachable = hub_is_reachable()
            with friendly_load_errors(self.name), quiet_libraries():
                cached = cached_file(
                    self.name,
                    file_name,
                    revision=self.revision,
                    local_files_only=not reachable,
                    _raise_exceptions_for_missing_entries=False,
                )
            if cached is None:
                raise (
                    HeadprobeError(
                        f"--gguf {self.gguf}",
                        f"{self.name} has no such file",
                        "Take the file's name from the model's page",
                    )
                    if reachable
                    else unreachable(self.name)
                )
            path = Path(cached)
        return GgufFile(path, str(Path(self.name, file_name)), self.gguf_cache)

    @property
    def commit(self) -> str | None:
        """The commit of a GGUF file on the Hub; None for other sources."""
        file = None if self.folder is not None else self.gguf_file
        return None if file is None else extract_commit_hash(str(file.path), None)

    @property
    def options(self) -> dict[str, Any]:
        """The options of ``from_pretrained`` that go with ``place``."""
        return {
            "revision": self.revision,
            "trust_remote_code": self.trust_remote_code,
            "local_files_only": self.kind == "hub" and not hub_is_reachable(),
        }

    @property
    def place(self) -> str:
        """The folder or Hub id for ``from_pretrained``."""
        return str(self.folder or self.name)


def check_source(source: CheckpointSource) -> None:
    """Raise HeadprobeError for a source that cannot be a checkpoint, without network access."""
    if not source.name.strip():
        raise HeadprobeError("MODEL", "is empty", "Name a checkpoint's folder or Hub id")
    folder = source.folder
    if source.gguf is not None:
        _check_gguf_option(source)
    if folder is None:
        if source.name.lower().endswith(".gguf"):
            raise HeadprobeError(source.name, "no such GGUF file", "Check its path")
        looks_local = source.name.startswith((".", "/", "~")) or source.name.count("/") > 1
        if looks_local:
            raise HeadprobeError(
                source.name, "no such folder", "Name a checkpoint's folder or Hub id"
            )
        return
    if source.kind == "gguf":
        return
    if folder.is_file():
        has_config = (folder.parent / "config.json").is_file()
        raise HeadprobeError(
            source.name,
            "is a file, but not a GGUF file",
            f"Name its folder: {folder.parent}"
            if has_config
            else "Name a GGUF file, or a folder with config.json, weights and tokenizer",
        )
    if not folder.is_dir():
        raise HeadprobeError(
            source.name, "is neither a file nor a folder", "Name a checkpoint's folder or Hub id"
        )
    if not any(folder.iterdir()):
        raise HeadprobeError(source.name, "the folder is empty", "Name a checkpoint's folder")
    check_folder(source.name, folder)
    if not (folder / "config.json").is_file():
        if names := list_gguf(folder):
            raise HeadprobeError(
                source.name,
                f"contains {len(names)} GGUF files ({_first_names(names)})",
                f"Choose one: --gguf {shlex.quote(names[0])}",
            )
        raise HeadprobeError(
            source.name, "has no config.json", "Name a folder written by save_pretrained"
        )
    if (names := list_gguf(folder)) and not any(
        path.suffix in (".safetensors", ".bin") for path in folder.iterdir()
    ):
        raise HeadprobeError(
            source.name,
            "has no weights except GGUF files",
            f"Choose one: --gguf {shlex.quote(names[0])}",
        )


def _check_gguf_option(source: CheckpointSource) -> None:
    """Raise HeadprobeError where ``--gguf`` does not name a GGUF file inside the folder."""
    folder, where = source.folder, f"--gguf {source.gguf}"
    if folder is None:
        return
    if source.bundled or folder.is_file():
        raise HeadprobeError(where, "MODEL is a file itself", "Omit --gguf")
    if not is_gguf(folder / str(source.gguf)):
        names = list_gguf(folder)
        remedy = (
            f"It contains {_first_names(names)}" if names else "Name a folder that contains one"
        )
        raise HeadprobeError(where, f"{source.name} has no such GGUF file", remedy)


def _first_names(names: list[str]) -> str:
    """Up to five names for a message."""
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def load_config(source: CheckpointSource) -> Any:
    """Load the configuration of a decoder; the adapter of ``source`` is resolved already.

    Raises HeadprobeError where the checkpoint is not a decoder, and where its weights are quantised
    in a format that cannot be loaded here.
    """
    try:
        return _load_config(source)
    except HeadprobeError as error:
        raise (base_is_missing(source, error) if source.base_of_adapter else error) from error


def _load_config(source: CheckpointSource) -> Any:
    if source.in_memory is not None:
        config: Any = deepcopy(source.in_memory.model.config)
    else:
        check_source(source)
        with reading(source), friendly_load_errors(source.name), quiet_libraries():
            place, options = _text_place(source)
            raw, _ = PreTrainedConfig.get_config_dict(place, **options)
        check_raw(source.name, raw)
        with reading(source), friendly_load_errors(source.name), quiet_libraries():
            config = AutoConfig.from_pretrained(place, attn_implementation=ATTENTION, **options)
            text = config.get_text_config()
        check_sizes(source.name, text)
        check_quantization(source.name, config)
        if source.kind != "gguf":  # whose header gives the shapes of its weights
            check_amount(source.name, config, weight_files(source, config))
    if getattr(config, "is_encoder_decoder", False):
        raise HeadprobeError(
            source.name,
            f"is an encoder-decoder ({config.model_type})",
            "headprobe reads decoders; name a Llama-style checkpoint",
        )
    return config


def load_encoder(source: CheckpointSource) -> Encoder:
    """Load the tokenizer, which must be a fast one; for a model in memory it is copied."""
    if source.in_memory is not None:
        with friendly_load_errors(source.name, "its tokenizer cannot be copied"):
            tokenizer = deepcopy(source.in_memory.tokenizer)
        return Encoder(tokenizer, source.name)
    folder = source.folder
    if (
        folder is not None
        and source.kind != "gguf"
        and not any(
            (folder / name).is_file()
            for name in ("tokenizer.json", "tokenizer.model", "vocab.json", "tokenizer_config.json")
        )
    ):
        raise HeadprobeError(
            source.name, "has no tokenizer", "Save the tokenizer in the same folder as the weights"
        )
    if source.kind != "gguf" and (path := local_file(source, "tokenizer.json")) is not None:
        check_tokenizer(source.name, path)
    with _tokenizer_errors(source):
        encoder = Encoder(load_tokenizer(source), source.name)
        encoder.encode(SAMPLE)
    return encoder


def load_tokenizer(source: CheckpointSource) -> Any:
    """Load the tokenizer of a checkpoint as transformers does, for saving it elsewhere."""
    with _tokenizer_errors(source):
        place, options = _text_place(source)
        return AutoTokenizer.from_pretrained(place, use_fast=True, **options)


@contextmanager
def _tokenizer_errors(source: CheckpointSource) -> Iterator[None]:
    with (
        reading(source),
        friendly_load_errors(source.name, "its tokenizer cannot be loaded"),
        quiet_libraries(),
        hold_back_panics(),
    ):
        yield


SAMPLE = ("It was too tired.", "naïve – 東京 🙂 ﷽ \u0301\x00")
"""Texts that a tokenizer must be able to encode when it is loaded. Some damaged ones fail only when
they meet an unknown character."""


def _text_place(source: CheckpointSource) -> tuple[str, dict[str, Any]]:
    """Where ``from_pretrained`` finds the configuration and the tokenizer, and its options."""
    file = source.gguf_file
    return (source.place, source.options) if file is None else file.text_place()


def reading(source: CheckpointSource) -> AbstractContextManager[None]:
    """A context that explains errors in reading a GGUF file; does nothing for other sources."""
    file = source.gguf_file
    return nullcontext() if file is None else file.loading()


def check_tokens(name: str, config: Any, ids: NDArray[np.integer]) -> None:
    """Raise HeadprobeError where ``ids`` from the tokenizer are not in the model's vocabulary."""
    largest, known = int(ids.max(initial=-1)), config.get_text_config().vocab_size
    if largest >= known:
        raise HeadprobeError(
            name,
            f"its tokenizer produces token {largest}, but its config.json has {known} tokens",
            "The tokenizer belongs to another model; get both from the same source",
        )


def choose_device(requested: str, rank: int | None = None) -> torch.device:
    """The requested device; ``auto`` means CUDA, else Apple's GPU, else the CPU.

    Where several processes share the machine, process ``rank`` gets the CUDA device of that number.
    """
    if requested in ("auto", "cuda") and torch.cuda.is_available():
        count = torch.cuda.device_count()
        if rank is not None and rank >= count:
            raise HeadprobeError(
                f"rank {rank}",
                f"has no accelerator of its own: this machine has {count}",
                f"Start torchrun with --nproc-per-node {count}, or add --device cpu",
            )
        return torch.device("cuda") if rank is None else torch.device("cuda", rank)
    if requested == "auto":
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(requested)
        if device.type == "meta":
            raise RuntimeError("it holds no numbers")
        torch.empty(1, device=device).item()
    except (RuntimeError, AssertionError, ImportError) as error:
        raise HeadprobeError(
            f"--device {requested}",
            "there is no such device here",
            "Try --device auto or --device cpu",
        ) from error
    return device


def load_model(
    source: CheckpointSource,
    config: Any,
    device: torch.device,
    dtype: torch.dtype,
    warn: Callable[[str], None],
    *,
    spread: bool = False,
) -> PreTrainedModel:
    """Load the causal language model, in evaluation mode, with its adapter.

    Raises HeadprobeError where weights are missing or hold values that are not finite numbers;
    warns of weights that the model does not use. With ``spread`` a model that does not fit on the
    device fills one accelerator after another, then the host's memory, then the disk.
    """
    file = source.gguf_file
    if not spread:
        check_memory(source.name, config, device, dtype)
    with reading(source), friendly_load_errors(source.name), quiet_libraries(), hold_back_chatter():
        place, options = (
            (source.place, source.options)
            if file is None
            else file.weights_place(config, dtype, warn)
        )
        room = weight_memory(config, device, dtype) if spread else None
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            place,
            config=config,
            attn_implementation=ATTENTION,
            dtype=dtype,
            device_map={"": device} if room is None else "sequential",
            max_memory=room,
            offload_folder=None if room is None else offload_folder(),
            output_loading_info=True,
            **options,
        )
    model, report = loaded
    if file is not None:
        forget_blocks(model)
    if room is not None and (warning := describe_placement(model, source.name, device)):
        warn(warning)
    remedy = "The weights belong to another model or are incomplete; download them again"
    check_complete(source.name, model, report, remedy)
    unused = sorted(report["unexpected_keys"])
    if unused:
        warn(
            f"{source.name}: {type(model).__name__} does not use {len(unused)} of its weights "
            f"(first {unused[0]}); check that its config.json belongs to it"
        )
    check_finite(model, source.name)
    if source.adapter is not None:
        model = load_adapter(source, model)
        check_finite(model, source.adapter)
    evaluated: PreTrainedModel = model.eval()
    return evaluated


@contextmanager
def open_model(
    source: CheckpointSource,
    config: Any,
    device: torch.device,
    dtype: torch.dtype,
    warn: Callable[[str], None],
    *,
    spread: bool = False,
) -> Iterator[PreTrainedModel]:
    """The source's model in evaluation mode, while open: loaded by ``load_model``, or the one in
    memory, which is restored at the end."""
    if source.in_memory is None:
        yield load_model(source, config, device, dtype, warn, spread=spread)
        return
    with source.in_memory.lent() as model:
        check_finite(model, source.name)
        yield model


def check_finite(model: PreTrainedModel, name: str) -> None:
    """Raise HeadprobeError where a weight contains values that are not finite numbers."""
    for path, module in model.named_modules():
        with align_module_device(module):  # loads weights that are offloaded
            for weight_name, weight in module.named_parameters(path, recurse=False):
                if not weight.is_floating_point() or not weight.numel():
                    continue  # quantised, or empty
                values = weight.detach()
                if hasattr(values, "__tensor_flatten__"):  # torchao's have no aminmax
                    values = values.dequantize()
                if values.element_size() == 1:  # torch has no aminmax of float8
                    values = values.float()
                low, high = torch.aminmax(values)
                if not (torch.isfinite(low) and torch.isfinite(high)):
                    raise HeadprobeError(
                        name,
                        f"weight {weight_name} contains values that are not finite numbers",
                        "The checkpoint is damaged; get another copy or revision",
                    )


def offload_folder() -> str:
    """A folder for offloaded weights that cannot be read from safetensors files as they are; it is
    removed when the process ends."""
    folder = TemporaryDirectory(prefix="headprobe-")
    atexit.register(folder.cleanup)
    return folder.name


def hash_weights(source: CheckpointSource, config: Any) -> str:
    """The SHA-256 of the names and contents of the checkpoint's weight files, in order of name; for
    a GGUF file that of its bytes."""
    if (file := source.gguf_file) is not None:
        return file.sha256
    digest = hashlib.sha256()
    for path in sorted(weight_files(source, config), key=lambda path: path.name):
        with path.open("rb") as stream:
            digest.update(path.name.encode() + hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


_TALKATIVE = (
    "accelerate",
    "bitsandbytes",
    "compressed_tensors",
    "huggingface_hub",
    "peft",
    "torchao",
)
"""Libraries that log while models are loaded and run."""


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Suppress the libraries' own advice and progress bars while open; headprobe reports what
    matters itself."""
    verbosity = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    loggers = [logging.getLogger(name) for name in _TALKATIVE]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    transformers_logging.set_verbosity(logging.CRITICAL)
    transformers_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if bars:
            transformers_logging.enable_progress_bar()
