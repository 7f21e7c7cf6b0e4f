"""The probe sets there are, and what stands in them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from headprobe.errors import HeadprobeError
from headprobe.probes.catalog import read, resolve
from headprobe.probes.document import Document
from headprobe.store.skipped import Skipped


@dataclass(frozen=True)
class ProbeSet:
    """A probe file and how much it holds."""

    name: str
    domains: tuple[str, ...]
    documents: int
    sentences: int
    words: int
    mentions: int


def list_probe_sets(names: Sequence[str] = ()) -> tuple[ProbeSet, ...]:
    """The built-in sets with their counts, or those of the sets, files and folders named."""
    sets = []
    for file in resolve(names):
        documents = list(read([file], _unheard))
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


def some_documents(name: str, most: int) -> Iterator[Document]:
    """Documents spread evenly over a set, at most ``most``."""
    if most < 1:
        raise HeadprobeError(f"-n {most}", "nothing to show", "Ask for at least one")
    documents = list(read(resolve([name]), _unheard))
    step = max(1, len(documents) // most)
    yield from documents[::step][:most]


def _unheard(_: Skipped) -> None:
    """Listing a set is no place to complain about it; a scan says what it left out."""
