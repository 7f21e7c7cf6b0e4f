"""Conversion of ClearNLP dependency labels, which spaCy's English models use, to UD.

ClearNLP (https://github.com/clir/clearnlp-guidelines) differs from UD in the structure, not only in
the names: prepositions and copulas are heads there and dependents in UD. ``convert`` therefore

1. makes the predicate the head of its copula (*she is a doctor*: *is* becomes ``cop``),
2. makes the object of a preposition the head of the preposition (*in the house*: *in* becomes
   ``case``, and *house* takes its place as ``obl`` or ``nmod``),
3. attaches all later conjuncts to the first one, and a conjunction to the conjunct after it,
4. makes the subject of an infinitive the object of the verb above (*I want you to stay*),
5. makes the first word of a person's name its head (*Ada Lovelace*: *Lovelace* becomes ``flat``),
   and what is said the head of a verb of saying after it (*it rains, he said*: ``parataxis``),
6. renames the remaining labels by ``RENAMED`` and by the part of speech of the head.

The conversion is approximate. ``probes.parse_accuracy`` measures parser and conversion together.
"""

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple


class ParsedToken(NamedTuple):
    """A token of a sentence as a parser returns it."""

    form: str
    lemma: str
    upos: str

    head: int | None
    """Index of the head in the sentence; None for the root."""

    label: str

    person: int | None = None
    """Number of the person's name that the token belongs to; None for other tokens."""


RENAMED: Mapping[str, str] = MappingProxyType(
    {
        "ROOT": "root",
        "acomp": "xcomp",
        "agent": "obl:agent",
        "attr": "xcomp",
        "auxpass": "aux:pass",
        "csubjpass": "csubj:pass",
        "dative": "iobj",
        "dobj": "obj",
        "intj": "discourse",
        "meta": "dep",
        "neg": "advmod",
        "nsubjpass": "nsubj:pass",
        "oprd": "xcomp",
        "pcomp": "advcl",
        "pobj": "obl",
        "poss": "nmod:poss",
        "preconj": "cc:preconj",
        "predet": "det:predet",
        "prt": "compound:prt",
        "quantmod": "advmod",
        "relcl": "acl:relcl",
    }
)
"""ClearNLP label -> UD relation, where no structure decides."""

_RESTRUCTURED = ("npadvmod", "prep")
"""Labels whose UD relation depends on the words around."""

_SHARED = (
    *("acl", "advcl", "advmod", "amod", "appos", "aux", "case", "cc", "ccomp", "compound", "conj"),
    *("csubj", "dep", "det", "expl", "mark", "nmod", "nsubj", "nummod", "parataxis", "punct"),
    "xcomp",
)
"""Labels that both schemes have."""

LABELS = frozenset({*RENAMED, *_RESTRUCTURED, *_SHARED})
"""All ClearNLP labels."""

MARKERS = frozenset(LABELS - {*_SHARED} - {"ROOT"})
"""Labels that only ClearNLP has: one of them tells that a parser does not label by UD."""

_NOMINAL = frozenset({"NOUN", "PROPN", "PRON", "NUM", "SYM", "DET", "X"})
"""UPOS of heads whose modifiers are ``nmod`` rather than ``obl``."""

_PREDICATES = ("attr", "acomp")
_SUBJECTS = frozenset({"nsubj", "nsubjpass", "csubj", "csubjpass", "expl"})
_PLACES = frozenset({"here", "there", "where", "home", "away", "back", "how", "over", "out", "up"})
"""Adverbs that can be the predicate of a copula."""


_WITH_BARE_INFINITIVE = frozenset({"feel", "have", "hear", "help", "let", "make", "see", "watch"})

_QUOTES = frozenset({'"', "'", "''", "”", "’", "»", "“"})


def convert(tokens: Sequence[ParsedToken]) -> list[tuple[int | None, str]]:
    """Return the UD head and relation of each token of a sentence."""
    tree = _Tree(tokens)
    tree.promote_predicates()
    tree.promote_objects()
    tree.raise_subjects()
    tree.demote_speech()
    tree.flatten_names()
    tree.attach_conjuncts()
    return [tree.renamed(index) for index in range(len(tokens))]


