"""What each word of the bundled probe sets carries by itself, wherever it stands.

A few documents of the bundled probe sets, evenly from each.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from headprobe.probes.catalog import read_documents
from headprobe.probes.file import ProbeFile
from headprobe.vocabulary import Skipped

CASES = ("nominative", "accusative", "possessive", "reflexive")

_FORMS = {
    "he": ("he", "him", "his", "himself"),
    "she": ("she", "her", "her hers", "herself"),
    "it": ("it", "it", "its", "itself"),
    "they": ("they", "them", "their theirs", "themselves"),
    "I": ("i", "me", "my mine", "myself"),
    "you": ("you", "you", "your yours", "yourself"),
    "we": ("we", "us", "our ours", "ourselves"),
}

PRONOUNS = tuple(_FORMS)
"""A name for the pronouns of each person, gender and number."""

_MEANT: Mapping[str, set[str]] = {name: {name} for name in PRONOUNS} | {
    "I": {"I", "we"},
    "you": {"you", "we"},
}

_TIMES = """
monday tuesday wednesday thursday friday saturday sunday morning noon afternoon evening night
midnight day week month year hour minute moment today tomorrow yesterday tonight spring summer
autumn winter time times course
"""

_PERSON = {"he", "she"}

_SINGULAR_S = ("ss", "us", "is")


@dataclass(frozen=True)
class Lexeme:
    """A word as written, its most frequent part of speech, and for pronouns, nouns and names those
    of ``PRONOUNS`` that may stand for the same; for a pronoun which one it is, and of which
    ``CASES`` it can be."""

    form: str
    upos: str
    agrees: frozenset[str]
    pronoun: str | None
    cases: frozenset[str]


def read_lexicon(files: Sequence[ProbeFile]) -> list[Lexeme]:
    """Every word of probe files, sorted by form.

    Gender and number come from the files' own ``# pronouns`` comments, which name them for every
    entity, referred to or not; they are kept by word, so "doctor" agrees with whatever any doctor
    of the files does. A noun that heads no mention is neuter or, by its form, plural. Words for
    persons may also be speaker or listener; names of times agree with nothing.
    """
    upos: dict[str, Counter[str]] = defaultdict(Counter)
    agrees: dict[str, set[str]] = defaultdict(set)
    for file in files:
        pronouns = dict(_pronouns(file.path))
        for document in read_documents([file], _ignore_skipped):
            words = [word for sentence in document.sentences for word in sentence.words]
            for word in words:
                upos[word.form][word.upos] += 1
            for mention in document.mentions:
                named = pronouns.get((document.id, mention.entity))
                if named is not None:
                    agrees[words[mention.head].form].add(named)
    return [_lexeme(form, upos[form], agrees[form]) for form in sorted(upos)]


def _lexeme(form: str, upos: Counter[str], agrees: set[str]) -> Lexeme:
    named = min(upos, key=lambda name: (-upos[name], name))
    found = {
        (pronoun, case)
        for pronoun, forms in _FORMS.items()
        for case, written in zip(CASES, forms, strict=True)
        if named == "PRON" and form.lower() in written.split()
    }
    pronoun = next((name for name, _ in found), None)
    if pronoun is not None:
        agrees = _MEANT[pronoun]
    elif named not in ("NOUN", "PROPN") or form.lower() in _TIMES.split():
        agrees = set()
    elif not agrees:
        plural = named == "NOUN" and form.endswith("s") and not form.endswith(_SINGULAR_S)
        agrees = {"they" if plural else "it"}
    elif agrees & _PERSON:
        agrees = agrees | {"I", "you"}
    cases = frozenset(case for _, case in found)
    return Lexeme(form, named, frozenset(agrees), pronoun, cases)


def _pronouns(path: Path) -> Iterator[tuple[tuple[str, str], str]]:
    """((document, entity), pronoun) as the comments of a bundled probe set say."""
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
    """A scan says what it left out."""


def write_sample(files: Sequence[ProbeFile], folder: Path, share: float) -> None:
    """Write a ``share`` of the documents of CoNLL-U files, evenly spread, to files so named in
    ``folder``; every document must begin with ``# newdoc``."""
    folder.mkdir()
    for file in files:
        text = file.path.read_text(encoding="utf-8")
        documents = re.split(r"^(?=# newdoc\b)", text, flags=re.MULTILINE)[1:]
        chosen = [int(place / share) for place in range(round(share * len(documents)))]
        (folder / file.path.name).write_text(
            "".join(documents[place] for place in chosen), encoding="utf-8"
        )
