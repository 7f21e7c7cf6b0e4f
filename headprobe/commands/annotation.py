"""The accuracy of an annotator on the bundled gold sentences, for the manifest.

The bundled CoNLL-U sets were written for this project and are no training data of any parser. Their
sentences are simpler than most natural text, so the accuracy on a user's text is lower. 300 of them
take a parser a second or a few.
"""

from dataclasses import asdict
from pathlib import Path

from headprobe.probes.annotator import Annotator
from headprobe.probes.catalog import builtin_files, read_documents
from headprobe.probes.document import Sentence
from headprobe.probes.file import ProbeFile
from headprobe.probes.parse_accuracy import parse_accuracy, sample_sentences
from headprobe.runs.manifest import AccuracyNote, AnnotatorNote
from headprobe.vocabulary import Skipped

GOLD_SENTENCES = 300
"""The number of bundled sentences that an annotator parses to estimate its accuracy."""

_LANGUAGE = "en"
"""The language of the bundled sentences."""


def describe_annotator(annotator: Annotator) -> AnnotatorNote:
    """Return the provenance of an annotator, with its accuracy if it parses English."""
    accuracy = None
    if annotator.language == _LANGUAGE:
        gold = sample_sentences(
            [_sentences(name, path) for name, path in builtin_files({".conllu"}).items()],
            GOLD_SENTENCES,
        )
        accuracy = AccuracyNote(**asdict(parse_accuracy(gold, annotator.parse)))
    return AnnotatorNote(
        option=annotator.option,
        tool=annotator.tool,
        version=annotator.version,
        model=annotator.model,
        model_version=annotator.model_version,
        language=annotator.language,
        accuracy=accuracy,
    )


def _sentences(name: str, path: Path) -> list[Sentence]:
    documents = read_documents([ProbeFile(path, name)], _ignore_skipped)
    return [sentence for document in documents for sentence in document.sentences]


def _ignore_skipped(_: Skipped) -> None:
    """The bundled sets are complete, and the scan itself reports what it skips."""