class _Tree:
    """A tree that is being converted; ``heads`` and ``labels`` hold its present state."""

    def __init__(self, tokens: Sequence[ParsedToken]) -> None:
        self.tokens = tokens
        self.heads = [token.head for token in tokens]
        self.labels = [token.label for token in tokens]
        self.of_clause: set[int] = set()
        """Words that a copula had and its predicate has now: they modify the clause."""

    def children(self, head: int) -> list[int]:
        return [index for index, other in enumerate(self.heads) if other == head]

    def labelled(self, head: int, labels: Iterable[str]) -> list[int]:
        return [index for index in self.children(head) if self.labels[index] in labels]

    def swap(self, head: int, dependent: int, label: str) -> None:
        """Let a dependent take the place of its head, and the head become its dependent.

        The head's other dependents move with the place.
        """
        for child in self.children(head):
            if child != dependent:
                self.heads[child] = dependent
        self.heads[dependent], self.labels[dependent] = self.heads[head], self.labels[head]
        self.heads[head], self.labels[head] = dependent, label

    def promote_predicates(self) -> None:
        """Make nominal, adjectival and adverbial predicates the heads of forms of *be*."""
        for index, token in enumerate(self.tokens):
            if token.lemma != "be" or self.labels[index] in ("aux", "auxpass"):
                continue
            predicate = self._predicate(index)
            if predicate is not None:
                self.of_clause.update(self.children(index))
                self.swap(index, predicate, "cop")

    def _predicate(self, copula: int) -> int | None:
        """Return the dependent of a form of *be* that UD takes as the predicate, if any."""
        children = self.children(copula)
        if any(self._is_existential(child) for child in children):
            for child in self.labelled(copula, _PREDICATES):  # there is a *dog*
                self.labels[child] = "nsubj"
            return None
        named = self.labelled(copula, _PREDICATES)
        if named:
            return named[0]
        if self.labelled(copula, ("ccomp", "xcomp", "oprd")):
            return None
        phrases = [child for child in self.labelled(copula, ("prep",)) if self._objects(child)]
        after = [child for child in phrases if child > copula]
        if after:
            return after[0]
        adverbs = self.labelled(copula, ("advmod",))
        places = [child for child in adverbs if self.tokens[child].form.lower() in _PLACES]
        return places[-1] if places else None

    def _is_existential(self, index: int) -> bool:
        return self.labels[index] == "expl" and self.tokens[index].form.lower() == "there"

    def _objects(self, preposition: int) -> list[int]:
        return self.labelled(preposition, ("pobj", "pcomp"))

    def promote_objects(self) -> None:
        """Make objects of prepositions the heads of their prepositions, innermost first."""
        for index in reversed(range(len(self.tokens))):
            if not self._is_preposition(index):
                continue
            objects = self._objects(index)
            if not objects:
                continue
            first, clausal = objects[0], self.labels[objects[0]] == "pcomp"
            if clausal and self.tokens[first].upos == "ADP":  # a compound preposition lost its noun
                continue
            label = self.labels[index]
            if index in self.of_clause:
                self.of_clause.add(first)
            self.swap(index, first, "mark" if clausal and self._is_verbal(first) else "case")
            if label in ("prep", "dative", "agent"):
                self.labels[first] = self._oblique(first, clausal, label)

    def _is_preposition(self, index: int) -> bool:
        return self.labels[index] in ("prep", "agent", "dative") or any(
            self.labels[child] == "pobj" for child in self.children(index)
        )

    def _is_verbal(self, index: int) -> bool:
        return self.tokens[index].upos in ("VERB", "AUX") or bool(
            self.labelled(index, {*_SUBJECTS, "cop"})
        )

    def _oblique(self, index: int, clausal: bool, label: str) -> str:
        """Return the UD relation of what a preposition governs."""
        head = self.heads[index]
        to_noun = head is not None and self._is_nominal(head) and index not in self.of_clause
        if clausal and self._is_verbal(index):
            return "acl" if to_noun else "advcl"
        if label == "agent":
            return "agent"
        return "nmod" if to_noun else "obl"

    def _is_nominal(self, index: int) -> bool:
        return self.tokens[index].upos in _NOMINAL

    def raise_subjects(self) -> None:
        """Make subjects of infinitives objects of the verb above (*I want you to stay*)."""
        for index, head in enumerate(self.heads):
            if self.labels[index] != "ccomp" or head is None or index < head:
                continue
            subjects = [n for n in self.labelled(index, ("nsubj", "nsubjpass")) if n > head]
            if subjects and self._is_infinitive(index, head):
                self.labels[index] = "xcomp"
                self.heads[subjects[0]], self.labels[subjects[0]] = head, "dobj"

    def _is_infinitive(self, index: int, verb: int) -> bool:
        auxiliaries = self.labelled(index, ("aux", "auxpass", "cop"))
        if self.labelled(index, ("mark",)):
            return False
        if any(self.tokens[each].upos == "PART" for each in auxiliaries):
            return True
        token = self.tokens[index]
        bare = self.tokens[verb].lemma in _WITH_BARE_INFINITIVE and token.form == token.lemma
        return bare and not auxiliaries and token.upos == "VERB"

    def demote_speech(self) -> None:
        """Make what is said the head of a verb of saying that follows it (*It rains, he said*)."""
        for index, head in enumerate(self.heads):
            if self.labels[index] != "ccomp" or head is None or index > head:
                continue
            if self.labelled(index, ("mark",)) or self._is_quoted(index, head):
                continue
            self.heads[index], self.labels[index] = self.heads[head], self.labels[head]
            self.heads[head], self.labels[head] = index, "parataxis"

    def _is_quoted(self, clause: int, verb: int) -> bool:
        """Whether a quotation mark stands between a clause and its verb: it stays an object."""
        return any(token.form in _QUOTES for token in self.tokens[clause:verb])

    def flatten_names(self) -> None:
        """Make the first word of a person's name its head (*Ada Lovelace*)."""
        names: dict[int, list[int]] = {}
        for index, token in enumerate(self.tokens):
            if token.person is not None and token.upos == "PROPN":
                names.setdefault(token.person, []).append(index)
        for first, *others in names.values():
            last = others[-1] if others else first
            parts = [first, *others[:-1]]
            if others and all(self.heads[p] == last and self._is_compound(p) for p in parts):
                self.swap(last, first, "flat")
                for index in others:
                    self.labels[index] = "flat"

    def _is_compound(self, index: int) -> bool:
        return self.labels[index] == "compound"

    def attach_conjuncts(self) -> None:
        """Attach conjuncts to the first one, and conjunctions to the conjunct that follows."""
        for index, label in enumerate(self.labels):
            head = self.heads[index]
            if label == "cc" and head is not None:
                after = [child for child in self.labelled(head, ("conj",)) if child > index]
                if after:
                    self.heads[index] = after[0]
        for index, label in enumerate(self.labels):
            if label == "conj":
                head, seen = self.heads[index], {index}
                while head is not None and self.labels[head] == "conj" and head not in seen:
                    seen.add(head)
                    head = self.heads[head]
                self.heads[index] = head

    def renamed(self, index: int) -> tuple[int | None, str]:
        """Return the head and the UD relation of a token of the restructured tree."""
        head, label = self.heads[index], self.labels[index]
        token = self.tokens[index]
        if head is None:
            return None, "root"
        if label == "prep":  # without an object
            label = "obl" if token.upos == "ADP" else "advmod"
        elif label == "npadvmod":
            of_noun = self._is_nominal(head) and index not in self.of_clause
            label = "nmod:unmarked" if of_noun else "obl:unmarked"
        elif label == "aux" and token.upos == "PART":  # the infinitive's *to*
            label = "mark"
        return head, RENAMED.get(label, label)
