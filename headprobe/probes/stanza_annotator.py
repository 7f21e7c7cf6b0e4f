"""``--annotate stanza``: Stanza (https://stanfordnlp.github.io/stanza) as an annotator.

Stanza's models are trained on UD treebanks. They are downloaded on first use.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from headprobe.errors import HeadprobeError
from headprobe.format import clip
from headprobe.probes.annotator import (
    Annotator,
    ParsedSentence,
    build_sentence,
    check_scheme,
    missing_package,
)
from headprobe.probes.clearnlp import ParsedToken
from headprobe.probes.document import Surface

_PROCESSORS = "tokenize,mwt,pos,lemma,depparse"


@dataclass(frozen=True)
class StanzaAnnotator(Annotator):
    """Stanza's default models of a language (``annotator.Annotator``)."""

    tool: ClassVar[str] = "Stanza"

    @classmethod
    def load(cls, option: str, language: str) -> Self:
        """Load the models of a language, after downloading those that are missing."""
        where = f"--annotate {clip(option, 60)}"
        try:
            import stanza
        except ImportError as error:
            raise missing_package(option, cls.tool, error) from None
        try:
            pipeline = stanza.Pipeline(
                language,
                processors=_PROCESSORS,
                download_method=stanza.DownloadMethod.REUSE_RESOURCES,
                verbose=False,
                use_gpu=False,
            )
        except OSError as error:  # missing files, and all errors of a connection
            raise HeadprobeError(
                where,
                f"its models cannot be had ({clip(str(error), 200)})",
                f"Download them once with a connection: python -c 'import stanza; "
                f'stanza.download("{clip(language, 20)}")\'',
            ) from None
        except (ValueError, KeyError) as error:
            raise HeadprobeError(
                where,
                f"Stanza has no parser of {clip(language, 40)!r} ({clip(str(error), 200)})",
                "Write the code of a language that Stanza supports, for example stanza:de",
            ) from None
        config = getattr(pipeline, "config", {})
        model = str(config.get("depparse_model_path", "default")).replace("\\", "/")
        return cls(
            option=option,
            model=f"{language}_{model.rsplit('/', 1)[-1].removesuffix('.pt')}",
            model_version=str(getattr(stanza, "__resources_version__", stanza.__version__)),
            language=language,
            version=stanza.__version__,
            pipeline=pipeline,
        )

    def parse(self, texts: Iterable[str]) -> Iterator[list[ParsedSentence]]:
        """Yield the sentences of each text (``annotator.Annotator``)."""
        for text in texts:
            document = self.pipeline(text)
            yield [self._sentence(sentence, text) for sentence in document.sentences]

    def _sentence(self, sentence: Any, text: str) -> ParsedSentence:
        tokens: list[ParsedToken] = []
        surfaces: list[Surface] = []
        for token in sentence.tokens:
            first = len(tokens)
            for word in token.words:
                head = None if not word.head else word.head - 1
                tokens.append(
                    ParsedToken(word.text, word.lemma or "", word.upos or "", head, word.deprel)
                )
            end = token.end_char
            space_after = end < len(text) and text[end].isspace()
            surfaces.append(Surface(token.text, first, len(tokens) - 1, space_after))
        scheme = check_scheme(self.option, {token.label for token in tokens})
        return build_sentence(tokens, surfaces, scheme)
