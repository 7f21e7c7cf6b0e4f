"""Probe sets as people read them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from headprobe.report.palette import LABEL
from headprobe.report.plain import clip, plain


@dataclass(frozen=True)
class ProbeSet:
    """A probe file and how much it holds."""

    name: str
    domains: tuple[str, ...]
    documents: int
    sentences: int
    words: int
    mentions: int


@dataclass(frozen=True)
class SampleSentence:
    """A sentence's text and its edges (relation, dependent, head)."""

    text: str
    edges: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True)
class Sample:
    """A document to be read: its sentences, the mentions of each entity, and the links that the
    file declares (relation, query, targets)."""

    id: str
    domain: str
    sentences: tuple[SampleSentence, ...]
    chains: tuple[tuple[str, ...], ...]
    declared: tuple[tuple[str, str, tuple[str, ...]], ...]


def draw_probe_sets(sets: Sequence[ProbeSet], console: Console) -> None:
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


def draw_marks(marks: Sequence[tuple[str, str]], console: Console) -> None:
    """Print each class of marks and its characters; other punctuation is ``other``."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, characters in marks:
        table.add_row(plain(name), plain(characters))
    console.print(table)


def draw_samples(samples: Iterable[Sample], console: Console) -> None:
    """Print sentences with their relations under them, then who is who in each document."""
    for sample in samples:
        domain = f"   {plain(sample.domain)}" if sample.domain else ""
        console.print(Text.assemble((plain(sample.id), "bold"), (domain, LABEL)))
        for sentence in sample.sentences:
            console.print(Padding(Text(plain(sentence.text)), (0, 0, 0, 2)))
            edges = "  ".join(
                f"{plain(name)}({plain(word)}→{plain(head)})" for name, word, head in sentence.edges
            )
            if edges:
                console.print(Padding(Text(edges, style=LABEL), (0, 0, 0, 4)))
        for mentions in sample.chains:
            same = " = ".join(clip(mention, 40) for mention in mentions)
            console.print(Padding(Text.assemble(("same: ", LABEL), same), (0, 0, 0, 2)))
        for name, query, targets in sample.declared:
            link = f"{clip(query, 40)} → {', '.join(clip(target, 40) for target in targets)}"
            console.print(Padding(Text.assemble((f"{plain(name)}: ", LABEL), link), (0, 0, 0, 2)))
        console.print()
