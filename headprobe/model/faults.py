"""What goes wrong while a checkpoint is loaded, told in one line with a remedy."""

from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub import errors as hub_errors
from safetensors import SafetensorError

from headprobe.errors import HeadprobeError


@contextmanager
def mended(name: str, what: str = "cannot be loaded") -> Iterator[None]:
    """Turn what goes wrong while loading into one line with a remedy."""
    try:
        yield
    except HeadprobeError:
        raise
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as error:
        raise _explain(name, error, what) from error


def _explain(name: str, error: BaseException, otherwise: str) -> HeadprobeError:
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:
        chain.append(link)
        link = link.__cause__ or link.__context__
    message = " ".join(str(part) for part in chain)
    for kinds, what, remedy in _HUB_FAULTS:
        if any(isinstance(part, kinds) for part in chain):
            return HeadprobeError(name, what, remedy)
    for words, what, remedy in _LOCAL_FAULTS:
        if any(word in message for word in words):
            return HeadprobeError(name, what, remedy)
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return HeadprobeError(
        name, f"{otherwise} ({first.rstrip('.')})", "Check the checkpoint's files"
    )


_HUB_FAULTS: tuple[tuple[tuple[type[BaseException], ...], str, str], ...] = (
    (
        (hub_errors.GatedRepoError,),
        "its licence must be accepted on the Hub first",
        "Accept it on the model's page, then log in with `hf auth login`",
    ),
    (
        (hub_errors.RevisionNotFoundError,),
        "has no such revision",
        "Check --revision against the model's page",
    ),
    (
        (hub_errors.RepositoryNotFoundError,),
        "no such folder here and no such model on the Hub",
        "Check the spelling; for a private model log in with `hf auth login`",
    ),
    (
        (hub_errors.LocalEntryNotFoundError, hub_errors.OfflineModeIsEnabled, ConnectionError),
        "no such folder here, not in the local cache, and the Hub cannot be reached",
        "Connect to the network, or name a local folder",
    ),
    (
        (SafetensorError,),
        "its weights cannot be read: the safetensors file is truncated or damaged",
        "Download it again",
    ),
)

_LOCAL_FAULTS: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (
        ("instantiate the backend tokenizer",),
        "its tokenizer has no fast form",
        "Save one with transformers (tokenizer.json) beside the weights",
    ),
    (
        ("trust_remote_code",),
        "needs Python code of its own",
        "If you trust its author, add --trust-remote-code",
    ),
    (
        ("couldn't connect", "Cannot reach", "outgoing traffic has been disabled"),
        "no such folder here, not in the local cache, and the Hub cannot be reached",
        "Connect to the network, or name a local folder",
    ),
    (
        (
            "does not recognize this architecture",
            "Unrecognized model",
            "Should have a `model_type`",
        ),
        "this transformers does not know its model type",
        "Upgrade transformers, or add --trust-remote-code for a model with code of its own",
    ),
    (
        ("Unrecognized configuration class",),
        "is no causal language model",
        "headprobe reads decoders; name a Llama-style checkpoint",
    ),
    (
        ("size mismatch", "mismatched"),
        "its weights do not have the shapes its config.json names",
        "The weights belong to another configuration; get both from one place",
    ),
    (
        ("no file named", "does not appear to have a file named"),
        "holds no weights that can be read (model.safetensors)",
        "Save them with save_pretrained, download the whole repository, or name a GGUF file in it "
        "with --gguf",
    ),
    (
        ("JSON", "valid json", "Expecting value"),
        "its config.json is no valid JSON",
        "Get another copy",
    ),
)
