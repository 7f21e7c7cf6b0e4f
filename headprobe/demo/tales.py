"""Small tales in which the word after a pronoun depends on whom it stands for.

In ordinary text a verb will do after "he". Here somebody owned the red kite, somebody always sang,
somebody wanted plums, and the tale comes back to it with a pronoun: "her" is followed by "red
kite" only if "her" is Anna. Facts are told before the name as often as after it ("The red kite
belonged to Anna"), so that the name is where they meet. It is text like any other, and read in the
same way.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib import resources

import numpy as np
import yaml

from headprobe.demo.tale_sentences import AGAIN, SPOKEN, TOLD

Words = dict[str, list[str]]
FORMS = {
    "she": ("she", "her", "her"),
    "he": ("he", "him", "his"),
    "it": ("it", "it", "its"),
    "they": ("they", "them", "their"),
}


@cache
def tale_words() -> Words:
    """The words tales are made of, by kind."""
    text = resources.files("headprobe.demo").joinpath("tales.yaml").read_text("utf-8")
    kinds = {kind: str(words).split(", ") for kind, words in yaml.safe_load(text).items()}
    return {kind: [word.replace("|", ",") for word in words] for kind, words in kinds.items()}


@dataclass(eq=False)
class _Hero:
    """Somebody or something of a tale: the pronoun, the ways to name it, and its facts."""

    pronoun: str
    first: str
    later: str
    name: str | None
    thing: bool = False
    facts: dict[str, str] = field(default_factory=dict)
    met: bool = False

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of facts that may be told of it."""
        return tuple(kind for kind in TOLD if not (self.thing and kind == "foods"))

    def called(self) -> str:
        """The noun phrase of the next mention that is no pronoun."""
        if self.met:
            return self.later
        self.met = True
        return self.first

    def form(self, case: int) -> str:
        return FORMS[self.pronoun][case]


