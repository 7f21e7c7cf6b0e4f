"""Parsers that turn plain text into annotated text: ``--annotate``.

An annotator divides text into sentences and words with lemmas, parts of speech and dependency
trees. Its labels must be those of Universal Dependencies; ClearNLP labels are converted
(``probes.clearnlp``), and any others are refused. What it returns is not gold: its accuracy is
measured on the bundled sentences (``probes.parse_accuracy``) and goes into the manifest.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

from headprobe.errors import HeadprobeError
from headprobe.format import clip
from headprobe.probes.clearnlp import LABELS, MARKERS, ParsedToken, convert
from headprobe.probes.document import Surface, Word
from headprobe.vocabulary import DEPRELS, UPOS


class ParsedSentence(NamedTuple):
    """A sentence as an annotator returns it; the fields are those of ``Sentence``."""

    words: tuple[Word, ...]
    surfaces: tuple[Surface, ...]


@dataclass(frozen=True)
class Annotator(ABC):
    """A parser that is loaded."""

    tool: ClassVar[str]
    """``spaCy`` or ``Stanza``."""

    option: str
    """How the user named it, for example ``spacy:en_core_web_sm``."""

    version: str
    """The version of the tool."""

    model: str
    model_version: str

    language: str
    """ISO 639 code of its language."""

    pipeline: Any
    """The tool's own object."""

    @abstractmethod
    def parse(self, texts: Iterable[str]) -> Iterator[list[ParsedSentence]]:
        """Yield the sentences of each text, in order.

        Raises HeadprobeError where its labels are neither UD nor ClearNLP.
        """


LabelScheme = Literal["UD", "ClearNLP"]

_LANGUAGE = re.compile("[a-z][a-z-]{1,19}")

_FORMS = "Write stanza, stanza:LANGUAGE or spacy:MODEL"


def open_annotator(option: str) -> Annotator:
    """Load the annotator that an option names: ``stanza``, ``stanza:de`` or ``spacy:MODEL``.

    Raises HeadprobeError if the name is unknown, or if the package or the model is missing or does
    not fit.
    """
    tool, colon, name = option.partition(":")
    if tool == "spacy" and name:
        from headprobe.probes.spacy_annotator import SpacyAnnotator

        return SpacyAnnotator.load(option, name)
    if tool == "stanza" and (not colon or _LANGUAGE.fullmatch(name)):
        from headprobe.probes.stanza_annotator import StanzaAnnotator

        return StanzaAnnotator.load(option, name or "en")
    what = {"spacy": "names no model", "stanza": "not the code of a language"}.get(
        tool, "no such annotator"
    )
    raise HeadprobeError(f"--annotate {clip(option, 60)}", what, _FORMS)


def missing_package(option: str, tool: str, error: ImportError) -> HeadprobeError:
    """Return the error of a tool that cannot be imported, because of a missing package or not."""
    what = f"cannot be imported ({clip(str(error), 200)})"
    if error.name == tool.lower():
        what = "is not installed"
    return HeadprobeError(
        f"--annotate {clip(option, 60)}",
        f"{tool} {what}",
        f"Install it: pip install 'headprobe[{tool.lower()}]'",
    )


def label_scheme(labels: Iterable[str]) -> LabelScheme:
    """Return the scheme of a parser's labels. Raises ValueError with those that fit neither.

    A subtype of a UD relation stands after a colon. ClearNLP has no subtypes.
    """
    present = {label for label in labels if label}
    if present & MARKERS and present <= LABELS:
        return "ClearNLP"
    unknown = {name for name in present if name.partition(":")[0].lower() not in DEPRELS}
    if unknown:
        raise ValueError(", ".join(clip(name, 20) for name in sorted(unknown)[:5]))
    return "UD"


def check_scheme(option: str, labels: Iterable[str]) -> LabelScheme:
    """Return the scheme of a parser's labels, or raise the HeadprobeError for unknown ones."""
    try:
        return label_scheme(labels)
    except ValueError as error:
        raise HeadprobeError(
            f"--annotate {clip(option, 60)}",
            f"its labels are neither UD nor ClearNLP ({error})",
            "Use a model with UD labels, for example --annotate stanza",
        ) from None


def build_sentence(
    tokens: Sequence[ParsedToken], surfaces: Sequence[Surface], scheme: LabelScheme
) -> ParsedSentence:
    """Return a sentence with UD relations and parts of speech."""
    if scheme == "ClearNLP":
        edges = convert(tokens)
    else:
        edges = [(token.head, "root" if token.head is None else token.label) for token in tokens]
    words = tuple(
        Word(token.form, token.upos if token.upos in UPOS else "", head, deprel, token.lemma)
        for token, (head, deprel) in zip(tokens, edges, strict=True)
    )
    return ParsedSentence(words, tuple(surfaces))
