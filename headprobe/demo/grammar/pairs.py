"""Minimal pairs for causal checks: two sentences that differ in one word.

Three phenomena: `agreement` (verb with its subject across a noun of the other number),
`reflexive` (with its subject, across another person) and `pronoun` (a gendered pronoun that
only the subject can own, across a person of the other gender). The words come from the probes'
lexicon. Good and bad share every word before the critical one, so a model is asked at one position.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from random import Random

from headprobe.demo.grammar.cast import PRONOUNS, Decks
from headprobe.demo.grammar.lexicon import load_lexicon
from headprobe.demo.grammar.notation import WORD
from headprobe.demo.grammar.tree import sounds_like_vowel
from headprobe.errors import HeadprobeError

PER_PHENOMENON = 200
THINGS = (
    "key/keys cabinet/cabinets", "picture/pictures wall/walls", "box/boxes shelf/shelves",
    "book/books desk/desks", "letter/letters drawer/drawers", "flower/flowers vase/vases",
    "lamp/lamps window/windows", "road/roads village/villages", "bridge/bridges river/rivers",
    "label/labels bottle/bottles", "coin/coins jar/jars", "poster/posters door/doors",
    "plate/plates table/tables", "toy/toys basket/baskets", "sign/signs gate/gates",
    "boat/boats island/islands", "tree/trees house/houses", "note/notes calendar/calendars",
    "stain/stains carpet/carpets", "stone/stones garden/gardens",
)  # fmt: skip
BETWEEN = ("near", "behind", "beside", "next to")
STATES = (
    "old", "new", "beautiful", "very old", "too small", "rather ugly", "difficult to see",
    "still there", "in good condition", "not very big", "quite large", "green",
    "covered with snow", "dirty",
)  # fmt: skip
REFLEXIVE_VERBS = (
    "blamed", "admired", "trusted", "criticised", "described", "defended", "hated", "praised",
    "introduced", "prepared", "hurt", "protected", "convinced", "photographed", "watched",
)  # fmt: skip
OPPOSITE = {"she": "he", "he": "she"}
# Only the subject can own these: "Anna, a friend of Tom, lost her way", never "his".
ACTS = (
    "lost {poss} way", "changed {poss} mind", "held {poss} breath", "lost {poss} temper",
    "did {poss} best", "shook {poss} head", "cleared {poss} throat", "took {poss} time",
    "made up {poss} mind", "bit {poss} lip", "lost {poss} balance", "caught {poss} breath",
    "stood {poss} ground", "crossed {poss} fingers", "raised {poss} eyebrows", "bowed {poss} head",
    "came on {poss} own", "shrugged {poss} shoulders", "licked {poss} lips", "wiped {poss} brow",
)  # fmt: skip
STATES_OF_MIND = ("late", "tired", "right", "ill", "first", "angry", "wrong", "happy", "lucky")


@dataclass(frozen=True)
class Pair:
    """One minimal pair; `critical` is the good word, `rival` the bad one."""

    id: str
    phenomenon: str
    template: str
    good: str
    bad: str
    critical: str
    rival: str
    cue: str
    distractor: str


@dataclass(frozen=True)
class _Draft:
    template: str
    frame: str
    critical: str
    rival: str
    cue: str
    distractor: str


class PairWriter:
    """Drafts pairs from decks, so that words and both values of every feature rotate."""

    def __init__(self, seed: int) -> None:
        self._rng = Random(f"pairs {seed}")
        self._decks = Decks(self._rng)
        self._lexicon = load_lexicon()

    def write(self) -> Iterator[Pair]:
        """All pairs, phenomenon by phenomenon."""
        makers = {
            "agreement": self._agreement,
            "reflexive": self._reflexive,
            "pronoun": self._pronoun,
        }
        for phenomenon, make in makers.items():
            yield from self._series(phenomenon, make)

    def _series(self, phenomenon: str, make: Callable[[int], _Draft]) -> Iterator[Pair]:
        seen: set[str] = set()
        number = attempts = 0
        while number < PER_PHENOMENON:
            attempts += 1
            if attempts > 50 * PER_PHENOMENON:
                raise HeadprobeError(phenomenon, "too few words", "Lengthen the lists")
            draft = make(number)
            good = _sentence(draft.frame.replace("__", draft.critical))
            bad = _sentence(draft.frame.replace("__", draft.rival))
            if good in seen:
                continue
            seen.add(good)
            number += 1
            yield Pair(
                f"{phenomenon}-{number:03d}", phenomenon, draft.template, good, bad,
                draft.critical, draft.rival, draft.cue, draft.distractor,
            )  # fmt: skip

    def _agreement(self, number: int) -> _Draft:
        singular = number % 2 == 0
        head, other = self._decks.draw("things", THINGS).split()
        cue = head.split("/")[not singular]
        distractor = other.split("/")[singular]
        state = self._decks.draw("states", STATES)
        tense = self._decks.draw("tense", ("is are", "was were"))
        good, bad = tense.split() if singular else reversed(tense.split())
        between = self._decks.draw("between", BETWEEN)
        person = self._job(cue_only=True)
        template = self._decks.draw("agreement", ("pp", "relative", "opener", "embedded"))
        frames = {
            "pp": f"the {cue} {between} the {distractor} __ {state}.",
            "relative": f"the {cue} that the {person} saw {between} the {distractor} __ {state}.",
            "opener": f"in spite of the rain, the {cue} {between} the {distractor} __ {state}.",
            "embedded": f"the {person} knows that the {cue} {between} the {distractor} __ {state}.",
        }
        return _Draft(f"agreement-{template}", frames[template], good, bad, cue, distractor)

    def _reflexive(self, number: int) -> _Draft:
        takes = ("she", "he", "they")[number % 3]
        cue, distractor, rival = self._people(takes)
        verb = self._decks.draw("reflexive verbs", REFLEXIVE_VERBS)
        template = self._decks.draw("reflexive", ("relative", "beside", "said", "after"))
        frames = {
            "relative": f"{cue}, who knew {distractor}, {verb} __.",
            "beside": f"{cue} from the house behind {distractor}'s garden {verb} __.",
            "said": f"{distractor} said that {cue} {verb} __.",
            "after": f"after a talk with {distractor}, {cue} {verb} __.",
        }
        good, bad = PRONOUNS[takes]["refl"], PRONOUNS[rival]["refl"]
        return _Draft(f"reflexive-{template}", frames[template], good, bad, cue, distractor)

    def _pronoun(self, number: int) -> _Draft:
        takes = ("she", "he")[number % 2]
        cue, distractor, rival = self._people(takes, names_only=True)
        template = self._decks.draw("pronoun", ("friend", "while", "watched", "after", "tag"))
        act = self._decks.draw("acts", ACTS).format(poss="__")
        state = self._decks.draw("states of mind", STATES_OF_MIND)
        frames = {
            "friend": f"{cue}, a friend of {distractor}, {act}.",
            "while": f"while {distractor} was asleep, {cue} {act}.",
            "watched": f"{distractor} watched as {cue} {act}.",
            "after": f"after a quarrel with {distractor}, {cue} {act}.",
            "tag": f"{cue}, who knows {distractor}, was {state}, wasn't __?",
        }
        case = "nom" if template == "tag" else "poss"
        good, bad = PRONOUNS[takes][case], PRONOUNS[rival][case]
        return _Draft(f"pronoun-{template}", frames[template], good, bad, cue, distractor)

    def _people(self, takes: str, names_only: bool = False) -> tuple[str, str, str]:
        """Who the word belongs to, who stands in between, and the wrong pronoun."""
        if takes == "they":
            rival = self._decks.draw("rival of they", ("she", "he"))
            return f"the {self._group()}", self._name(rival), rival
        if names_only or self._rng.random() < 0.67:
            rival = OPPOSITE[takes]
            return self._name(takes), self._name(rival), rival
        return self._name(takes), f"the {self._group()}", "they"

    def _name(self, pronoun: str) -> str:
        names = "women" if pronoun == "she" else "men"
        return self._decks.draw(names, self._lexicon.lists[names])

    def _job(self, cue_only: bool) -> str:
        kind = "adult" if cue_only else "official"
        return _plain(self._decks.draw(kind, self._lexicon.lists[kind]))

    def _group(self) -> str:
        kind = self._decks.draw("group kind", ("group", "crew"))
        return _plain(self._decks.draw(kind, self._lexicon.lists[kind]))


def _plain(entry: str) -> str:
    """A lexicon entry as plain words."""
    words = entry.partition(" > ")[0].split()
    return " ".join(match["form"] for word in words if (match := WORD.fullmatch(word)))


def _sentence(text: str) -> str:
    words = text.split()
    for at, word in enumerate(words[:-1]):
        if word == "a" and sounds_like_vowel(words[at + 1]):
            words[at] = "an"
    text = " ".join(words)
    return text[0].upper() + text[1:]


def pair_files(seed: int) -> dict[str, str]:
    """File name to content: one JSON object a line."""
    files: dict[str, str] = {}
    for pair in PairWriter(seed).write():
        name = f"{pair.phenomenon}.jsonl"
        files[name] = files.get(name, "") + json.dumps(asdict(pair), ensure_ascii=False) + "\n"
    return files
