"""Text to token ids and character offsets."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headprobe.errors import HeadprobeError

_REMEMBERED = 4096


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
        self._tokenizer = tokenizer
        tokenizer.backend_tokenizer.no_truncation()
        tokenizer.backend_tokenizer.no_padding()
        self._recent: OrderedDict[str, Any] = OrderedDict()
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
        return tuple(self._tokenizer.convert_ids_to_tokens(list(self.start)))

    def tokens(self, ids: Sequence[int]) -> list[str]:
        """The pieces of ``ids`` as the tokenizer writes them."""
        pieces: list[str] = self._tokenizer.convert_ids_to_tokens(list(ids))
        return pieces

    def encode(self, texts: Sequence[str]) -> list[Encoded]:
        """Encode texts, without start tokens; recent ones are remembered."""
        return [
            Encoded(
                np.array(found.ids, dtype=np.int32),
                np.array(found.offsets, dtype=np.int32).reshape(-1, 2),
            )
            for found in self._encode(texts)
        ]

    def count(self, texts: Sequence[str]) -> list[int]:
        """The number of tokens of each text, without start tokens."""
        return [len(found) for found in self._encode(texts)]

    def _encode(self, texts: Sequence[str]) -> list[Any]:
        new = [text for text in dict.fromkeys(texts) if text not in self._recent]
        if new:
            # not the tokenizer itself, which makes lists of all that we do not need
            backend = self._tokenizer.backend_tokenizer
            backend.encode_special_tokens = True  # as text
            self._recent.update(
                zip(new, backend.encode_batch(new, add_special_tokens=False), strict=True)
            )
        found = [self._recent[text] for text in texts]
        while len(self._recent) > _REMEMBERED:
            self._recent.popitem(last=False)
        return found


def _find(full: Sequence[int], part: Sequence[int]) -> int:
    """Where ``part`` starts in ``full``; 0 where it does not occur."""
    for start in range(len(full) - len(part) + 1):
        if list(full[start : start + len(part)]) == list(part):
            return start
    return 0
