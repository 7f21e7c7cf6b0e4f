"""What pages say about probes that are not annotated by hand: plain text, and parsed text."""

import shlex
from collections.abc import Iterator
from pathlib import Path

from headprobe.format import clip, count, fraction
from headprobe.runs.manifest import AnnotatorNote, Manifest, ProbeNote

_WEAK_F1 = 0.9
"""Relations below this F1 are named."""

_WEAK_SHOWN = 4
"""Number of relations named; the manifest has all."""


def probe_amounts(probe: ProbeNote) -> list[str]:
    """Format the counts of a probe file. Plain text is counted in sections (``probes.text``)."""
    kind = "document" if probe.annotation == "gold" else "section"
    return [
        count(probe.documents, kind),
        count(probe.sentences, "sentence"),
        count(probe.words, "word"),
    ]


def annotator_words(note: AnnotatorNote) -> list[str]:
    """Describe an annotator and its accuracy, in parts that may stand on one line."""
    model = clip(" ".join(filter(None, (note.tool, note.model, note.model_version))), 60)
    if note.accuracy is None:
        return [f"{model}, not gold", "accuracy unknown: our gold sentences are English"]
    accuracy = note.accuracy
    weak = sorted(
        (f1, name) for name, f1 in accuracy.relations.items() if f1 < _WEAK_F1 and name != "root"
    )
    parts = [
        f"{model}, not gold: LAS {fraction(accuracy.las)}",
        f"UPOS {fraction(accuracy.upos)} on {accuracy.sentences} of our simple gold sentences",
    ]
    if weak:
        named = ", ".join(f"{clip(name, 20)} {fraction(f1)}" for f1, name in weak[:_WEAK_SHOWN])
        parts.append(f"lowest F1: {named}")
    return parts


def text_limits(manifest: Manifest) -> Iterator[tuple[str, list[str]]]:
    """Yield what plain and parsed text cannot say, each with the commands that can."""
    plain = [probe for probe in manifest.probes if probe.annotation == "none"]
    parsed = [probe for probe in manifest.probes if probe.annotation == "parsed"]
    scan = f"headprobe scan{'' if manifest.model.kind == 'bundled' else ' MODEL'}"
    treebank = f"{scan} -p your.conllu"
    if plain:
        path = shlex.quote(clip(Path(plain[0].path).name, 40)) if len(plain) == 1 else "FOLDER"
        yield (
            f"{_which(plain)} plain text, without annotation. It tells about marks, earlier copies "
            "of a word, the shape of attention and redundancy, and nothing about coreference, "
            "syntax, word classes or meaning. To parse it, or to use a treebank:",
            [f"{scan} -p {path} --annotate stanza", treebank],
        )
    if parsed:
        yield (
            f"{_which(parsed)} parsed, not annotated by hand: errors of the parser can hide a head "
            "or favour one that makes the same errors. There are no coreference or semantic "
            "relations. To confirm roles, and to ask for these, use a treebank:",
            [treebank],
        )
    if len(plain) + len(parsed) == len(manifest.probes) and manifest.probes:
        sections = sum(probe.documents for probe in manifest.probes)
        if sections < 2:
            yield (
                "The text is too short for any relation to give a role: intervals need several "
                "sections of about 1,000 words.",
                [],
            )


def _which(probes: list[ProbeNote]) -> str:
    if len(probes) > 1:
        return f"{len(probes):,} files are"
    return f"{clip(probes[0].name, 40)} is"
