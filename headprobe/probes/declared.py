"""The relation that a probe file declares (METHOD section 2)."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from headprobe.probes.file import ProbeFile, suggest_names
from headprobe.probes.relations import ANAPHORS
from headprobe.vocabulary import Relation, Scope


@dataclass(slots=True)
class Text:
    """A scalar, as written."""

    text: str
    line: int


_NAME = re.compile(r"[^\W\d_][\w.:+-]{0,39}")

_FAMILIES = ("user", "coreference", "syntax")


def declared_relation(file: ProbeFile, name: Text, settings: Mapping[str, Text | None]) -> Relation:
    """The relation ``name`` with the family, direction and scope it was given or implies.

    ``pronoun``, ``nominal`` and ``proper`` are the coreference relations; any other belongs to the
    family ``user``, looks to its ``target`` and competes in the whole ``passage``, unless
    ``settings`` (``family``, ``looks_to``, ``scope``) say otherwise.
    """
    settings_given = {key: text for key, text in settings.items() if text is not None}
    _one_of(file, settings_given.get("family"), "family", _FAMILIES)
    _one_of(file, settings_given.get("scope"), "scope", ("passage", "sentence"))
    for text in (name, *settings_given.values()):
        if _NAME.fullmatch(text.text) is None:
            raise file.error(
                text.line,
                f"{text.text[:40]!r} is no name",
                "Use up to 40 letters, digits and - _ . : +, a letter first",
            )
    values = {key: text.text for key, text in settings_given.items()}
    implied = "user"
    if name.text in ANAPHORS and values.get("looks_to", "antecedent") == "antecedent":
        implied = "coreference"
    family = values.get("family", implied)
    if family == "coreference":
        _one_of(file, name, "coreference relation", ANAPHORS)
        _one_of(file, settings_given.get("looks_to"), "looks_to of coreference", ("antecedent",))
        _one_of(file, settings_given.get("scope"), "scope of coreference", ("passage",))
        return Relation(family, name.text, "antecedent")
    if family == "syntax":
        looks_to = settings_given.get("looks_to") or Text("", name.line)
        _one_of(file, looks_to, "looks_to of syntax", ("head", "dependent"))
        _one_of(file, settings_given.get("scope"), "scope of syntax", ("sentence",))
        return Relation(family, name.text, looks_to.text, "sentence")
    scope = cast(Scope, values.get("scope", "passage"))
    return Relation(family, name.text, values.get("looks_to", "target"), scope)


def _one_of(file: ProbeFile, given: Text | None, what: str, known: Sequence[str]) -> None:
    if given is not None and given.text not in known:
        raise file.error(
            given.line, f"{given.text[:40]!r} is no {what}", suggest_names(given.text, known)
        )
