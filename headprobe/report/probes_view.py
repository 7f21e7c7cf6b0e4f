"""Probe sets as people read them."""

from collections.abc import Iterable, Sequence
from typing import Protocol

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from headprobe.probes.document import Document, Sentence
from headprobe.probes.passages import sentence_text
from headprobe.report.palette import LABEL
from headprobe.report.plain import clip, plain


class Counted(Protocol):
    """A probe set and how much it holds (``workflows.probe_sets.ProbeSet``)."""

    @property
    def name(self) -> str: ...
    @property
    def domains(self) -> tuple[str, ...]: ...
    @property
    def documents(self) -> int: ...
    @property
    def sentences(self) -> int: ...
    @property
    def words(self) -> int: ...
    @property
    def mentions(self) -> int: ...


def draw_probe_sets(sets: Sequence[Counted], console: Console) -> None:
    """Print one line per set."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style=LABEL)
    table.add_column("set", overflow="fold", style="bold")
    for name in ("documents", "sentences", "words", "mentions"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("domains", overflow="fold")
    for each in sets:
        amounts = (each.documents, each.sentences, each.words, each.mentions)
        domains = ", ".join(clip(domain, 24) for domain in each.domains if domain)
        table.add_row(plain(each.name), *(f"{amount:,}" for amount in amounts), domains)
    console.print(table)


def draw_documents(documents: Iterable[Document], console: Console) -> None:
    """Print sentences with their relations under them, then who is who in each document."""
    for document in documents:
        domain = f"   {plain(document.domain)}" if document.domain else ""
        console.print(Text.assemble((plain(document.id), "bold"), (domain, LABEL)))
        for sentence in document.sentences:
            console.print(Padding(Text(plain(sentence_text(sentence))), (0, 0, 0, 2)))
            edges = _edges(sentence)
            if edges:
                console.print(Padding(Text(edges, style=LABEL), (0, 0, 0, 4)))
        for line in [*_chains(document), *_declared(document)]:
            console.print(Padding(line, (0, 0, 0, 2)))
        console.print()


def _edges(sentence: Sentence) -> str:
    return "   ".join(
        f"{plain(word.deprel)} {plain(word.form)} → {plain(sentence.words[word.head].form)}"
        for word in sentence.words
        if word.head is not None and word.deprel != "punct"
    )


def _forms(document: Document) -> list[str]:
    return [word.form for sentence in document.sentences for word in sentence.words]


def _chains(document: Document) -> Iterable[Text]:
    forms = _forms(document)
    chains: dict[str, list[str]] = {}
    for mention in sorted(document.mentions, key=lambda mention: mention.words):
        words = " ".join(forms[place] for place in mention.words)
        chains.setdefault(mention.entity, []).append(clip(words, 40))
    for mentions in chains.values():
        if len(mentions) > 1:
            yield Text.assemble(("same: ", LABEL), " = ".join(mentions))


def _declared(document: Document) -> Iterable[Text]:
    forms = _forms(document)
    for link in document.declared:
        targets = ", ".join(clip(forms[place], 40) for place in link.targets)
        name = f"{plain(link.relation.name)}: "
        yield Text.assemble((name, LABEL), f"{clip(forms[link.query], 40)} → {targets}")
