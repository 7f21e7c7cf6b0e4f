"""Who a passage is about: entities, and every way English has of mentioning them again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from headprobe.demo.grammar.lexicon import Lexicon
from headprobe.demo.grammar.wordlists import words
from headprobe.errors import HeadprobeError

PRONOUNS = {
    "she": {"nom": "she", "acc": "her", "poss": "her", "refl": "herself"},
    "he": {"nom": "he", "acc": "him", "poss": "his", "refl": "himself"},
    "it": {"nom": "it", "acc": "it", "poss": "its", "refl": "itself"},
    "they": {"nom": "they", "acc": "them", "poss": "their", "refl": "themselves"},
}
FIRST_AND_SECOND = words("I me my you your we us our myself yourself")
PLURAL_VERBS = {"was": "were", "is": "are", "has": "have", "does": "do", "'s": "'re"}
DOCTORS = words(
    "doctor surgeon dentist biologist chemist geologist historian economist psychologist "
    "sociologist neurologist"
)
# How a person enters: weights by domain.
ENTRANCES = {
    "story": {"noun": 45, "first": 20, "appos": 15, "named": 20},
    "news": {"noun": 30, "full": 10, "appos": 45, "title": 15},
    "dialogue": {"first": 70, "noun": 30},
}


def _spell(entry: str) -> str:
    """An entry of a cast line: `park_rangers_>_helpers` is a compound with a wider noun."""
    noun, arrow, wider = entry.partition("_>_")
    *parts, head = noun.split("_")
    compound = "".join(f"{part}_NOUN^compound " for part in parts)
    return f"{compound}{head}" + (f" > {wider}" if arrow else "")


class Decks:
    """Shuffled decks that are dealt to the end before they are shuffled again."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._decks: dict[str, list[str]] = {}

    def draw(self, name: str, entries: Sequence[str]) -> str:
        """The next card of the deck of this name."""
        deck = self._decks.get(name)
        if not deck:
            deck = self._decks[name] = list(entries)
            self._rng.shuffle(deck)
        return deck.pop()


@dataclass
class Entity:
    """One participant: its words, and what the reader has been told so far."""

    key: str
    kind: str
    etype: str
    pronoun: str
    noun: str
    wider: str
    first: str = ""
    last: str = ""
    modifier: str = ""
    told: set[str] = field(default_factory=set)
    last_head: str = ""
    last_pronoun: str = ""
    last_sentence: int = -1

    @property
    def plural(self) -> bool:
        """Whether verbs agree in the plural."""
        return self.pronoun == "they"


