"""``headprobe probes``: the built-in probe sets, and samples of their documents."""

from collections.abc import Iterator, Sequence

from headprobe.errors import HeadprobeError
from headprobe.probes.catalog import find_probe_files, read_documents
from headprobe.probes.document import Document
from headprobe.probes.passages import sentence_text
from headprobe.probes.relations import marks_by_class
from headprobe.results.views import ProbeSet, Sample, SampleSentence
from headprobe.vocabulary import Skipped


def list_probe_sets(names: Sequence[str] = ()) -> tuple[ProbeSet, ...]:
    """Return the built-in sets with their counts, or those of named sets, files and folders."""
    sets = []
    for file in find_probe_files(names):
        documents = list(read_documents([file], _ignore_skipped))
        sets.append(
            ProbeSet(
                name=file.name,
                domains=tuple(dict.fromkeys(document.domain for document in documents)),
                documents=len(documents),
                sentences=sum(len(document.sentences) for document in documents),
                words=sum(len(s.words) for document in documents for s in document.sentences),
                mentions=sum(len(document.mentions) for document in documents),
            )
        )
    return tuple(sets)


def some_samples(name: str, most: int) -> Iterator[Sample]:
    """Yield at most ``most`` documents, spread evenly over a set."""
    if most < 1:
        raise HeadprobeError(f"-n {most}", "nothing to show", "Give 1 or more")
    documents = list(read_documents(find_probe_files([name]), _ignore_skipped))
    step = max(1, len(documents) // most)
    for document in documents[::step][:most]:
        yield _sample(document)


def list_marks() -> tuple[tuple[str, str], ...]:
    """Return (class, characters) of the marks that punctuation relations look to."""
    return marks_by_class()


def _sample(document: Document) -> Sample:
    forms = [word.form for sentence in document.sentences for word in sentence.words]
    chains: dict[str, list[str]] = {}
    for mention in sorted(document.mentions, key=lambda mention: mention.words):
        chains.setdefault(mention.entity, []).append(" ".join(forms[w] for w in mention.words))
    return Sample(
        id=document.id,
        domain=document.domain,
        sentences=tuple(
            SampleSentence(
                sentence_text(sentence),
                tuple(
                    (word.deprel, word.form, sentence.words[word.head].form)
                    for word in sentence.words
                    if word.head is not None and word.deprel != "punct"
                ),
            )
            for sentence in document.sentences
        ),
        chains=tuple(tuple(chain) for chain in chains.values() if len(chain) > 1),
        declared=tuple(
            (link.relation.name, forms[link.query], tuple(forms[w] for w in link.targets))
            for link in document.declared
        ),
    )


def _ignore_skipped(_: Skipped) -> None:
    """Skipped input is reported by scans, not here."""
