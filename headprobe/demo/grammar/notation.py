"""The bracket notation: a sentence with its dependency tree and its mentions, in one line.

    [nsubj@a the animal] did n't cross [obj@s the street]
        [advcl because [nsubj@a it] was^cop too =tired_ADJ] .

A bracket is a phrase: `[relation@entity words]`. Its head is its one plain word; everything
else in it depends on that head. Function words attach themselves (articles, prepositions,
auxiliaries, marks of punctuation); `word^relation` does it by hand, `=word` forces the head,
`word_UPOS` and `word/lemma` override what `morphology.py` would say, `word^relation@entity`
marks a one-word mention, and `word@entity` a mention of the bare head inside a larger phrase.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from headprobe.demo.grammar.morphology import lemma_of, upos_of
from headprobe.demo.grammar.tree import Node
from headprobe.demo.grammar.wordlists import words
from headprobe.errors import HeadprobeError

TOKEN = re.compile(r"\[[a-z:]+(?:@\w+)?(?=\s)|\]|[^\s\[\]]+")
WORD = re.compile(
    r"(?P<head>=)?(?P<form>[^\s_^@/]+)(?:_(?P<upos>[A-Z]+))?(?:/(?P<lemma>[^\s^@]+))?"
    r"(?:\^(?P<rel>[a-z:]+))?(?:@(?P<entity>\w+))?"
)
CLAUSAL = words("root advcl ccomp xcomp acl acl:relcl csubj parataxis conj")
MARKS = words('. , ! ? ; : … ( ) " “ ” ‘ ’ – — -')


def _table(**relations: str) -> dict[str, str]:
    return {
        form: rel.replace("_", ":") for rel, forms in relations.items() for form in forms.split()
    }


SELF_ATTACHING = _table(
    det="a an the every no some any this these those each another",
    case=(
        "in on at by for with from of into onto under over near behind beside between across "
        "through around along during against about towards inside outside above below among "
        "despite without within beyond upon off 's"
    ),
    mark="because although though while if whether unless",
    aux=(
        "did do does has have had will would can could must might should may wo ca 'll 'd 've "
        "is are was were be been being 'm 're"
    ),
    advmod="n't not very too quite rather really so when where why how",
    cc="and or but nor",
    nmod_poss="my your his its our their her whose",
    nummod="two three four five six seven eight nine ten twelve twenty thirty forty",
)
EITHER = words("to after before since until")


@dataclass
class _Phrase:
    rel: str
    entity: str | None
    items: list[_Phrase | re.Match[str]] = field(default_factory=list)


def read_tree(line: str) -> Node:
    """Parse one line of notation. Raises HeadprobeError where it is not well formed."""
    stack = [_Phrase("root", None)]
    for token in TOKEN.findall(line):
        if token.startswith("["):
            rel, _, entity = token[1:].partition("@")
            stack.append(_Phrase(rel, entity or None))
        elif token == "]":
            if len(stack) == 1:
                raise HeadprobeError(line, "one ] too many", "Remove it")
            done = stack.pop()
            stack[-1].items.append(done)
        else:
            match = WORD.fullmatch(token)
            if match is None:
                raise HeadprobeError(token, "not a word of the notation", "See notation.py")
            stack[-1].items.append(match)
    if len(stack) != 1:
        raise HeadprobeError(line, f"bracket [{stack[-1].rel} stays open", "Close it")
    return _build(stack[0], None, line)


def read_phrase(line: str) -> Node:
    """One bracket by itself, with its relation."""
    return read_tree(f"{line} =x_X").left[0]


def _build(phrase: _Phrase, parent_upos: str | None, line: str) -> Node:
    head_at = _find_head(phrase, line)
    head = phrase.items[head_at]
    assert isinstance(head, re.Match)
    attached = [_relation(item, phrase.rel) for item in phrase.items]
    attached[head_at] = "head"
    if "" in attached:
        raise HeadprobeError(line, f"a word of [{phrase.rel} has no relation", "Add ^relation")
    node = _word(head, phrase.rel, attached, parent_upos)
    node.entity = phrase.entity
    node.own_entity = head["entity"]
    for at, item in enumerate(phrase.items):
        if at == head_at:
            continue
        if isinstance(item, _Phrase):
            child = _build(item, node.upos, line)
        else:
            child = _word(item, attached[at], [], node.upos)
            child.entity = item["entity"]
        (node.left if at < head_at else node.right).append(child)
    node.right = _with_conjunctions(node.right)
    return node


def _with_conjunctions(siblings: list[Node]) -> list[Node]:
    """Hang ", and" on the conjunct that follows it, as UD v2 does."""
    kept: list[Node] = []
    for node in siblings:
        if node.deprel == "conj":
            waiting: list[Node] = []
            while kept and (kept[-1].deprel == "cc" or kept[-1].form in (",", ";")):
                waiting.insert(0, kept.pop())
            node.left = waiting + node.left
        kept.append(node)
    return kept


def _word(match: re.Match[str], rel: str, children: list[str], parent_upos: str | None) -> Node:
    form = match["form"]
    upos = match["upos"] or upos_of(form, rel, children, parent_upos)
    return Node(form, match["lemma"] or lemma_of(form, upos), upos, rel)


def _relation(item: _Phrase | re.Match[str], inside: str) -> str:
    """The relation of one item to its phrase's head, "" for a plain word."""
    if isinstance(item, _Phrase):
        return item.rel
    if item["rel"]:
        return str(item["rel"])
    if item["head"] or item["upos"] in ("NOUN", "VERB", "PROPN"):
        return ""
    low = item["form"].lower()
    if low in MARKS:
        return "punct"
    if low in EITHER:
        return "mark" if inside in CLAUSAL else "case"
    return SELF_ATTACHING.get(low, "")


def _find_head(phrase: _Phrase, line: str) -> int:
    words = [(at, i) for at, i in enumerate(phrase.items) if isinstance(i, re.Match)]
    for at, item in words:
        if item["head"]:
            return at
    plain = [at for at, item in words if not _relation(item, phrase.rel)]
    if len(plain) == 1:
        return plain[0]
    free = [at for at, i in words if not i["rel"] and i["form"] not in MARKS]
    if not plain and free:
        return free[-1]
    named = [phrase.items[at]["form"] for at in plain]  # type: ignore[index]
    raise HeadprobeError(line, f"[{phrase.rel} has heads {named}", "Mark one word with =")
