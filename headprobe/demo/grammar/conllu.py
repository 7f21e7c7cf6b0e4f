"""Finished sentences as CoNLL-U with CorefUD's `Entity=`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from headprobe.demo.grammar.tree import CLITICS, Mention, Sentence

HEADER = "# global.Entity = eid-etype-head-other"


def document(
    name: str,
    comments: Mapping[str, str],
    sentences: Sequence[Sentence],
    etypes: Mapping[str, str],
    misc: Mapping[tuple[int, int], str] = MappingProxyType({}),
) -> str:
    """One document; entities are numbered by first mention, `comments` follow `# newdoc`.

    `misc` holds further MISC values of words by (sentence, word), both 0-based.
    """
    numbers = entity_numbers(sentences)
    lines = [f"# newdoc id = {name}", HEADER]
    lines += [f"# {key} = {value}" for key, value in comments.items()]
    for count, sentence in enumerate(sentences, 1):
        lines += [f"# sent_id = {name}-{count}", f"# text = {sentence.text}"]
        values = {word: value for (number, word), value in misc.items() if number == count - 1}
        lines += [*_rows(sentence, numbers, etypes, values), ""]
    return "\n".join(lines) + "\n"


def entity_numbers(sentences: Sequence[Sentence]) -> dict[str, str]:
    """Each entity's key with its number in the file, by first mention."""
    numbers: dict[str, str] = {}
    for sentence in sentences:
        for mention in sentence.mentions:
            numbers.setdefault(mention.entity, f"e{len(numbers) + 1}")
    return numbers


def _rows(
    sentence: Sentence,
    numbers: Mapping[str, str],
    etypes: Mapping[str, str],
    values: Mapping[int, str],
) -> list[str]:
    entity = _brackets(sentence.mentions, len(sentence.words), numbers, etypes)
    rows = []
    for at, word in enumerate(sentence.words):
        clitic_next = _is_clitic(sentence, at + 1)
        if clitic_next and not _is_clitic(sentence, at):
            last = at + 1
            while _is_clitic(sentence, last + 1):
                last += 1
            surface = "".join(w.form for w in sentence.words[at : last + 1])
            space = _space_after(sentence, last)
            rows.append("\t".join([f"{at + 1}-{last + 1}", surface, *"_" * 7, space]))
        inside = clitic_next or _is_clitic(sentence, at)
        misc = [
            entity[at],
            values.get(at, ""),
            "" if inside else _space_after(sentence, at).strip("_"),
        ]
        head, joined = str(sentence.heads[at] + 1), "|".join(part for part in misc if part)
        columns = [str(at + 1), word.form, word.lemma, word.upos, "_", "_", head, word.deprel, "_"]
        rows.append("\t".join([*columns, joined or "_"]))
    return rows


def _is_clitic(sentence: Sentence, at: int) -> bool:
    if at >= len(sentence.words):
        return False
    word = sentence.words[at]
    return sentence.glued[at] and word.form in CLITICS and word.upos in ("PART", "AUX")


def _space_after(sentence: Sentence, at: int) -> str:
    glued = at + 1 < len(sentence.words) and sentence.glued[at + 1]
    return "SpaceAfter=No" if glued else "_"


def _brackets(
    mentions: Sequence[Mention], length: int, numbers: Mapping[str, str], etypes: Mapping[str, str]
) -> list[str]:
    """The `Entity=` value of every word, properly nested; "" where nothing opens or closes."""
    values = [""] * length
    for at in range(length):
        opening = [m for m in mentions if m.start == at]
        opening.sort(key=lambda m: -m.end)
        closing = [m for m in mentions if m.end == at and m.start < at]
        closing.sort(key=lambda m: -m.start)
        value = ""
        for m in opening:
            bracket = f"({numbers[m.entity]}-{etypes[m.entity]}-{m.head - m.start + 1}-"
            value += bracket + (")" if m.end == at else "")
        value += "".join(f"{numbers[m.entity]})" for m in closing)
        values[at] = f"Entity={value}" if value else ""
    return values