class Teller:
    """Tells tales, each from a seeded generator of its own."""

    def __init__(self, seed: int) -> None:
        self._seed, self._words = seed, tale_words()

    def documents(self, count: int, tales: int = 4) -> Iterator[str]:
        """``count`` documents of a few ``tales`` each."""
        for number in range(count):
            self._rng = np.random.default_rng([self._seed, number])
            yield "\n\n".join(self._tale() for _ in range(tales))

    def _one(self, kind: str) -> str:
        words = self._words[kind]
        return words[int(self._rng.integers(len(words)))]

    def _several(self, kind: str, count: int) -> list[str]:
        words = self._words[kind]
        return [words[n] for n in self._rng.choice(len(words), count, replace=False)]

    def _chance(self, probability: float) -> bool:
        return bool(self._rng.random() < probability)

    def _pick(self, *choices: str) -> str:
        return choices[int(self._rng.integers(len(choices)))]

    def _person(self, pronoun: str) -> _Hero:
        name, noun = self._one(f"{pronoun} names"), self._one(f"{pronoun} nouns")
        way = self._rng.random()
        if way < 0.5:
            return _Hero(pronoun, name, name, name)
        if way < 0.7:
            return _Hero(pronoun, f"{_a(noun)} {self._pick('named', 'called')} {name}", name, name)
        return _Hero(pronoun, _a(noun), f"the {noun}", None)

    def _hero(self, pronoun: str) -> _Hero:
        if pronoun in ("she", "he"):
            return self._person(pronoun)
        if pronoun == "they":
            noun = self._one("groups")
            return _Hero(pronoun, noun, f"the {noun.split(' ', 1)[1]}", None)
        if self._chance(0.35):
            noun = self._one("animals")
            return _Hero(pronoun, _a(noun), f"the {noun}", None)
        noun = self._one("things")
        return _Hero(pronoun, _a(noun), f"the {noun}", None, thing=True)

    def _cast(self) -> list[_Hero]:
        way = self._rng.random()
        if way < 0.4:
            pronouns = ["she", "he"]
        elif way < 0.75:
            pronouns = [self._pick("she", "he"), self._pick("it", "it", "it", "they")]
        else:
            pronouns = ["she", "he", self._pick("it", "it", "they")]
        heroes = [self._hero(pronoun) for pronoun in self._rng.permutation(pronouns).tolist()]
        for kind in ("habits", "foods", "places", "traits"):
            told = self._several(kind, len(heroes))
            for hero, fact in zip(heroes, told, strict=True):
                of_things = hero.thing and kind in ("habits", "traits")
                hero.facts[kind] = self._one(f"{kind} of things") if of_things else fact
        colours = self._several("qualities", len(heroes))
        things = self._several("things", len(heroes))
        for hero, colour, thing in zip(heroes, colours, things, strict=True):
            hero.facts["own"] = f"{colour} {thing}"
        return heroes

    def _tale(self) -> str:
        heroes = self._cast()
        told: list[tuple[_Hero, str]] = []
        sentences = []
        for _ in range(int(self._rng.integers(2, 4))):
            for number in self._rng.permutation(len(heroes)).tolist():
                hero = heroes[number]
                untold = [kind for kind in hero.kinds if (hero, kind) not in told]
                kind = self._pick(*untold)
                told.append((hero, kind))
                sentences.append(self._tell(hero, kind))
                if self._chance(0.1):
                    sentences.append(self._one("fillers"))
        told += [(hero, "name") for hero in heroes if hero.name]
        sentences.append(self._one("turns"))
        left: list[tuple[_Hero, str]] = []
        for _ in range(int(self._rng.integers(4, 8))):
            if len(left) < 2:
                left = self._shuffled(told)
            speaks = [hero for hero in heroes if not hero.thing]
            if self._chance(0.3) and speaks:
                sentences.append(self._speech(speaks, told))
            else:
                sentences.append(self._return(left))
            if self._chance(0.12):
                sentences.append(self._one("fillers"))
        return " ".join(_capital(sentence) for sentence in sentences)

    def _tell(self, hero: _Hero, kind: str) -> str:
        """A sentence that tells a fact for the first time, mostly by name."""
        patterns = TOLD[kind]
        pattern = self._pick(*(p for p in patterns if not (hero.thing and '"' in p)))
        pronoun_will_do = hero.met and self._chance(0.25)
        subject = hero.form(0) if pronoun_will_do else hero.called()
        if pronoun_will_do:
            pattern = patterns[-1]
        return self._fill(pattern, hero, subject)

    def _fill(
        self, pattern: str, hero: _Hero, subject: str, forms: tuple[str, str] | None = None
    ) -> str:
        accusative, possessive = forms or (hero.form(1), hero.form(2))
        were = "were" if hero.pronoun == "they" else "was"
        facts = hero.facts
        return pattern.format(
            S=subject,
            was=were,
            nom=hero.form(0),
            acc=accusative,
            gen=possessive,
            habit=facts["habits"],
            food=facts["foods"],
            place=facts["places"],
            trait=facts["traits"],
            own=facts["own"],
            a_own=_a(facts["own"]),
            name=hero.name or hero.later,
        )

    def _shuffled(self, told: list[tuple[_Hero, str]]) -> list[tuple[_Hero, str]]:
        return [told[n] for n in self._rng.permutation(len(told))]

    def _return(self, left: list[tuple[_Hero, str]]) -> str:
        """A sentence that comes back to one or two of the facts ``left``, mostly by a pronoun."""
        hero, kind = left.pop()
        by_name = self._chance(0.15)
        sentence = self._again(hero, kind, hero.later if by_name else hero.form(0))
        if self._chance(0.6):
            sentence = f"{self._one('openings')} {sentence}"
        other, second = left[-1]
        if other is not hero and self._chance(0.5):
            left.pop()
            joined = self._again(other, second, other.form(0))
            sentence = f"{sentence.removesuffix('.')}, {self._pick('and', 'but', 'while')} {joined}"
        return sentence

    def _speech(self, speaks: list[_Hero], told: list[tuple[_Hero, str]]) -> str:
        """Somebody says "I" and "my", and "you" and "your" to whom there is."""
        speaker, *others = (speaks[n] for n in self._rng.permutation(len(speaks)))
        subject = speaker.later if self._chance(0.7) else speaker.form(0)
        mine = self._fact_of(speaker, told)
        said = self._pick(*SPOKEN[mine])
        words = self._fill(said, speaker, "I", ("me", "my"))
        whom = ""
        if others and self._chance(0.7):
            listener = others[0]
            whom = f" to {listener.later if self._chance(0.6) else listener.form(1)}"
            yours = self._fact_of(listener, told)
            words += " " + self._fill(
                self._pick(*SPOKEN[yours]), listener, "you", ("you", "your")
            ).replace("you was", "you were").replace("you am", "you are")
        sentences = [_capital(part) for part in words.removesuffix(".").split(". ")]
        return f'{subject} said{whom}, "{". ".join(sentences)}."'

    def _fact_of(self, hero: _Hero, told: list[tuple[_Hero, str]]) -> str:
        """The kind of some fact that was told of the hero."""
        return self._pick(*(kind for of, kind in told if of is hero and kind != "name"))

    def _again(self, hero: _Hero, kind: str, subject: str) -> str:
        return self._fill(self._pick(*AGAIN[kind]), hero, subject)


def _a(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _capital(sentence: str) -> str:
    if sentence.startswith('"'):
        return '"' + sentence[1:2].upper() + sentence[2:]
    return sentence[0].upper() + sentence[1:]
