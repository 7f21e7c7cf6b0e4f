"""Where each feature of a word stands in the residual stream, and the embeddings that carry it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from headprobe.planted.words import CASES, PRONOUNS, Lexeme

CONSTANT_SIZE = 40.0
"""Of the one feature that all tokens share; so large that what heads write hardly moves the norm of
the stream, by which RMSNorm divides."""

_FLAGS: Mapping[str, tuple[str, ...]] = {
    "mark": ("PUNCT",),
    "verb": ("VERB",),
    "determiner": ("DET",),
    "nominal": ("NOUN", "PROPN"),
}


@dataclass(frozen=True)
class Layout:
    """Features of the residual stream and their dimensions. ``code`` is a random unit vector of
    each token, ``previous`` the code of the token before, once a head has written it; ``scratch``
    is where other heads write and nobody reads."""

    constant: range
    start: range
    mark: range
    verb: range
    determiner: range
    nominal: range
    agrees: range
    asks: range
    case: range
    code: range
    previous: range
    scratch: range

    @classmethod
    def of(cls, code: int) -> "Layout":
        """The features one after another, codes of ``code`` dimensions."""
        sizes = [1, 1, 1, 1, 1, 1, len(PRONOUNS), len(PRONOUNS), len(CASES), code, code, 2 * code]
        ends = [sum(sizes[: place + 1]) for place in range(len(sizes))]
        return cls(*(range(end - size, end) for end, size in zip(ends, sizes, strict=True)))

    @property
    def size(self) -> int:
        return self.scratch.stop


def embed(
    layout: Layout,
    hidden: int,
    numbers: Mapping[str, int],
    start: Sequence[str],
    lexicon: Sequence[Lexeme],
    pieces: Mapping[str, tuple[str, str]],
    generator: torch.Generator,
) -> Tensor:
    """[V, hidden]: what each token of ``numbers`` carries by itself.

    Of a word in two pieces the last one carries its features, for only there has it been read. The
    ``start`` tokens have no code: a head that attends to them alone writes nothing.
    """
    table = torch.zeros(len(numbers), hidden)
    table[:, layout.constant] = CONSTANT_SIZE
    codes = torch.randn(len(numbers), len(layout.code), generator=generator)
    table[:, layout.code.start : layout.code.stop] = torch.nn.functional.normalize(codes)
    for token in start:
        table[numbers[token], layout.code.start : layout.code.stop] = 0
        table[numbers[token], layout.start] = 1
    for word in lexicon:
        row = table[numbers[pieces.get(word.form, (word.form,))[-1]]]
        for feature, upos in _FLAGS.items():
            row[getattr(layout, feature)] = float(word.upos in upos)
        for name in word.agrees:
            row[layout.agrees[PRONOUNS.index(name)]] = 1
        if word.pronoun is not None:
            row[layout.asks[PRONOUNS.index(word.pronoun)]] = 1
        for case in word.cases:
            row[layout.case[CASES.index(case)]] = 1
    return table
