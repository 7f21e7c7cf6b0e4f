"""Relations that a probe file declares (docs/method.md, Relations)."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from headprobe.format import suggest_names
from headprobe.probes.file import ProbeFile
from headprobe.probes.semantic import SEMANTIC, semantic_relation
from headprobe.vocabulary import ANAPHORS, Relation, Scope


@dataclass(slots=True)
class Text:
    """A scalar of a probe file as written, and its line."""

    text: str
    line: int


_NAME = re.compile(r"[^\W\d_][\w.:+-]{0,39}")

_FAMILIES = ("user", "coreference", "syntax", "semantic")


def declared_relation(file: ProbeFile, name: Text, settings: Mapping[str, Text | None]) -> Relation:
    """Return the relation ``name`` with the ``settings`` ``family``, ``looks_to`` and ``scope``.

    By default ``pronoun``, ``nominal`` and ``proper`` are the coreference relations, and
    ``synonym``, ``antonym`` and ``hypernym`` the semantic ones. Any other name is a relation of the
    family ``user`` that looks to its ``target`` and has the scope ``passage``.
    Raises HeadprobeError with file:line where a name or a setting is not valid.
    """
    given = {key: text for key, text in settings.items() if text is not None}
    _require_one_of(file, given.get("family"), "family", _FAMILIES)
    _require_one_of(file, given.get("scope"), "scope", ("passage", "sentence"))
    for text in (name, *given.values()):
        if _NAME.fullmatch(text.text) is None:
            raise file.error(
                text.line,
                f"{text.text[:40]!r} is not a valid name",
                "Use up to 40 letters, digits and - _ . : +, starting with a letter",
            )
    values = {key: text.text for key, text in given.items()}
    default_family = "user"
    if name.text in ANAPHORS and values.get("looks_to", "antecedent") == "antecedent":
        default_family = "coreference"
    if name.text in SEMANTIC and values.get("looks_to", "word") == "word":
        default_family = "semantic"
    family = values.get("family", default_family)
    if family == "coreference":
        _require_one_of(file, name, "coreference relation", ANAPHORS)
        _require_one_of(
            file, given.get("looks_to"), "looks_to of a coreference relation", ("antecedent",)
        )
        _require_one_of(file, given.get("scope"), "scope of a coreference relation", ("passage",))
        return Relation(family, name.text, "antecedent")
    if family == "syntax":
        looks_to = given.get("looks_to") or Text("", name.line)
        _require_one_of(file, looks_to, "looks_to of a syntax relation", ("head", "dependent"))
        _require_one_of(file, given.get("scope"), "scope of a syntax relation", ("sentence",))
        return Relation(family, name.text, looks_to.text, "sentence")
    if family == "semantic":
        _require_one_of(file, name, "semantic relation", SEMANTIC)
        _require_one_of(file, given.get("looks_to"), "looks_to of a semantic relation", ("word",))
        _require_one_of(file, given.get("scope"), "scope of a semantic relation", ("passage",))
        return semantic_relation(name.text)
    scope = cast(Scope, values.get("scope", "passage"))
    return Relation(family, name.text, values.get("looks_to", "target"), scope)


def _require_one_of(file: ProbeFile, text: Text | None, what: str, allowed: Sequence[str]) -> None:
    """Raise HeadprobeError where a text is given that is not one of ``allowed``."""
    if text is not None and text.text not in allowed:
        raise file.error(
            text.line,
            f"{text.text[:40]!r} is not a valid {what}",
            suggest_names(text.text, allowed),
        )
