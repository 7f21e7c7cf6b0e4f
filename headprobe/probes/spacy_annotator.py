"""``--annotate spacy:MODEL``: spaCy (https://spacy.io) as an annotator."""

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar, Self

from headprobe.errors import HeadprobeError
from headprobe.format import clip
from headprobe.probes.annotator import (
    Annotator,
    LabelScheme,
    ParsedSentence,
    build_sentence,
    check_scheme,
    missing_package,
)
from headprobe.probes.clearnlp import ParsedToken
from headprobe.probes.document import Surface

_BATCH = 64
"""Texts that are parsed at a time."""


@dataclass(frozen=True)
class SpacyAnnotator(Annotator):
    """A spaCy model (``annotator.Annotator``)."""

    tool: ClassVar[str] = "spaCy"

    @classmethod
    def load(cls, option: str, name: str) -> Self:
        """Load a model by the name of its package or by its folder."""
        try:
            import spacy
        except ImportError as error:
            raise missing_package(option, cls.tool, error) from None
        with warnings.catch_warnings():  # of versions, which are compared below
            warnings.simplefilter("ignore")
            meta = _read_meta(option, name)
        required, version = str(meta.get("spacy_version", "")), metadata.version("spacy")
        if required and spacy.util.is_compatible_version(version, required) is False:
            raise HeadprobeError(
                _where(option),
                f"the model is for spaCy {clip(required, 40)}, and this is {version}",
                f"Install the model for this spaCy{_download(name)}, or the spaCy that it is for: "
                f"pip install 'spacy{clip(required, 40)}'",
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                pipeline = spacy.load(name)
            except (OSError, ValueError, KeyError, ImportError, TypeError) as error:
                raise HeadprobeError(
                    _where(option),
                    f"the model cannot be loaded ({clip(str(error), 200)})",
                    "Install it again",
                ) from None
        _check_annotations(option, pipeline)
        scheme = check_scheme(option, pipeline.pipe_labels.get("parser", ()))
        if scheme == "UD" and "ner" in pipeline.pipe_names:
            pipeline.disable_pipe("ner")  # names of persons matter to the conversion only
        return cls(
            option=option,
            model=f"{meta.get('lang', '')}_{meta.get('name', '')}".strip("_") or name,
            model_version=str(meta.get("version", "")),
            language=str(meta.get("lang", "")),
            version=version,
            pipeline=pipeline,
        )

    def parse(self, texts: Iterable[str]) -> Iterator[list[ParsedSentence]]:
        """Yield the sentences of each text (``annotator.Annotator``)."""
        # spaCy's own parser knows its labels; other components show theirs only in what they parse
        known = self.pipeline.pipe_labels.get("parser", ())
        for document in self.pipeline.pipe(texts, batch_size=_BATCH):
            scheme = check_scheme(self.option, known or {token.dep_ for token in document})
            yield list(_sentences(document, scheme))


def _where(option: str) -> str:
    return f"--annotate {clip(option, 60)}"


def _download(name: str) -> str:
    """Return the command that installs a model, where a package can have this name."""
    package = name.isascii() and name.isidentifier()
    return f" (python -m spacy download {clip(name, 60)})" if package else ""


def _read_meta(option: str, name: str) -> dict[str, Any]:
    """Return the description of a model, before any of it is loaded."""
    import spacy

    installed = sorted(spacy.util.get_installed_models())
    if name in installed:
        folder = spacy.util.get_package_path(name)
        candidates = [folder / "meta.json", *sorted(folder.glob("*/meta.json"))]
    else:
        candidates = [Path(name) / "meta.json"]
    try:
        path = next(path for path in candidates if path.is_file())
        meta: dict[str, Any] = spacy.util.load_meta(path)
    except StopIteration:
        others = f", or name an installed one: {', '.join(installed[:8])}" if installed else ""
        what = "neither an installed spaCy model nor the folder of one"
        remedy = f"Install it{_download(name)}{others}"
        raise HeadprobeError(_where(option), what, remedy) from None
    except (OSError, ValueError) as error:
        raise HeadprobeError(
            _where(option),
            f"the model cannot be read ({clip(str(error), 200)})",
            "Install it again",
        ) from None
    return meta


def _check_annotations(option: str, pipeline: Any) -> None:
    """Raise HeadprobeError where a model gives no trees, or no parts of speech."""
    document = pipeline("The dog saw a cat.")
    for attribute, what in (("DEP", "no parser"), ("POS", "no parts of speech")):
        if not document.has_annotation(attribute):
            raise HeadprobeError(
                _where(option),
                f"the model has {what}",
                "Name a model with a tagger and a parser, for example spacy:en_core_web_sm",
            )


def _sentences(document: Any, scheme: LabelScheme) -> Iterator[ParsedSentence]:
    person = {
        token: number
        for number, entity in enumerate(document.ents)
        if entity.label_ == "PERSON"
        for token in range(entity.start, entity.end)
    }
    for span in document.sents:
        tokens = [token for token in span if not token.is_space]
        place = {token.i: index for index, token in enumerate(tokens)}
        if tokens:
            yield build_sentence(
                [
                    ParsedToken(
                        form=token.text,
                        lemma=token.lemma_,
                        upos=token.pos_,
                        head=place.get(token.head.i) if token.head.i != token.i else None,
                        label=token.dep_,
                        person=person.get(token.i),
                    )
                    for token in tokens
                ],
                [
                    Surface(token.text, index, index, bool(token.whitespace_))
                    for index, token in enumerate(tokens)
                ],
                scheme,
            )