class Speaker:
    """Puts entities into words, for one passage of one domain."""

    def __init__(self, lexicon: Lexicon, decks: Decks, rng: Random, domain: str) -> None:
        self.lexicon, self.decks, self.rng, self.domain = lexicon, decks, rng, domain
        self.cast: dict[str, Entity] = {}
        self.sentence = 0
        self.quoting = False

    def cast_entity(self, key: str, kind: str, pronoun: str | None) -> None:
        """Draw an entity of this kind; persons get a name and the gender asked for."""
        settings = self.lexicon.kinds.get(kind.partition("(")[0])
        if settings is None:
            raise HeadprobeError(kind, "no such kind", "See kinds in lexicon.yaml")
        takes = pronoun or settings["pronoun"]
        entity = Entity(key, kind, settings["etype"], takes, "", "")
        taken = {word for e in self.cast.values() for word in (e.noun, e.first, e.last) if word}
        if settings["pronoun"] == "person":
            names = "women" if takes == "she" else "men"
            entity.first = self._fresh(names, self.lexicon.lists[names], taken)
            entity.last = self._fresh("surnames", self.lexicon.lists["surnames"], taken)
        if kind == "child":
            entity.noun, entity.wider = ("girl" if takes == "she" else "boy"), "child"
        elif "(" in kind:
            inside = kind.partition("(")[2].rstrip(")").split(",")
            self._split(entity, self._fresh(kind, [_spell(entry) for entry in inside], taken))
        else:
            self._split(entity, self._fresh(kind, self.lexicon.lists[kind], taken))
        if settings["pronoun"] == "person" and kind != "child":
            entity.wider = "woman" if takes == "she" else "man"
        entity.modifier = self._modifier(settings["adjectives"], entity.noun)
        self.cast[key] = entity

    def _fresh(self, deck: str, entries: Sequence[str], taken: set[str]) -> str:
        for _ in range(200):
            card = self.decks.draw(deck, entries)
            if card.partition(" > ")[0] not in taken:
                return card
        raise HeadprobeError(deck, "every entry is taken", "Lengthen the list")

    def _split(self, entity: Entity, entry: str) -> None:
        entity.noun, _, wider = entry.partition(" > ")
        entity.wider = wider or entity.noun

    def _modifier(self, adjectives: str, noun: str) -> str:
        """Adjectives in front of a noun; often none, so that distances vary."""
        one = self.decks.draw(adjectives, self.lexicon.lists[adjectives])
        if "^compound" in noun:
            return f"{one}_ADJ^amod" if self.rng.random() < 0.75 else ""
        draw = self.rng.random()
        if draw < 0.44:
            return ""
        if draw < 0.64:
            return f"{one}_ADJ^amod"
        pair = self.decks.draw(f"{adjectives} pairs", self.lexicon.pairs[adjectives])
        first, second = pair.split()
        return f"[amod {first}_ADJ [conj and {second}_ADJ]]"

    def noun_phrase(self, article: str, kind: str) -> str:
        """A phrase outside the cast: article, modifiers, noun."""
        entry = self.decks.draw(kind, self.lexicon.lists[kind]).partition(" > ")[0]
        settings = self.lexicon.kinds[kind]
        return f"{article} {self._modifier(settings['adjectives'], entry)} {entry}"

    def mention(self, key: str, way: str) -> str:
        """The words of one mention, in notation. Raises HeadprobeError for an unknown way."""
        entity = self.cast[key]
        words = self._word(entity, way)
        entity.last_pronoun = words if way in PRONOUNS["it"] else ""
        entity.last_sentence = self.sentence
        return words

    def free(self, key: str, relation: str, case: str) -> str:
        """The way to mention somebody where a pronoun and a noun would both do."""
        entity = self.cast[key]
        if not entity.told:
            return "intro"
        subject = relation.startswith("nsubj")
        way = "poss" if case == "gen" else "nom" if subject else "acc"
        ago = self.sentence - entity.last_sentence
        if any(self._may_be_meant(other, entity) for other in self.cast.values()):
            return "alt"
        if ago == 0:
            return way
        if ago > 2:
            return "alt"
        if relation == "iobj" and self.rng.random() < 0.6:
            return "alt"
        if relation == "obj" and not entity.last_pronoun and self.rng.random() < 0.3:
            return "alt"
        repeated = entity.last_pronoun and entity.last_pronoun != PRONOUNS[entity.pronoun][way]
        chance = 0.3 if repeated else 0.85
        return way if self.rng.random() < chance * (1.0, 0.75)[ago - 1] else "alt"

    def _may_be_meant(self, other: Entity, entity: Entity) -> bool:
        """Whether a reader could take a pronoun for another participant.

        Not for one that takes another pronoun, for one last mentioned before the previous
        sentence, nor, in a quotation, for the two who speak.
        """
        if other is entity or other.pronoun != entity.pronoun:
            return False
        if self.quoting and self.domain == "dialogue" and other.key in "AB":
            return False
        if entity.last_sentence == self.sentence:
            return other.last_sentence == self.sentence
        return other.last_sentence >= max(self.sentence - 1, 0)

    def _word(self, entity: Entity, way: str) -> str:
        if way in PRONOUNS["it"]:
            return PRONOUNS[entity.pronoun][way]
        if way in FIRST_AND_SECOND:
            entity.told.add("pronoun")
            return way
        if way in ("first", "last", "full", "name"):
            entity.told.add("name")
        if way in ("ref", "alt") and not entity.told:
            way = "intro"
        if way in ("intro", "the", "lone", "thelone") and entity.told & {"noun", "name"}:
            way = "ref"
        if way in ("noun", "plain"):
            entity.told.add("noun")
            words = f"{entity.modifier if way == 'noun' else ''} {entity.noun}"
        elif way in ("intro", "the", "lone", "thelone"):
            words = self._enter(entity, way)
        elif way in ("ref", "alt"):
            words = self._again(entity, way)
        elif way in ("def", "wider", "name", "bare", "last", "first", "full"):
            words = self._told(entity, way)
        else:
            raise HeadprobeError(f"${entity.key}.{way}", "no such way to mention", "See cast.py")
        entity.last_head = words
        return words

    def _enter(self, entity: Entity, way: str) -> str:
        settings = self.lexicon.kinds[entity.kind.partition("(")[0]]
        article = "the" if way in ("the", "thelone") or entity.plural else "a"
        countable = entity.plural and entity.etype in ("person", "animal")
        if countable and way == "intro" and self.rng.random() < 0.4:
            numbers = ["two"] if entity.noun == "twins" else ["two", "three", "four", "some"]
            article = self.rng.choice(numbers)
        phrase = f"{article} {entity.modifier} {entity.noun}"
        after = self.decks.draw(settings["after"], self.lexicon.lists[settings["after"]])
        chance = {"intro": 0.45, "the": 0.25 * (self.domain != "dialogue")}.get(way, 0.0)
        after = f" {after}" if self.rng.random() < chance else ""
        if not entity.first or way in ("the", "thelone"):
            entity.told.add("noun")
            return phrase + after
        weights = ENTRANCES[self.domain]
        how = self.rng.choices(list(weights), list(weights.values()))[0]
        if self._clashes(entity, entity.noun):
            how = "full" if self.domain == "news" else "first"
        full = f"{entity.first} {entity.last}_PROPN^flat"
        given = full if self.domain == "news" else entity.first
        if how == "noun":
            entity.told.add("noun")
            return phrase + after
        entity.told.add("name")
        if how == "appos":
            entity.told.add("noun")
            return f"={given} , [appos {phrase}{after}] ,"
        if how == "named":
            entity.told.add("noun")
            return f"{phrase} [acl named [xcomp {entity.first}]]"
        if how == "title":
            return f"{self._title(entity)}_PROPN^nmod:desc {full}"
        return full if how == "full" else entity.first

    def _title(self, entity: Entity) -> str:
        if entity.noun in DOCTORS:
            return "Dr."
        if entity.noun == "professor":
            return "Professor"
        return "Ms." if entity.pronoun == "she" else "Mr."

    def _clashes(self, entity: Entity, word: str) -> bool:
        """Whether another participant could be meant by the word."""
        return any(
            word.rsplit(maxsplit=1)[-1] in (o.noun.split()[-1], o.wider.split()[-1])
            for o in self.cast.values()
            if o is not entity
        )

    def _again(self, entity: Entity, way: str) -> str:
        options: list[str] = []
        if "name" in entity.told:
            options += ["name"] * 3
        if "noun" in entity.told or entity.kind == "child":
            options += ["def"] * (3 if way == "ref" else 2)
        if entity.wider and not self._clashes(entity, entity.wider):
            options += ["wider"] * (1 if way == "ref" else 2)
        if way == "alt":
            fresh = [o for o in options if self._told(entity, o, 0) != entity.last_head]
            heads = [o for o in fresh if not self._same_head(entity, o)]
            options = heads or fresh or options
        if not options:
            return self._enter(entity, "intro")
        return self._told(entity, self.rng.choice(options))

    def _same_head(self, entity: Entity, way: str) -> bool:
        word = {"def": entity.noun, "wider": entity.wider}.get(way, entity.first)
        head = word.split()[-1]
        return f" {head} " in f" {entity.last_head} " or entity.last_head.endswith(head)

    def _told(self, entity: Entity, way: str, keep: float = 0.62) -> str:
        if way == "full":
            return f"{entity.first} {entity.last}_PROPN^flat"
        if way == "first":
            return entity.first
        if way == "last":
            return entity.last
        if way == "name" and "name" in entity.told:
            if self.domain != "news":
                return entity.first
            if self.rng.random() < 0.3 * bool(keep):
                return f"{self._title(entity)}_PROPN^nmod:desc {entity.last}"
            return entity.last
        if self._clashes(entity, entity.noun) and "name" in entity.told:
            return entity.last if self.domain == "news" else entity.first
        known = "noun" in entity.told or entity.kind == "child"
        wider_clashes = self._clashes(entity, entity.wider) if entity.wider else True
        if (way == "wider" and not wider_clashes) or (not known and not wider_clashes):
            single = "" if "[conj" in entity.modifier else entity.modifier
            return f"the {single if self.rng.random() < 0.5 * bool(keep) else ''} {entity.wider}"
        if not known:
            return entity.last if self.domain == "news" else entity.first
        if "[conj" in entity.modifier:
            keep *= 0.25
        adjectives = entity.modifier if self.rng.random() < keep and way != "bare" else ""
        return f"the {adjectives} {entity.noun}"
