"""The semantic set: passages whose later words are synonyms, antonyms or kinds of earlier ones.

Frames come from `semantic_sentences.txt`, words from `semantic_words.yaml`; both are written by
hand. Every passage holds two instances. Each of the two targets has a rival from its own field
(another person beside a person), so that a broad class of meaning does not give it away. The twin
of a passage puts an unrelated word of like length and frequency (`swaps`) at each target's place.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import permutations, product
from random import Random
from typing import TypeVar

import yaml

from headprobe.demo.grammar.conllu import document
from headprobe.demo.grammar.lexicon import HERE
from headprobe.demo.grammar.notation import read_tree
from headprobe.demo.grammar.tree import Sentence, finish, sounds_like_vowel
from headprobe.errors import HeadprobeError

PAIRS_FILE = "semantic-pairs.tsv"
PASSAGES_PER_FRAME = {"nouns": 5, "adjectives": 7}
RELATIONS = {"nouns": ("synonym", "hypernym"), "adjectives": ("synonym", "antonym")}
UPOS = {"nouns": "NOUN", "adjectives": "ADJ"}

PAIRS_HEADER = """\
# relation, part of speech, word, related word (lemmas); a hypernym is the more general of the two.
"""

Entry = TypeVar("Entry")

_SLOT = re.compile(r"\$(?P<slot>\w)(?P<upos>_[A-Z]+)?(?P<relation>\^[a-z:]+)?")


@dataclass(frozen=True)
class Sense:
    """Words of one meaning: a pair, or a general word followed by its kinds."""

    relation: str
    field: str
    words: tuple[str, ...]
    topics: frozenset[str]

    def pairs(self) -> Iterator[tuple[str, str]]:
        """Each pair of the relation; of a hypernym the kind first, then the general word."""
        if self.relation == "hypernym":
            yield from ((kind, self.words[0]) for kind in self.words[1:])
        elif self.relation != "single":
            yield self.words[0], self.words[1]


@dataclass(frozen=True)
class Instance:
    """The words of one instance and the word at the target's place in the twin."""

    relation: str
    query: str
    target: str
    swap: str


@dataclass(frozen=True)
class SemanticPassage:
    """A passage, its two instances, and the form of each word that its twin replaces.

    `twins` maps (sentence, word), both 0-based, to the form in the twin.
    """

    name: str
    frame: str
    sentences: list[Sentence]
    instances: tuple[Instance, Instance]
    twins: dict[tuple[int, int], str]


@cache
def load_senses() -> dict[str, tuple[Sense, ...]]:
    """The senses of semantic_words.yaml by kind: `nouns` and `adjectives`."""
    read = yaml.safe_load((HERE / "semantic_words.yaml").read_text("utf-8"))
    return {kind: _with_shared_topics(tuple(_senses(read[kind]))) for kind in RELATIONS}


@cache
def load_swaps() -> dict[str, tuple[str, ...]]:
    """For every target the unrelated words that its twin may have."""
    read = yaml.safe_load((HERE / "semantic_words.yaml").read_text("utf-8"))
    return {word: tuple((swaps or "").split()) for word, swaps in read["swaps"].items()}


def _senses(fields: dict[str, dict[str, list[str] | dict[str, str] | str]]) -> Iterator[Sense]:
    for field, relations in fields.items():
        for relation, listed in relations.items():
            for entry in _entries(listed):
                words = tuple(word for word in entry.split() if word[0] != "@")
                topics = frozenset(word.removeprefix("@") for word in entry.split())
                yield Sense(relation, field, words, topics)


def _entries(listed: list[str] | dict[str, str] | str) -> list[str]:
    if isinstance(listed, dict):
        return [f"{general} {kinds}" for general, kinds in listed.items()]
    return listed.split() if isinstance(listed, str) else listed


def _with_shared_topics(senses: Sequence[Sense]) -> tuple[Sense, ...]:
    """The senses, each with the topics of all that share a word with it."""
    shared: dict[str, frozenset[str]] = {}
    for sense in senses:
        for word in sense.words:
            shared[word] = shared.get(word, frozenset()) | sense.topics
    return tuple(
        replace(s, topics=s.topics.union(*(shared[word] for word in s.words))) for s in senses
    )


def read_frames() -> Iterator[tuple[str, str, list[str]]]:
    """The kind, the name and the sentences of every frame."""
    blocks = (HERE / "semantic_sentences.txt").read_text("utf-8").split("\n## ")[1:]
    for block in blocks:
        head, *lines = [line for line in block.strip().splitlines() if line.strip()]
        kind, name = head.split()
        yield kind, name, lines


