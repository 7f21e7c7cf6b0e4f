"""Passage plans: templates whose choices and slots are filled, sentence by sentence.

    ## story lost-key
    H=adult D=adult!H T=tool
    - $when_story $H.intro^nsubj {lent|gave} $D.intro^iobj $T.intro^obj .
    / $D.intro^nsubj got $T.intro^obj $H.intro^obl/from .
    - ...

`##` opens a plan (domain, name); the next line casts it (`!H` another pronoun than H, `=H` the
same one, neither: half and half); `-` is a sentence, `/` another wording of it. `{a|b}` chooses.
`$H.way^relation` mentions a participant (`^obl/from` with a preposition, ways in cast.py; the way
`p` is a pronoun where no other participant could be meant and the last mention is near, else a
noun, and introduces who has not been mentioned),
`$list` deals from lexicon.yaml, `$the.kind` and `$a.kind` make phrases outside the cast,
`was~H` agrees with H. All of it is text until `notation.py` reads it. Things outside the cast that
`singletons` in lexicon.yaml lists become mentions, too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

from headprobe.demo.grammar.cast import PLURAL_VERBS, Decks, Speaker
from headprobe.demo.grammar.enrich import Enricher
from headprobe.demo.grammar.lexicon import HERE, load_lexicon
from headprobe.demo.grammar.notation import read_tree
from headprobe.demo.grammar.tree import Node, Sentence, finish
from headprobe.errors import HeadprobeError

CHOICE = re.compile(r"\{([^{}]*)\}")
SLOT = re.compile(r"\$(\w+)(?:\.(\w+))?(?:\^([a-z:]+)(?:/(\w+))?)?")
AGREES = re.compile(r"(?<!\S)(\S+)~(\w)(?=[\s_^\]]|$)")
SPEECH = re.compile(
    r'" \[ccomp (.*) ([,?])\] " (?:(\{[^}]*\}|\w+) (\$\S+)|(\$\S+) (\{[^}]*\}|\w+)) \.'
)
ROLE = re.compile(r"(\w)=([^!=]+?)(?:([!=])(\w))?")


KIN_CHANCE = 0.6
KIN = ("brother", "little_ADJ^amod sister", "old_ADJ^amod father", "aunt", "younger_ADJ^amod son")
QUOTATION_MARKS = ('""', '""', "“”", "“”", "‘’")


def quote(line: str, marks: str) -> str:
    """The line with its straight quotation marks exchanged for a pair, opening and closing."""
    before, *parts = line.split('"')
    return before + "".join(marks[at % 2] + part for at, part in enumerate(parts))


@dataclass(frozen=True)
class Plan:
    """A passage template: its cast, and for each sentence one or more wordings."""

    domain: str
    name: str
    cast: str
    sentences: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Passage:
    """A finished document; `entities` maps each key to its etype and pronoun, as (etype, she)."""

    id: str
    domain: str
    template: str
    sentences: list[Sentence]
    entities: dict[str, tuple[str, str]]


def read_plans(path: Path) -> Iterator[Plan]:
    """Read a file of plans. Raises HeadprobeError on a line that fits nowhere."""
    head: list[str] = []
    cast: str | None = None
    sentences: list[list[str]] = []

    def done() -> Iterator[Plan]:
        if head:
            wordings = tuple(tuple(s) for s in sentences)
            yield Plan(head[0], head[1], cast or "", wordings)

    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        text = line.strip()
        if text.startswith("## "):
            yield from done()
            head, cast, sentences = text[3:].split(), None, []
        elif not text or text.startswith("#"):
            continue
        elif cast is None:
            cast = text
        elif text.startswith("- "):
            sentences.append([text[2:]])
        elif text.startswith("/ ") and sentences:
            sentences[-1].append(text[2:])
        elif line.startswith("  ") and sentences:
            sentences[-1][-1] += " " + text
        else:
            raise HeadprobeError(
                f"{path.name}:{number}",
                f"{text!r} fits nowhere",
                "Begin with ##, -, / or two spaces",
            )
    yield from done()


def all_plans() -> list[Plan]:
    """Every plan of the three domains, in file order."""
    names = ("stories.txt", "news.txt", "dialogues.txt")
    return [plan for name in names for plan in read_plans(HERE / name)]


def competitors(passage: Passage) -> int:
    """How many entities are mentioned before the sentence with the last pronoun."""
    before: set[str] = set()
    competing = 0
    for sentence in passage.sentences:
        if any(sentence.words[m.head].upos == "PRON" for m in sentence.mentions):
            competing = len(before)
        before |= {m.entity for m in sentence.mentions}
    return competing


class Writer:
    """Fills plans; one writer for the whole set, so that words and wordings rotate."""

    def __init__(self, seed: int) -> None:
        self._rng = Random(seed)
        self._decks = Decks(self._rng)
        self._lexicon = load_lexicon()
        self._enricher = Enricher(self._lexicon, self._decks, self._rng)
        self._used: set[str] = set()
        self._singletons = frozenset(self._lexicon.lists["singletons"])

    def write(self, plan: Plan, document: str) -> Passage:
        """One passage of the plan with sentences not written before."""
        for _ in range(40):
            passage = self._try(plan, document)
            texts = {sentence.text for sentence in passage.sentences}
            fresh = len(texts) == len(passage.sentences) and not texts & self._used
            if fresh and competitors(passage) >= 4:
                self._used |= texts
                return passage
        raise HeadprobeError(plan.name, "nothing new to say", "Add words or wordings")

    def _try(self, plan: Plan, document: str) -> Passage:
        speaker = Speaker(self._lexicon, self._decks, self._rng, plan.domain)
        for role in plan.cast.split():
            self._cast(speaker, plan, role)
        self._enricher.start_passage()
        sentences = []
        marks = self._decks.draw("quotation marks", QUOTATION_MARKS)
        for at, wordings in enumerate(plan.sentences):
            speaker.sentence = at
            numbered = [str(i) for i in range(len(wordings))]
            chosen = int(self._decks.draw(f"{plan.name}.{at}", numbered))
            line = self._fill(self._order(wordings[chosen]), speaker, f"{plan.name}.{at}.{chosen}")
            tree = read_tree(quote(line, marks))
            self._enricher.enrich(tree, plan.domain, first=at == 0)
            self._mention_singletons(tree, speaker)
            sentences.append(finish(tree))
        entities = {key: (e.etype, e.pronoun) for key, e in speaker.cast.items()}
        mentioned = {m.entity for sentence in sentences for m in sentence.mentions}
        entities |= {key: ("object", "it") for key in mentioned if key not in entities}
        return Passage(document, plan.domain, plan.name, sentences, entities)

    def _mention_singletons(self, tree: Node, speaker: Speaker) -> None:
        """Mark the things outside the cast as mentions, one entity a noun."""
        cast = " ".join(f"{e.noun} {e.wider}" for e in speaker.cast.values())
        taken = {word.partition("_")[0] for word in cast.split()}
        for node in tree.words():
            articles = {child.form.lower() for child in node.left if child.deprel == "det"}
            if node.entity or node.own_entity or not articles & {"a", "an", "the"}:
                continue
            if node.upos == "NOUN" and node.form in self._singletons - taken:
                node.entity = f"thing_{node.form}"

    def _cast(self, speaker: Speaker, plan: Plan, role: str) -> None:
        match = ROLE.fullmatch(role)
        if match is None:
            raise HeadprobeError(plan.name, f"{role!r} is no role", "Write H=kind or D=kind!H")
        key, kind, sign, other = match.groups()
        pronoun = None
        if self._lexicon.kinds[kind.partition("(")[0]]["pronoun"] == "person":
            if sign:
                rival = speaker.cast[other].pronoun
                pronoun = rival if sign == "=" else {"she": "he", "he": "she"}[rival]
            else:
                pronoun = self._decks.draw(f"{plan.name} {key}", ["she", "he"])
        speaker.cast_entity(key, kind, pronoun)

    def _order(self, wording: str) -> str:
        """Direct speech before or after the verb of saying: two orders of one wording."""
        match = SPEECH.fullmatch(wording)
        if match is None or self._rng.random() < 0.45:
            return wording
        body, mark, verb, speaker, speaker2, verb2 = match.groups()
        stop = "." if mark == "," else mark
        colon = self._decks.draw("before speech", (",", ",", ":"))
        return f'{speaker or speaker2} {verb or verb2} {colon} [ccomp " {body} {stop} "]'

    def _fill(self, line: str, speaker: Speaker, place: str) -> str:
        while "{" in line or "$" in line:
            while match := CHOICE.search(line):
                options = match[1].split("|")
                numbered = [str(i) for i in range(len(options))]
                deck = f"{place}:{match[1]}"
                chosen = options[int(self._decks.draw(deck, numbered))]
                line = line[: match.start()] + chosen + line[match.end() :]
            if match := SLOT.search(line):
                speaker.quoting = line[: match.start()].count('"') % 2 == 1
                line = line[: match.start()] + self._slot(match, speaker) + line[match.end() :]
        return AGREES.sub(lambda m: self._agree(m, speaker), line)

    def _agree(self, match: re.Match[str], speaker: Speaker) -> str:
        form = match[1]
        return PLURAL_VERBS.get(form, form) if speaker.cast[match[2]].plural else form

    def _slot(self, match: re.Match[str], speaker: Speaker) -> str:
        name, way, rel, case = match.groups()
        if name in speaker.cast:
            if way == "p":
                way = speaker.free(name, rel or "", case or "")
                rel, case = (None, None) if way == "poss" else (rel, case)
            elif rel == "iobj" and way == "acc" and self._rng.random() < 0.75:
                way = "def" if "noun" in speaker.cast[name].told else way
            if way == "mine" and self._rng.random() < KIN_CHANCE:
                return f"[iobj [nmod:poss@{name} my] {self._decks.draw('kin', KIN)}]"
            way = "me" if way == "mine" else way
            words, entity = speaker.mention(name, way), f"@{name}"
            if way == "gen":
                raise HeadprobeError("gen", "stands alone", "Write $H.ref^nmod:poss/gen")
            if way in ("poss", "my", "your", "our") and not rel:
                return f"{words}^nmod:poss@{name}"
        elif name in ("the", "a"):
            words, entity = speaker.noun_phrase(name, way), ""
        else:
            words, entity = self._decks.draw(name, self._lexicon.lists[name]), ""
        if not rel:
            return words
        if case == "gen":
            return f"[{rel}{entity} {words} 's]"
        return f"[{rel}{entity} {case or ''} {words}]"
