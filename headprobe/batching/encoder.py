"""Text to token ids and character offsets."""

import json
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headprobe.errors import HeadprobeError
from headprobe.format import clip

_CACHE_SIZE = 4096


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids [T] of a text without special tokens, and the characters [T, 2] of each."""

    ids: NDArray[np.int32]
    offsets: NDArray[np.int32]


class Encoder:
    """A fast tokenizer, seen as: text to ids with character offsets, and what starts a sequence.

    ``start`` are the ids that stand before the text: those that the tokenizer itself adds, or, with
    ``prepended`` true, its bos (else eos) token, so that no real word sits on the attention sink.
    Text that spells a special token is encoded as the plain text it is.
    """

    def __init__(self, tokenizer: Any, where: str) -> None:
        if not getattr(tokenizer, "is_fast", False):
            raise HeadprobeError(
                where,
                "its tokenizer is a slow one, which gives no character offsets",
                "Save a tokenizer.json beside the model (AutoTokenizer converts most)",
            )
        self._tokenizer, self._where = tokenizer, where
        tokenizer.backend_tokenizer.no_truncation()
        tokenizer.backend_tokenizer.no_padding()
        if getattr(tokenizer.backend_tokenizer.model, "dropout", None) is not None:
            tokenizer.backend_tokenizer.model.dropout = None  # it makes tokens random
        self._cache: OrderedDict[str, Any] = OrderedDict()
        self.start, self.prepended = self._find_start(where)
        self.name = type(tokenizer).__name__

    def _find_start(self, where: str) -> tuple[tuple[int, ...], bool]:
        probe = "a"
        full = self._tokenizer(probe)["input_ids"]
        plain = self._tokenizer(probe, add_special_tokens=False)["input_ids"]
        added = full[: _find(full, plain)]
        if added:
            return tuple(added), False
        for token in (self._tokenizer.bos_token_id, self._tokenizer.eos_token_id):
            if token is not None:
                return (token,), True
        raise HeadprobeError(
            where,
            "its tokenizer has neither a beginning nor an end token to put before a passage",
            "Set bos_token in tokenizer_config.json",
        )

    @property
    def start_tokens(self) -> tuple[str, ...]:
        """The start tokens as text."""
        return tuple(self.tokens(self.start))

    def tokens(self, ids: Sequence[int]) -> list[str]:
        """The text of each of ``ids``, bytes that make no whole character as ``<0xE2>``."""
        pieces: list[str] = self._tokenizer.convert_ids_to_tokens(list(ids))
        special = set(self._tokenizer.all_special_tokens)
        return [
            piece if piece in special else readable_piece(piece, self._is_byte_level)
            for piece in pieces
        ]

    @cached_property
    def _is_byte_level(self) -> bool:
        decoder = self._tokenizer.backend_tokenizer.decoder
        if decoder is None:
            return False
        state = json.loads(decoder.__getstate__())
        parts = [state, *state.get("decoders", ())]
        return any(part.get("type") == "ByteLevel" for part in parts)

    def encode(self, texts: Sequence[str]) -> list[Encoded]:
        """Encode texts, without start tokens; recent ones are remembered."""
        try:
            return [
                Encoded(
                    np.array(found.ids, dtype=np.int32),
                    np.array(found.offsets, dtype=np.int32).reshape(-1, 2),
                )
                for found in self._encode(texts)
            ]
        except OverflowError as error:
            raise HeadprobeError(
                self._where,
                "its tokenizer produces tokens of 2**31 or more, which no model has",
                "Its files are damaged; get another copy of the tokenizer",
            ) from error

    def count(self, texts: Sequence[str]) -> list[int]:
        """The number of tokens of each text, without start tokens."""
        return [len(found) for found in self._encode(texts)]

    def _encode(self, texts: Sequence[str]) -> list[Any]:
        new = [text for text in dict.fromkeys(texts) if text not in self._cache]
        if new:
            # not the tokenizer itself, which makes lists of all that we do not need
            backend = self._tokenizer.backend_tokenizer
            backend.encode_special_tokens = True  # as text
            try:
                encoded = backend.encode_batch(new, add_special_tokens=False)
            except BaseException as error:  # Rust panics are BaseExceptions
                if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                    raise
                raise HeadprobeError(
                    self._where,
                    f"its tokenizer cannot encode a text ({clip(str(error), 200)})",
                    "Its files are damaged or incomplete; get another copy of the tokenizer",
                ) from error
            self._cache.update(zip(new, encoded, strict=True))
        encodings = [self._cache[text] for text in texts]
        while len(self._cache) > _CACHE_SIZE:
            self._cache.popitem(last=False)
        return encodings


def readable_piece(piece: str, byte_level: bool) -> str:
    """A vocabulary entry as text. Byte-level vocabularies (GPT-2 and after) write each byte as one
    printable character (``Ġ`` for a space), others write a space as ``▁``."""
    if not byte_level:
        return piece.replace("▁", " ")
    numbers = _byte_of_character()
    if not all(character in numbers for character in piece):
        return piece  # an added token, which is kept as it is written
    text = bytes(numbers[character] for character in piece).decode("utf-8", "surrogateescape")
    return "".join(
        f"<0x{ord(character) - 0xDC00:02X}>" if 0xDC80 <= ord(character) <= 0xDCFF else character
        for character in text
    )


@cache
def _byte_of_character() -> dict[str, int]:
    """GPT-2's printable character -> byte: printable Latin-1 stands for itself, the others are
    numbered from 256 on (Radford et al. 2019, ``bytes_to_unicode``)."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    characters = [*plain, *(256 + place for place in range(len(others)))]
    return {chr(code): byte for code, byte in zip(characters, [*plain, *others], strict=True)}


def _find(full: Sequence[int], part: Sequence[int]) -> int:
    """Where ``part`` starts in ``full``; 0 where it does not occur."""
    for start in range(len(full) - len(part) + 1):
        if list(full[start : start + len(part)]) == list(part):
            return start
    return 0