class SemanticWriter:
    """Fills frames; senses, words and places that were used least come first."""

    def __init__(self, seed: int) -> None:
        self._rng = Random(f"semantic {seed}")
        self._uses: Counter[object] = Counter()
        self._sense_of = {
            (kind, word): sense
            for kind, senses in load_senses().items()
            for sense in senses
            for word in sense.words
        }

    def write(self) -> Iterator[SemanticPassage]:
        """All passages, frames in turn."""
        frames = list(read_frames())
        number = 0
        for turn in range(max(PASSAGES_PER_FRAME.values())):
            for kind, name, lines in frames:
                if turn < PASSAGES_PER_FRAME[kind]:
                    number += 1
                    yield self._passage(kind, name, lines, f"semantic-{number:04d}")

    def _passage(self, kind: str, frame: str, lines: list[str], name: str) -> SemanticPassage:
        instances, rivals = self._words(kind)
        order = self._least_used(permutations("1234"), "order", kind)[0]
        queries = self._least_used(permutations("pq"), "queries", kind, frame)[0]
        self._uses.update([("order", kind, order), ("queries", kind, frame, queries)])
        words = [*(instance.target for instance in instances), *rivals]
        filling = dict(zip(order, words, strict=True))
        filling |= {slot: instance.query for slot, instance in zip(queries, instances, strict=True)}
        swaps = {slot: instance.swap for slot, instance in zip(order, instances, strict=False)}
        sentences: list[Sentence] = []
        twins: dict[tuple[int, int], str] = {}
        for number, line in enumerate(lines):
            sentence = finish(read_tree(_SLOT.sub(lambda slot: _fill(slot, filling), line)))
            for mention in sentence.mentions:
                slot = mention.entity.removeprefix("slot")
                if slot in swaps:
                    twins[number, mention.head] = swaps[slot]
            sentences.append(replace(sentence, mentions=[]))
        if len(twins) != len(instances):
            raise HeadprobeError(frame, "a target has no place", "Use $1 to $4, $p and $q")
        return SemanticPassage(name, f"{kind}-{frame}", sentences, instances, twins)

    def _words(self, kind: str) -> tuple[tuple[Instance, Instance], tuple[str, str]]:
        """The two instances, and a rival from the field of each."""
        senses = load_senses()[kind]
        first, second = (
            self._least_used([s for s in senses if s.relation == relation], kind, "target")
            for relation in RELATIONS[kind]
        )
        for drawn in product(first, second):
            if kind == "nouns" and drawn[0].field == drawn[1].field:
                continue
            if not _apart(drawn[0], drawn[1:]):
                continue
            chosen = [*drawn]
            for sense in drawn:
                others = [s for s in senses if s.field == sense.field and _apart(s, chosen)]
                chosen += self._least_used(others, kind, "rival")[:1]
            pairs = [self._draw_pair(sense) for sense in drawn]
            swaps = self._swaps(kind, [earlier for _, earlier in pairs], chosen)
            if len(chosen) < 4 or len(swaps) < 2:
                continue
            self._uses.update([(kind, "target", sense) for sense in drawn])
            self._uses.update([(kind, "rival", sense) for sense in chosen[2:]])
            self._uses.update(
                [(sense.relation, *pair) for sense, pair in zip(drawn, pairs, strict=True)]
            )
            self._uses.update([("swap", swap) for swap in swaps])
            one, other = (
                Instance(sense.relation, *pair, swap)
                for sense, pair, swap in zip(drawn, pairs, swaps, strict=True)
            )
            rivals = [self._rng.choice(sense.words) for sense in chosen[2:]]
            return (one, other), (rivals[0], rivals[1])
        raise HeadprobeError(kind, "no four words go together", "Add words or remove topics")

    def _draw_pair(self, sense: Sense) -> tuple[str, str]:
        """The later and the earlier word of an instance."""
        pairs = list(sense.pairs())
        if sense.relation != "hypernym":
            pairs += [(second, first) for first, second in pairs]
        pairs = [(later, earlier) for later, earlier in pairs if load_swaps()[earlier]]
        return self._least_used(pairs, sense.relation)[0]

    def _swaps(self, kind: str, targets: Sequence[str], chosen: Sequence[Sense]) -> list[str]:
        """An unrelated word for each target, as far as there are any."""
        fields = {sense.field for sense in chosen} if kind == "nouns" else set()
        swaps: list[str] = []
        for target in targets:
            used = [*chosen, *(self._sense_of[kind, swap] for swap in swaps)]
            fitting = [
                word
                for word in load_swaps().get(target, ())
                if _apart(self._sense_of[kind, word], used)
                and self._sense_of[kind, word].field not in fields
                and sounds_like_vowel(word) == sounds_like_vowel(target)
            ]
            swaps += self._least_used(fitting, "swap")[:1]
        return swaps

    def _least_used(self, entries: Iterable[Entry], *deck: object) -> list[Entry]:
        """The entries in the order of their uses; those with as many uses in random order."""
        shuffled = list(entries)
        self._rng.shuffle(shuffled)
        return sorted(shuffled, key=lambda e: self._uses[*deck, *_parts(e)])


def _parts(entry: object) -> tuple[object, ...]:
    return entry if isinstance(entry, tuple) else (entry,)


def _apart(sense: Sense, others: Iterable[Sense]) -> bool:
    """Whether a sense has no topic in common with any of the others."""
    return not any(sense.topics & other.topics for other in others)


def _fill(slot: re.Match[str], filling: Mapping[str, str]) -> str:
    """A word of the notation; its place is marked as a mention, which finds it in the tree."""
    word = filling[slot["slot"]]
    return f"{word}{slot['upos'] or ''}{slot['relation'] or ''}@slot{slot['slot']}"


def write_semantic(seed: int) -> list[SemanticPassage]:
    """The passages of the semantic set."""
    return list(SemanticWriter(seed).write())


def semantic_files(seed: int) -> dict[str, str]:
    """The probe file and the file of word pairs, by name."""
    text = ""
    for passage in write_semantic(seed):
        comments = {"meta::genre": "semantic", "template": passage.frame}
        if not text:
            comments = {"global.Pairs": PAIRS_FILE, **comments}
        misc = {place: f"Twin={form}" for place, form in passage.twins.items()}
        text += document(passage.name, comments, passage.sentences, {}, misc)
    return {"semantic.conllu": text, PAIRS_FILE: pairs_file()}


def pairs_file() -> str:
    """Every pair of the word lists, a line each."""
    lines = [PAIRS_HEADER.rstrip()]
    for kind, senses in load_senses().items():
        for relation in ("synonym", "antonym", "hypernym"):
            lines += [
                "\t".join([relation, UPOS[kind], *pair])
                for sense in senses
                if sense.relation == relation
                for pair in sense.pairs()
            ]
    return "\n".join(lines) + "\n"
