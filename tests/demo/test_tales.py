"""Tales: whom a pronoun stands for decides the word after it; nothing in them is a probe."""

from __future__ import annotations

import re

import pytest

from headprobe.demo.tales import FORMS, Teller, tale_words
from headprobe.resources import configs_folder

OWNED = re.compile(r"\b(her|his|its|their) (\w+ \w+)")
TELLS = re.compile(r"\b(?:the|this|an?) (\w+ \w+)(?= belonged| was all| is mine|\.)")


@pytest.fixture(scope="module")
def tales() -> list[str]:
    """Tales of 200 documents."""
    return [tale for document in Teller(5).documents(200) for tale in document.split("\n\n")]


def test_tales_are_reproducible_and_differ_between_seeds() -> None:
    first = list(Teller(1).documents(3))
    assert first == list(Teller(1).documents(3))
    assert first != list(Teller(2).documents(3))


def test_tales_consist_of_plain_sentences(tales: list[str]) -> None:
    for tale in tales:
        assert not set(tale) & set("{}|"), tale
        assert tale[-1] in '.!"', tale
        assert "  " not in tale


def test_possessions_of_pronouns_were_mentioned_before(tales: list[str]) -> None:
    things = set(tale_words()["things"])
    checked = 0
    for tale in tales:
        for found in OWNED.finditer(tale):
            owned = found.group(2)
            if owned.split()[1] not in things:
                continue
            before = [told.group(1) for told in TELLS.finditer(tale[: found.start()].lower())]
            assert owned in before, (owned, tale)
            checked += 1
    assert checked > 200


def test_heroes_of_a_tale_have_different_pronouns(tales: list[str]) -> None:
    """So that gender and number decide, wherever the hero stands."""
    names = {form: set(tale_words()[f"{form} names"]) for form in ("she", "he")}
    assert not names["she"] & names["he"]
    for tale in tales:
        words = set(re.findall(r"\w+", tale))
        for known in names.values():
            assert len(words & known) <= 1, tale


def test_every_pronoun_occurs(tales: list[str]) -> None:
    text = " ".join(tales).lower()
    for forms in FORMS.values():
        for form in forms:
            assert len(re.findall(rf"\b{form}\b", text)) > 50, form


def test_tales_contain_no_probe_sentence(tales: list[str]) -> None:
    probes = {
        line.removeprefix("# text = ").strip()
        for path in sorted((configs_folder() / "probes").glob("*.conllu"))
        for line in path.read_text("utf-8").splitlines()
        if line.startswith("# text = ")
    }
    assert len(probes) > 1000
    told = {sentence for tale in tales for sentence in re.split(r"(?<=[.!])\s", tale)}
    assert not {one for one in told & probes if len(one.split()) > 3}
