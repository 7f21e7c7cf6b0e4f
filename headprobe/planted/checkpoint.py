"""A planted checkpoint as a folder that ``from_pretrained`` loads."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random

import torch

from headprobe.planted.cases import Case
from headprobe.planted.features import embed
from headprobe.planted.heads import Plan
from headprobe.planted.seats import Seat, draw_seats
from headprobe.planted.tokenizer import END, START, build_tokenizer, split_words
from headprobe.planted.weights import build_model, build_random_model
from headprobe.planted.words import Lexeme

IN_PIECES = 0.9
"""Share of the words that can be split which are."""


def plant(folder: Path, case: Case, lexicon: Sequence[Lexeme]) -> Mapping[Seat, Plan]:
    """Write a checkpoint with all kinds of heads on seats drawn by the case's seed; who sits where.
    Of a case with random weights nobody sits anywhere."""
    forms = [word.form for word in lexicon]
    pieces = split_words(forms, IN_PIECES, Random(case.seed))
    tokenizer = build_tokenizer(forms, pieces, adds_start=case.adds_start)
    tokenizer.save_pretrained(folder)
    numbers = tokenizer.get_vocab()
    if case.spread is not None:
        build_random_model(case.shape, len(numbers), case.spread, case.seed).save_pretrained(folder)
        return {}
    seats = draw_seats(case.shape, Random(case.seed))
    generator = torch.Generator().manual_seed(case.seed)
    embeddings = embed(
        case.shape.layout, case.shape.hidden, numbers, (START, END), lexicon, pieces, generator
    )
    build_model(case.shape, embeddings, seats, generator).save_pretrained(folder)
    return seats
