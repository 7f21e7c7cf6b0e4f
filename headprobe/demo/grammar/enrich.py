"""Small natural insertions into finished trees, so that no single distance explains a relation.

A compound part between adjective and noun ("the wide market square"), a short phrase between
auxiliary and verb ("had by then lost"), an adverb between subject and verb ("she soon found") or in
front of a sentence ("Naturally, ..."), an aside after a subject ("The man, however, ..."), and the
past perfect in reasons and relative clauses ("because she had warned them").
What may go where is listed in lexicon.yaml; the tree stays right because a word is inserted
as a dependent of its head.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from random import Random

from headprobe.demo.grammar.cast import Decks
from headprobe.demo.grammar.lexicon import Lexicon
from headprobe.demo.grammar.notation import read_phrase
from headprobe.demo.grammar.tree import Node
from headprobe.demo.grammar.wordlists import words

QUOTES = frozenset('"“‘')
DATED = words(
    "end yesterday days dawn ago week year Monday Tuesday Friday Saturday Sunday spring evening"
)
NO_BY_THEN = words("while when if until noon so")
NO_THEN = words("after before than although until")
PAST = re.compile("ed$|^(gave|brought|sent|took|found|threw|sold|told|left|bought|built|hid)$")
STATES = words(
    "liked loved hated feared trusted needed wanted owned belonged hoped asked answered replied "
    "contained need feed stayed remained lived added whispered complained groaned shouted promised "
    "wondered explained admitted sighed smoked worked slept waited"
)
EVENT_CHANCE = 0.6
BY_THEN_CHANCE = 0.33
COMPOUND_CHANCE, BARE_CHANCE, GAP_CHANCE, OPENER_CHANCE, ASIDE_CHANCE = 0.9, 0.75, 0.3, 0.14, 0.05
ADVERB_CHANCE, PERFECT_CHANCE = 0.22, 0.6
EARLIER = words("because although after")


class Enricher:
    """Inserts, seeded by the writer's own decks and generator."""

    def __init__(self, lexicon: Lexicon, decks: Decks, rng: Random) -> None:
        self._lexicon, self._decks, self._rng = lexicon, decks, rng

    def enrich(self, root: Node, domain: str, first: bool) -> None:
        """Insert in place; the first sentence of a passage keeps its own opening."""
        speech = _speech(root)
        for node in list(root.words()):
            self._compound(node)
            self._perfect(node)
            self._gap(node, first)
            self._by_then(node)
            if not first and id(node) not in speech:
                self._adverb(node)
        for clause in _statements(root):
            draw = self._rng.random()
            if (first and clause is root) or any(
                child.form in ("soon", "then", "later") for child in clause.left
            ):
                continue
            if draw > 1 - ASIDE_CHANCE:
                self._aside(clause)
            elif draw < OPENER_CHANCE:
                spoken, narrated = clause is not root, "story" if domain == "dialogue" else domain
                kind = "dialogue" if spoken else narrated
                still = any(child.deprel in ("cop", "aux") for child in clause.left)
                still = still or bool(_forms(clause) & DATED)
                if kind == "story" and not still and self._rng.random() < EVENT_CHANCE:
                    kind = "story event"
                opener = self._decks.draw(f"{kind} opener", self._lexicon.openers[kind])
                clause.left.insert(_first_word(clause), read_phrase(opener))

    def start_passage(self) -> None:
        """Forget which noun got which compound part."""
        self._parts: dict[str, str] = {}

    def _compound(self, node: Node) -> None:
        """The same part for the same noun: a steel ladder stays a steel ladder.

        Participants keep the noun of the cast.
        """
        parts = self._lexicon.compounds.get(node.form)
        if not parts or node.upos != "NOUN" or not node.left or node.left[-1].form == "next":
            return
        if node.entity:
            return
        chance = {"amod": COMPOUND_CHANCE, "det": BARE_CHANCE}.get(node.left[-1].deprel, 0.0)
        part = self._parts.get(node.form)
        if part is None:
            wanted = self._rng.random() < chance
            part = self._decks.draw(f"{node.form} compound", parts) if wanted else ""
            self._parts[node.form] = part
        if part and chance:
            node.left.append(Node(part, part.lower(), "NOUN", "compound"))

    def _perfect(self, node: Node) -> None:
        """In a reason or a relative clause: "because she had warned them"."""
        marks = {child.form for child in node.left if child.deprel == "mark"}
        earlier = node.deprel == "acl:relcl" or (node.deprel == "advcl" and marks & EARLIER)
        regular = node.upos == "VERB" and node.form.endswith("ed") and node.form not in STATES
        relative = node.left and node.left[-1].form in ("who", "which", "that")
        if not earlier or not regular or relative or node.left[-1].deprel != "nsubj":
            return
        if self._rng.random() < PERFECT_CHANCE:
            node.left.append(Node("had", "have", "AUX", "aux"))

    def _adverb(self, clause: Node) -> None:
        """Between a subject and the past tense of an event: "she soon found"."""
        event = clause.upos == "VERB" and PAST.search(clause.form) and clause.form not in STATES
        if not event or clause.deprel not in ("root", "conj", "parataxis"):
            return
        before = [child.deprel for child in clause.left if child.deprel not in ("punct", "cc")]
        if before != ["nsubj"] or clause.left[-1].deprel != "nsubj":
            return
        if self._rng.random() > ADVERB_CHANCE or list(clause.left[-1].words())[-1].form == ",":
            return
        if _forms(clause) & DATED:
            return
        adverb = self._decks.draw("event adverbs", self._lexicon.gaps["event"])
        clause.left.append(read_phrase(adverb))

    def _aside(self, clause: Node) -> None:
        """After a copula or a subject that is no pronoun: "The man, however, ..."."""
        at = _first_word(clause)
        subject = clause.left[at]
        comma_follows = any(w.form == "," for w in list(subject.words())[-1:])
        taken = any(w.form == "," for child in clause.left for w in child.words())
        copula = next((n for n, child in enumerate(clause.left) if child.deprel == "cop"), None)
        taken = taken or any(child.deprel == "aux" for child in clause.left if copula is not None)
        if comma_follows or taken or (subject.upos == "PRON" and copula is None):
            return
        if copula is None and len(clause.left) > at + 3:
            return
        aside = read_phrase(self._decks.draw("asides", self._lexicon.asides))
        aside.left.insert(0, Node(",", ",", "PUNCT", "punct"))
        aside.right.append(Node(",", ",", "PUNCT", "punct"))
        clause.left.insert((at if copula is None else copula) + 1, aside)

    def _by_then(self, node: Node) -> None:
        """Between a copula and an adjective: "because it was by then closed"."""
        copulas = [child for child in node.left if child.deprel == "cop"]
        if node.upos != "ADJ" or not copulas or _forms(node) & NO_BY_THEN:
            return
        if copulas[0].form not in ("is", "are", "was", "were") or "?" in _forms(node):
            return
        if self._rng.random() < BY_THEN_CHANCE:
            phrases = self._lexicon.gaps[f"{copulas[0].form} adjective"]
            phrase = self._decks.draw(f"{copulas[0].form} adjective", phrases)
            node.left.insert(node.left.index(copulas[0]) + 1, read_phrase(phrase))

    def _gap(self, node: Node, first: bool) -> None:
        if not node.left or node.upos != "VERB":
            return
        if node.left[-1].deprel != "aux":
            return
        if any(child.deprel in ("advmod", "advcl") for child in node.left):
            return
        if node.deprel.startswith("acl") or sum(c.deprel == "aux" for c in node.left) > 1:
            return
        if _forms(node) & DATED:
            return
        if any(c.deprel == "mark" and c.form in NO_THEN for c in node.left):
            return
        auxiliary = node.left[-1].form
        if auxiliary == "had" and (first or node.form == "belonged"):
            return
        progressive = node.form.endswith("ing")
        name = f"{auxiliary} -ing" if progressive else auxiliary
        phrases = self._lexicon.gaps.get(name)
        if not phrases or self._rng.random() > GAP_CHANCE:
            return
        phrase = read_phrase(self._decks.draw(f"{name} gap", phrases))
        commas = any(word.form == "," for word in phrase.words())
        subject = node.left[-2] if len(node.left) > 1 else node
        if not (commas and (first or subject.upos == "PRON" or node.deprel == "advcl")):
            node.left.append(phrase)


def _statements(root: Node) -> Iterator[Node]:
    """The quoted statement, or the main clause where nothing is quoted, if its subject is first."""
    quoting = any(word.form in QUOTES for word in root.words())
    for node in root.words():
        if (node.deprel == "ccomp") != quoting or (node is not root and not quoting):
            continue
        at = _first_word(node)
        marks = {word.form for word in node.children() if word.upos == "PUNCT"}
        starts = at < len(node.left) and node.left[at].deprel == "nsubj" and not marks & {"?", "!"}
        if starts and not any(word.lemma in ("who", "what") for word in node.left[at].words()):
            yield node
            return


def _speech(root: Node) -> set[int]:
    """The identities of the words inside quotation marks."""
    if not _forms(root) & QUOTES:
        return set()
    said = (node for node in root.words() if node.deprel == "ccomp")
    return {id(word) for node in said for word in node.words()}


def _forms(clause: Node) -> set[str]:
    return {word.form for word in clause.words()}


def _first_word(clause: Node) -> int:
    """The place of the first dependent that is no mark."""
    for at, child in enumerate(clause.left):
        if child.upos != "PUNCT":
            return at
    return len(clause.left)
