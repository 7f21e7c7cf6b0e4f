"""The sentences written by hand: natural_sentences.txt to documents."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from headprobe.demo.grammar.conllu import document, entity_numbers
from headprobe.demo.grammar.lexicon import HERE
from headprobe.demo.grammar.notation import read_tree
from headprobe.demo.grammar.tree import Sentence, finish
from headprobe.errors import HeadprobeError


@dataclass(frozen=True)
class NaturalPassage:
    """A hand-written passage; `entities` maps a key to (etype, pronoun)."""

    genre: str
    cue: str
    entities: dict[str, tuple[str, str]]
    sentences: list[Sentence]


def read_natural() -> Iterator[NaturalPassage]:
    """Every passage of natural_sentences.txt. Raises HeadprobeError with the line that is wrong."""
    blocks = (HERE / "natural_sentences.txt").read_text("utf-8").split("\n## ")[1:]
    for block in blocks:
        head, cast, *lines = [line for line in block.strip().splitlines() if line.strip()]
        genre, cue = head.split()
        entities = {}
        for part in cast.split():
            key, _, sort = part.partition("=")
            etype, _, pronoun = sort.partition(":")
            entities[key] = (etype, pronoun)
        sentences = [finish(read_tree(line)) for line in lines]
        used = {m.entity for sentence in sentences for m in sentence.mentions}
        if used != set(entities):
            odd = ", ".join(sorted(used ^ set(entities)))
            where = f"natural_sentences.txt, {lines[0]}"
            raise HeadprobeError(where, f"cast and mentions differ in {odd}", "Name all in both")
        yield NaturalPassage(genre, cue, entities, sentences)


def natural_file() -> str:
    """The whole hand-written set as CoNLL-U."""
    documents = []
    for number, passage in enumerate(read_natural(), 1):
        name = f"natural-{number:02d}"
        numbers = entity_numbers(passage.sentences)
        pronouns = [f"{e} {passage.entities[key][1]}" for key, e in numbers.items()]
        comments = {
            "meta::genre": passage.genre,
            "template": name,
            "cue": passage.cue,
            "pronouns": ", ".join(pronouns),
        }
        etypes = {key: etype for key, (etype, _) in passage.entities.items()}
        documents.append(document(name, comments, passage.sentences, etypes))
    return "".join(documents)
