"""Minimal pairs for causal checks: two sentences that differ in one word.

Three phenomena: `agreement` (verb with its subject across a noun of the other number),
`reflexive` (with its subject, across another person) and `pronoun` (a gendered pronoun whose only
possible antecedent stands beside a person of the other gender). The words come from the probes'
lexicon. Good and bad share every word before the critical one, so a model is asked at one position.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from random import Random

from headprobe.demo.grammar.cast import PRONOUNS, Decks
from headprobe.demo.grammar.lexicon import load_lexicon
from headprobe.demo.grammar.notation import WORD
from headprobe.demo.grammar.pair_frames import (
    AGREEMENT_FRAMES,
    PRONOUN_FRAMES,
    REFLEXIVE_FRAMES,
)
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
VERBS = {"is": "are", "are": "is", "was": "were", "were": "was"}
BETWEEN = ("near", "behind", "beside", "next to")
STATES = (
    "old", "new", "beautiful", "very old", "too small", "rather ugly", "difficult to see",
    "still there", "in good condition", "not very big", "quite large", "green",
    "covered with snow", "dirty",
)  # fmt: skip
REFLEXIVE_VERBS = (
    "blamed", "admired", "trusted", "criticised", "described", "defended", "hated", "praised",
    "introduced", "prepared", "hurt", "protected", "corrected", "photographed", "watched",
)  # fmt: skip
OPPOSITE = {"she": "he", "he": "she"}
# Only the subject can own these: "Anna, a friend of Tom, lost her way", never "his".
ACTS = (
    "lost {poss} way", "changed {poss} mind", "held {poss} breath", "lost {poss} temper",
    "did {poss} best", "shook {poss} head", "cleared {poss} throat", "took {poss} time",
    "made up {poss} mind", "bit {poss} lip", "lost {poss} balance", "caught {poss} breath",
    "stood {poss} ground", "crossed {poss} fingers", "raised {poss} eyebrows", "bowed {poss} head",
    "lost {poss} nerve", "shrugged {poss} shoulders", "licked {poss} lips", "gritted {poss} teeth",
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
    """Drafts pairs from decks, so that words and both values of every feature rotate.

    A phenomenon goes through its frames in turns, and every frame through the forms of the
    critical word.
    """

    def __init__(self, seed: int) -> None:
        self._rng = Random(f"pairs {seed}")
        self._decks = Decks(self._rng)
        self._lexicon = load_lexicon()

    def write(self) -> Iterator[Pair]:
        """All pairs, phenomenon by phenomenon."""
        yield from self._series(
            "agreement", AGREEMENT_FRAMES, ("is", "are", "was", "were"), self._agreement
        )
        yield from self._series(
            "reflexive", REFLEXIVE_FRAMES, ("she", "he", "they"), self._reflexive
        )
        yield from self._series("pronoun", PRONOUN_FRAMES, ("she", "he"), self._pronoun)

    def _series(
        self,
        phenomenon: str,
        frames: Mapping[str, str],
        forms: Sequence[str],
        make: Callable[[str, str, str], _Draft],
    ) -> Iterator[Pair]:
        seen: set[str] = set()
        kinds: list[tuple[str, str]] = []
        for turn in range(-(-PER_PHENOMENON // len(frames))):
            deck = [(name, forms[(at + turn) % len(forms)]) for at, name in enumerate(frames)]
            self._rng.shuffle(deck)
            kinds += deck
        for number, (name, form) in enumerate(kinds[:PER_PHENOMENON], start=1):
            for _ in range(50):
                draft = make(f"{phenomenon}-{name}", frames[name], form)
                good = _sentence(draft.frame.replace("__", draft.critical))
                if good not in seen:
                    break
            else:
                raise HeadprobeError(phenomenon, "too few words", "Lengthen the lists")
            seen.add(good)
            bad = _sentence(draft.frame.replace("__", draft.rival))
            yield Pair(
                f"{phenomenon}-{number:03d}", phenomenon, draft.template, good, bad,
                draft.critical, draft.rival, draft.cue, draft.distractor,
            )  # fmt: skip

    def _agreement(self, template: str, frame: str, form: str) -> _Draft:
        rival = VERBS[form]
        singular = form in ("is", "was")
        head, other = self._decks.draw("things", THINGS).split()
        cue = head.split("/")[not singular]
        distractor = other.split("/")[singular]
        between = self._decks.draw("between", BETWEEN)
        filled = frame.format(
            thing=f"the {cue} {between} the {distractor}",
            cue=cue,
            other=distractor,
            between=between,
            person=self._job(cue_only=True),
            state=self._decks.draw("states", STATES),
        )
        return _Draft(template, filled, form, rival, cue, distractor)

    def _reflexive(self, template: str, frame: str, takes: str) -> _Draft:
        cue, distractor, rival = self._people(takes)
        verb = self._decks.draw("reflexive verbs", REFLEXIVE_VERBS)
        filled = frame.format(cue=cue, other=distractor, verb=verb)
        good, bad = PRONOUNS[takes]["refl"], PRONOUNS[rival]["refl"]
        return _Draft(template, filled, good, bad, cue, distractor)

    def _pronoun(self, template: str, frame: str, takes: str) -> _Draft:
        cue, distractor, rival = self._people(takes, names_only=True)
        if "{act}" in frame:
            frame = frame.replace("{act}", self._decks.draw("acts", ACTS))
        [case] = [case for case in ("nom", "acc", "poss") if f"{{{case}}}" in frame]
        filled = frame.format(
            cue=cue,
            other=distractor,
            state=self._decks.draw("states of mind", STATES_OF_MIND),
            **{case: "__"},
        )
        good, bad = PRONOUNS[takes][case], PRONOUNS[rival][case]
        return _Draft(template, filled, good, bad, cue, distractor)

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
