"""The words of the bundled probe sets and their features, and samples of these sets.

A planted head can read only what a token's embedding holds, so a ``Lexeme`` has the features that a
word has in every sentence.
"""

import re
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from headprobe.probes.catalog import read_documents
from headprobe.probes.file import ProbeFile
from headprobe.vocabulary import Skipped

CASES = ("nominative", "accusative", "possessive", "reflexive")
"""The cases of pronouns."""

_FORMS = {
    "he": ("he", "him", "his", "himself"),
    "she": ("she", "her", "her hers", "herself"),
    "it": ("it", "it", "its", "itself"),
    "they": ("they", "them", "their theirs", "themselves"),
    "I": ("i", "me", "my mine", "myself"),
    "you": ("you", "you", "your yours", "yourself"),
    "we": ("we", "us", "our ours", "ourselves"),
}
"""The forms of each pronoun in each of ``CASES``."""

PRONOUNS = tuple(_FORMS)
"""The name of each pronoun, one per person, gender and number."""

_REFERENTS: Mapping[str, set[str]] = {name: {name} for name in PRONOUNS} | {
    "I": {"I", "we"},
    "you": {"you", "we"},
}
"""The pronouns that may stand for the same as each pronoun."""

_TIMES = """
monday tuesday wednesday thursday friday saturday sunday morning noon afternoon evening night
midnight day week month year hour minute moment today tomorrow yesterday tonight spring summer
autumn winter time times course
"""
"""Nouns of time, to which no pronoun refers."""

_PERSON = {"he", "she"}
"""The pronouns for persons."""

_SINGULAR_S = ("ss", "us", "is")
"""The ends of singular nouns in -s."""


@dataclass(frozen=True)
class Lexeme:
    """A word and the features that it has in every sentence."""

    form: str
    """The word as written."""
    upos: str
    """Its most frequent part of speech."""
    agrees: frozenset[str]
    """For pronouns, nouns and names: those of ``PRONOUNS`` that may stand for the same."""
    pronoun: str | None
    """For a pronoun: which one of ``PRONOUNS`` it is."""
    cases: frozenset[str]
    """For a pronoun: the ``CASES`` that it can have."""
    related: frozenset[str] = frozenset()
    """The forms to which a semantic relation looks from the word."""


def read_lexicon(files: Sequence[ProbeFile]) -> list[Lexeme]:
    """The words of probe files, sorted by form.

    Gender and number come from the files' ``# pronouns`` comments, which give a pronoun for every
    entity, whether or not a pronoun refers to it. They are collected by word, so "doctor" agrees
    with the pronouns of all doctors in the files. A noun that heads no mention is neuter or, by its
    form, plural. Words for persons may also be speaker or listener; nouns of time agree with
    nothing. Words of twins count as words of the files.
    """
    upos: dict[str, Counter[str]] = defaultdict(Counter)
    related: dict[str, set[str]] = defaultdict(set)
    agrees: dict[str, set[str]] = defaultdict(set)
    for file in files:
        pronouns = dict(_pronouns(file.path))
        for document in read_documents([file], _ignore_skipped):
            words = [word for sentence in document.sentences for word in sentence.words]
            for word in words:
                upos[word.form][word.upos] += 1
            for place, form in document.twins.items():
                upos[form][words[place].upos] += 1
            for link in document.declared:
                if link.relation.family == "semantic":
                    targets = (words[target].form for target in link.targets)
                    related[words[link.query].form].update(targets)
            for mention in document.mentions:
                pronoun = pronouns.get((document.id, mention.entity))
                if pronoun is not None:
                    agrees[words[mention.head].form].add(pronoun)
    return [
        replace(_lexeme(form, upos[form], agrees[form]), related=frozenset(related[form]))
        for form in sorted(upos)
    ]


def _lexeme(form: str, upos: Counter[str], agrees: set[str]) -> Lexeme:
    tag = min(upos, key=lambda name: (-upos[name], name))
    readings = {
        (pronoun, case)
        for pronoun, forms in _FORMS.items()
        for case, written in zip(CASES, forms, strict=True)
        if tag == "PRON" and form.lower() in written.split()
    }
    pronoun = next((name for name, _ in readings), None)
    if pronoun is not None:
        agrees = _REFERENTS[pronoun]
    elif tag not in ("NOUN", "PROPN") or form.lower() in _TIMES.split():
        agrees = set()
    elif not agrees:
        plural = tag == "NOUN" and form.endswith("s") and not form.endswith(_SINGULAR_S)
        agrees = {"they" if plural else "it"}
    elif agrees & _PERSON:
        agrees = agrees | {"I", "you"}
    cases = frozenset(case for _, case in readings)
    return Lexeme(form, tag, frozenset(agrees), pronoun, cases)


def _pronouns(path: Path) -> Iterator[tuple[tuple[str, str], str]]:
    """Yield ((document, entity), pronoun) from the comments of a bundled probe set."""
    document = ""
    for line in path.read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition(" = ")
        if key == "# newdoc id":
            document = value
        elif key == "# pronouns":
            for entry in value.split(", "):
                entity, _, pronoun = entry.partition(" ")
                yield (document, entity), pronoun


def _ignore_skipped(_: Skipped) -> None:
    """Ignore what reading skips, which the scan of the same files reports."""


def write_sample(files: Sequence[ProbeFile], folder: Path, share: float) -> None:
    """Write a ``share`` of the documents of CoNLL-U files, evenly spread, to ``folder``, under the
    files' own names, with the files of word pairs that they name. Every document must begin with
    ``# newdoc``."""
    folder.mkdir()
    for file in files:
        text = file.path.read_text(encoding="utf-8")
        for pairs in re.findall(r"^# global\.Pairs = (\S+)$", text, flags=re.MULTILINE):
            shutil.copyfile(file.path.parent / pairs, folder / pairs)
        documents = re.split(r"^(?=# newdoc\b)", text, flags=re.MULTILINE)[1:]
        chosen = [int(place / share) for place in range(round(share * len(documents)))]
        (folder / file.path.name).write_text(
            "".join(documents[place] for place in chosen), encoding="utf-8"
        )
