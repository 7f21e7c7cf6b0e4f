"""A planted checkpoint as a folder that ``from_pretrained`` loads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import torch

from headprobe.planted.features import embed
from headprobe.planted.heads import Plan
from headprobe.planted.seats import Seat, draw_seats
from headprobe.planted.tokenizer import END, START, build_tokenizer, split_words
from headprobe.planted.weights import Shape, build_model
from headprobe.planted.words import Lexeme

IN_PIECES = 0.9
"""Share of the words that can be split which are."""


def plant(
    folder: Path, shape: Shape, lexicon: Sequence[Lexeme], *, seed: int, adds_start: bool
) -> Mapping[Seat, Plan]:
    """Write a checkpoint with all kinds of heads on seats drawn by ``seed``; who sits where."""
    rng, generator = Random(seed), torch.Generator().manual_seed(seed)
    seats = draw_seats(shape, rng)
    forms = [word.form for word in lexicon]
    pieces = split_words(forms, IN_PIECES, rng)
    tokenizer = build_tokenizer(forms, pieces, adds_start=adds_start)
    embeddings = embed(
        shape.layout,
        shape.hidden,
        tokenizer.get_vocab(),
        (START, END),
        lexicon,
        pieces,
        generator,
    )
    build_model(shape, embeddings, seats, generator).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return seats
