"""The text of a run: read, tokenised once, and kept in the run's folder for resuming."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from headprobe.demo.corpus import TokenisedCorpus, index_sentences, read_documents, tokenise
from headprobe.demo.settings import Settings
from headprobe.demo.tokenizer import save_tokenizer, train_tokenizer
from headprobe.demo.trainer import Text
from headprobe.errors import HeadprobeError

WITHHELD_EVERY = 50


def _read(paths: tuple[Path, ...]) -> list[str]:
    return [document for path in paths for document in read_documents(path)]


def _kept_or_made(
    cache: Path, make: Callable[[], list[str]], tokenizer: Tokenizer
) -> TokenisedCorpus:
    if cache.is_file():
        with np.load(cache) as kept:
            return index_sentences(kept["tokens"], kept["starts"], tokenizer)
    made = tokenise(make(), tokenizer)
    part = cache.with_suffix(".part.npz")
    np.savez(part, tokens=made.tokens, starts=made.starts)
    part.replace(cache)
    return made


def prepare_text(settings: Settings, say: Callable[[str], None]) -> Text:
    """Tokenizer, main text, the texts mixed in, and held-out text.

    Without a held-out file every 50th document of the corpus is withheld from training.
    """
    documents = _read(settings.corpora)
    if settings.held_out is None:
        withheld = documents[::WITHHELD_EVERY] if len(documents) >= WITHHELD_EVERY else []
        if not withheld:
            raise HeadprobeError(
                str(settings.corpora[0]),
                f"has {len(documents)} documents, too few to withhold some",
                f"Give --held-out, or {WITHHELD_EVERY} documents or more",
            )
        del documents[::WITHHELD_EVERY]
    else:
        withheld = _read((settings.held_out,))
    path = settings.out / "tokenizer.json"
    if path.is_file():
        tokenizer = Tokenizer.from_file(str(path))
    else:
        say(f"learning {settings.pieces:,} pieces from {len(documents):,} documents")
        tokenizer = train_tokenizer(documents, settings.pieces)
        save_tokenizer(tokenizer, settings.out)
    folder = settings.out / "tokens"
    folder.mkdir(exist_ok=True)
    main = _kept_or_made(folder / "main.npz", lambda: documents, tokenizer)
    others = []
    if settings.extra:
        extra = _kept_or_made(folder / "extra.npz", lambda: _read(settings.extra), tokenizer)
        others.append((extra, settings.extra_share))
    held_out = _kept_or_made(folder / "held_out.npz", lambda: withheld, tokenizer)
    say(
        f"text: {len(main.tokens):,} tokens, beside them "
        f"{sum(len(other.tokens) for other, _ in others):,}, held out {len(held_out.tokens):,}"
    )
    return Text(tokenizer, main, tuple(others), held_out)
