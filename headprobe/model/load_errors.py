"""Turning the errors of libraries that load checkpoints into one line with a remedy."""

from collections.abc import Iterator
from contextlib import contextmanager
from pickle import UnpicklingError
from zipfile import BadZipFile

import torch
from huggingface_hub import errors as hub_errors
from safetensors import SafetensorError

from headprobe.errors import HeadprobeError

MOST = 200
"""The largest number of characters quoted of a library's message."""


@contextmanager
def friendly_load_errors(name: str, what: str = "cannot be loaded") -> Iterator[None]:
    """Turn every error of the libraries that load a checkpoint into one line with a remedy.

    A damaged file can make any line of these libraries fail, so every exception means that the
    checkpoint cannot be used. For that reason only calls of the libraries belong inside, and no
    code of headprobe. ``what`` is the problem to report where the exception is an unknown one.
    Panics of ``tokenizers``, which is written in Rust, are BaseExceptions.
    """
    try:
        yield
    except HeadprobeError:
        raise
    except BaseException as error:
        if isinstance(error, Exception) or type(error).__name__ == "PanicException":
            raise _explain(name, error, what) from error
        raise


def quote(message: object) -> str:
    """A library's message on one line of at most ``MOST`` characters, all of them printable."""
    words = " ".join(str(message).split())
    text = "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in words
    )
    text = text if len(text) <= MOST else f"{text[: MOST - 1].rstrip()}…"
    return text.rstrip(".")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that a device, or the host, has no memory left; torch's allocator for
    the host raises a plain RuntimeError."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    words = ("can't allocate memory", "not enough memory", "out of memory")
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)


def out_of_memory(name: str) -> HeadprobeError:
    """The error for a model that does not fit into memory."""
    return HeadprobeError(
        name,
        "there is not enough memory to load it",
        "Free some memory, or choose a smaller model or --dtype bfloat16",
    )


def unreachable(name: str) -> HeadprobeError:
    """The error for a model that is not here while the Hub cannot be reached."""
    return HeadprobeError(name, *_UNREACHABLE)


def _explain(name: str, error: BaseException, otherwise: str) -> HeadprobeError:
    """The error for ``error`` and its causes: by type, then by message, else ``otherwise`` with the
    library's own message."""
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:
        chain.append(link)
        link = link.__cause__ or link.__context__
    message = " ".join(str(part) for part in chain)
    if any(is_out_of_memory(part) for part in chain):
        return out_of_memory(name)
    for kinds, what, remedy in _ERRORS_BY_TYPE:
        if any(isinstance(part, kinds) for part in chain):
            return HeadprobeError(name, what, remedy)
    for words, what, remedy in _ERRORS_BY_MESSAGE:
        if any(word in message for word in words):
            return HeadprobeError(name, what, remedy)
    quoted, kind = quote(error), type(error).__name__
    if isinstance(error, hub_errors.StrictDataclassError):
        return HeadprobeError(
            name, f"its config.json cannot be used ({quoted})", "Get another copy"
        )
    if isinstance(error, ImportError):
        return HeadprobeError(
            name, f"needs a library that is not installed ({quoted})", "Install it"
        )
    plain = isinstance(error, OSError | ValueError | RuntimeError) and quoted
    return HeadprobeError(
        name,
        f"{otherwise} ({quoted if plain else f'{kind}: {quoted}' if quoted else kind})",
        "Check the checkpoint's files",
    )


_UNREACHABLE = (
    "no such folder here, not in the local cache, and the Hub cannot be reached",
    "Connect to the network, or name a local folder",
)


_ERRORS_BY_TYPE: tuple[tuple[tuple[type[BaseException], ...], str, str], ...] = (
    (
        (hub_errors.GatedRepoError,),
        "its licence must be accepted on the Hub first",
        "Accept it on the model's page, then log in with `hf auth login`",
    ),
    (
        (hub_errors.RevisionNotFoundError,),
        "has no such revision",
        "See the model's page for its branches and tags, and check --revision",
    ),
    (
        (hub_errors.RepositoryNotFoundError,),
        "no such folder here, and no such model on the Hub",
        "Check the spelling; for a private model log in with `hf auth login`",
    ),
    (
        (
            hub_errors.LocalEntryNotFoundError,
            hub_errors.OfflineModeIsEnabled,
            ConnectionError,
        ),
        *_UNREACHABLE,
    ),
    (
        (SafetensorError,),
        "its weights cannot be read: the safetensors file is truncated or damaged",
        "Download it again",
    ),
    (
        (UnpicklingError, EOFError, BadZipFile),
        "its weights cannot be read: the file is damaged, or contains more than weights",
        "Download it again, or save it as safetensors",
    ),
)
"""Types of errors, and the problem and remedy of each."""


_ERRORS_BY_MESSAGE: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (
        ("instantiate the backend tokenizer",),
        "its tokenizer has no fast version",
        "Save one with transformers (tokenizer.json) in the same folder as the weights",
    ),
    (
        ("trust_remote_code",),
        "needs Python code of its own",
        "If you trust its author, add --trust-remote-code",
    ),
    (
        ("couldn't connect", "Cannot reach", "outgoing traffic has been disabled"),
        *_UNREACHABLE,
    ),
    (
        (
            "does not recognize this architecture",
            "Unrecognized model",
            "Should have a `model_type`",
        ),
        "the installed transformers does not know its model type",
        "Upgrade transformers, or add --trust-remote-code for a model with code of its own",
    ),
    (
        ("Unrecognized configuration class",),
        "is not a causal language model",
        "headprobe reads decoders; name a Llama-style checkpoint",
    ),
    (
        ("size mismatch", "mismatched"),
        "its weights do not have the shapes that its config.json gives",
        "The weights belong to another configuration; get both from the same source",
    ),
    (
        ("no file named", "does not appear to have a file named"),
        "contains no weights that can be read (model.safetensors)",
        "Save them with save_pretrained, download the whole repository, or name a GGUF file in it "
        "with --gguf",
    ),
    (
        ("is not a valid JSON file",),
        "its config.json is not valid JSON",
        "Get another copy",
    ),
    (
        ("JSON", "valid json", "Expecting value", "Expecting property name"),
        "one of its files is not valid JSON",
        "Get another copy",
    ),
)
"""Words in the messages of errors of general types, and the problem and remedy of each."""
