"""Checkpoints of a known training: planted heads are switched on, and off, at given steps."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

import torch

from headprobe.planted.checkpoint import (
    END,
    IN_PIECES,
    START,
    Case,
    Seat,
    build_tokenizer,
    draw_seats,
    split_words,
)
from headprobe.planted.heads import RANDOM, PlannedHead
from headprobe.planted.weights import build_model, embed
from headprobe.planted.words import Lexeme


def plant_series(
    folder: Path,
    case: Case,
    lexicon: Sequence[Lexeme],
    steps: Sequence[int],
    schedule: Mapping[str, Sequence[int]],
) -> Mapping[Seat, PlannedHead]:
    """Write one checkpoint for each step, and return the planned head of each seat.

    ``schedule`` gives the steps at which the heads of each plan are there; at others, and for plans
    that it does not have, they are random. Every head has keys of its own (no grouped heads).
    """
    shape = case.shape
    forms = [word.form for word in lexicon]
    pieces = split_words(forms, IN_PIECES, Random(case.seed))  # noqa: S311
    tokenizer = build_tokenizer(forms, pieces, adds_start=case.adds_start)
    seats = draw_seats(shape, Random(case.seed))  # noqa: S311
    for step in steps:
        generator = torch.Generator().manual_seed(case.seed)
        numbers = tokenizer.get_vocab()
        embeddings = embed(
            shape.layout, shape.hidden, numbers, (START, END), lexicon, pieces, generator
        )
        plans = {
            seat: plan
            if step in schedule.get(plan.name, ())
            else replace(RANDOM, direction_seed=plan.direction_seed)
            for seat, plan in seats.items()
        }
        model = build_model(shape, embeddings, plans, generator)
        model.save_pretrained(folder / f"step{step}")
        tokenizer.save_pretrained(folder / f"step{step}")
    return seats
