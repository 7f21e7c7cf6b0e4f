"""Hostile tokenizers: tokenizer.json and the files beside it, one cause each."""

from pathlib import Path
from typing import Any

import pytest

from tests.helpers.broken import (
    Breaker,
    both,
    content,
    edit,
    fifo,
    in_place_of,
    model,
    remove,
    settings,
    sparse,
    tokenizer,
)
from tests.hostile.driver import Attack, Case, Workplace, assert_promise

FILE = "tokenizer.json"
WORD_LEVEL = {"type": "WordLevel", "vocab": {"a": 0, "<s>": 1}, "unk_token": "<unk>"}
WORD_PIECE = {
    "type": "WordPiece",
    "vocab": {"[UNK]": 0, "<s>": 1, "a": 2},
    "unk_token": "[UNK]",
    "continuing_subword_prefix": "##",
    "max_input_chars_per_word": 100,
}
UNIGRAM = {"type": "Unigram", "vocab": [["<unk>", 0.0], ["<s>", 0.0], ["a", -1.0]], "unk_id": 0}


def replaced(**changes: object) -> Breaker:
    """Another model, with these changes."""
    kind = {"WordLevel": WORD_LEVEL, "WordPiece": WORD_PIECE, "Unigram": UNIGRAM}
    base = kind[str(changes["type"])]
    return tokenizer(model=base | changes, post_processor=None, added_tokens=[])


def regex(pattern: str, **changes: object) -> Breaker:
    step = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return tokenizer(pre_tokenizer=step | changes)


def replacing(pattern: str, by: str) -> Breaker:
    return tokenizer(normalizer={"type": "Replace", "pattern": {"Regex": pattern}, "content": by})


def doubling(kind: str, times: int) -> Breaker:
    """Each of so many steps makes two letters of one."""
    step = {"type": "Replace", "pattern": {"String": "e"}, "content": "ee"}
    return tokenizer(**{kind: {"type": "Sequence", f"{kind}s": [step] * times}})


def template(single: list[Any], special: dict[str, Any]) -> Breaker:
    return tokenizer(
        post_processor={
            "type": "TemplateProcessing",
            "single": single,
            "pair": [],
            "special_tokens": special,
        }
    )


def special(name: str, **values: object) -> dict[str, Any]:
    return {name: {"id": name, "ids": [1], "tokens": [name]} | values}


START = {"SpecialToken": {"id": "<s>", "type_id": 0}}
TEXT = {"Sequence": {"id": "A", "type_id": 0}}


def added(**values: object) -> Breaker:
    token = {
        "id": 299,
        "content": "<zork>",
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": True,
    }
    return edit(FILE, lambda all_: all_ | {"added_tokens": [*all_["added_tokens"], token | values]})


STEPS: dict[str, Breaker] = {
    "a bad regex": regex("(("),
    "a regex of an unknown behaviour": regex("a", behavior="zork"),
    "a regex without a pattern": tokenizer(pre_tokenizer={"type": "Split"}),
    "a bad regex to replace": replacing("[z-a]", ""),
    "an unknown pre-tokenizer": tokenizer(pre_tokenizer={"type": "Zork"}),
    "a pre-tokenizer of a number": tokenizer(pre_tokenizer=7),
    "a pre-tokenizer that drops every character": regex(r"[\s\S]", behavior="Removed"),
    "a metaspace of two characters": tokenizer(
        pre_tokenizer={"type": "Metaspace", "replacement": "ab", "prepend_scheme": "always"}
    ),
    "an unknown normalizer": tokenizer(normalizer={"type": "Zork"}),
    "a normalizer that drops every character": replacing(r"[\s\S]", ""),
    "a normalizer of damaged data": tokenizer(
        normalizer={"type": "Precompiled", "precompiled_charsmap": "AAAA"}
    ),
    "a normalizer of no data": tokenizer(normalizer={"type": "Precompiled"}),
    "a letter that is doubled forty times": doubling("normalizer", 40),
    "a letter that is doubled forty times when it is read": doubling("decoder", 40),
    "a letter that becomes a book": replacing("e", "e" * 1_000_000),
    "an unknown decoder": tokenizer(decoder={"type": "Zork"}),
    "a decoder of a list": tokenizer(decoder=[1]),
    "a sequence of a number": tokenizer(normalizer={"type": "Sequence", "normalizers": [7]}),
    "an unknown post-processor": tokenizer(post_processor={"type": "Zork"}),
    "a post-processor of another model": tokenizer(post_processor={"type": "BertProcessing"}),
    "a start token that is not there": template(
        [{"SpecialToken": {"id": "<zork>", "type_id": 0}}], {}
    ),
    "a start token beyond the vocabulary": template([START, TEXT], special("<s>", ids=[99_999])),
    "a start token of 2**40": template([START, TEXT], special("<s>", ids=[1 << 40])),
    "a start token below zero": template([START, TEXT], special("<s>", ids=[-1])),
    "a thousand start tokens": template([START] * 1000 + [TEXT], special("<s>")),
    "a template without a text": template([START], special("<s>")),
    "a template of an unknown part": template([{"Zork": {}}], {}),
    "truncation to nothing": tokenizer(
        truncation={"direction": "Right", "max_length": -1, "strategy": "LongestFirst", "stride": 0}
    ),
    "truncation as text": tokenizer(truncation="x"),
    "padding of an unknown strategy": tokenizer(padding={"strategy": "Zork"}),
}

MODELS: dict[str, Breaker] = {
    "no model": tokenizer(model=None),
    "an unknown model": tokenizer(model={"type": "Zork", "vocab": {}}),
    "a model of a list": tokenizer(model=[1]),
    "no vocabulary": model(vocab=None),
    "an empty vocabulary": model(vocab={}, merges=[]),
    "a vocabulary of a list": model(vocab=["a", "b"]),
    "ids as text": model(vocab={"a": "0"}, merges=[]),
    "ids as fractions": model(vocab={"a": 0.5}, merges=[]),
    "ids of 2**32": model(vocab={"a": 1 << 32}, merges=[]),
    "ids of 2**31": model(vocab={"a": 1 << 31}, merges=[]),
    "negative ids": model(vocab={"a": -1}, merges=[]),
    "one id for all tokens": edit(
        FILE,
        lambda all_: (
            all_
            | {"model": all_["model"] | {"vocab": dict.fromkeys(all_["model"]["vocab"], 299_999)}}
        ),
    ),
    "merges of null": model(merges=None),
    "merges as text": model(merges="x"),
    "merges of unknown tokens": model(merges=[["zork", "mid"]]),
    "merges that are no pairs": model(merges=["zorkmid"]),
    "merges of three": model(merges=[["a", "b", "c"]]),
    "merges of numbers": model(merges=[[1, 2]]),
    "dropout above one": model(dropout=2.0),
    "dropout as text": model(dropout="x"),
    "an unknown token that does not exist": both(
        model(unk_token="<zork>", vocab={"a": 0, "<s>": 1}, merges=[]),
        tokenizer(post_processor=None, added_tokens=[], pre_tokenizer=None),
    ),
    "fusing as text": model(fuse_unk="x"),
    "words without an unknown one": replaced(type="WordLevel"),
    "words of a list": replaced(type="WordLevel", vocab=["a"]),
    "pieces without an unknown one": replaced(type="WordPiece", unk_token="zork"),
    "pieces of no length": replaced(type="WordPiece", max_input_chars_per_word=-1),
    "pieces without a prefix": replaced(type="WordPiece", continuing_subword_prefix=7),
    "unigrams without a vocabulary": replaced(type="Unigram", vocab=[]),
    "unigrams without scores": replaced(type="Unigram", vocab=[["a"]]),
    "unigrams with scores of text": replaced(type="Unigram", vocab=[["a", "x"]]),
    "unigrams without an unknown one": replaced(type="Unigram", unk_id=None),
    "an unknown unigram beyond the vocabulary": replaced(type="Unigram", unk_id=99),
    "a token for every word beyond the model": both(
        replaced(type="WordLevel", unk_token="zork", vocab={"zork": 5000, "<s>": 1}),
        tokenizer(pre_tokenizer={"type": "Whitespace"}, normalizer=None),
    ),
}

ADDED: dict[str, Breaker] = {
    "added tokens as text": tokenizer(added_tokens="x"),
    "added tokens without contents": tokenizer(added_tokens=[{"id": 1}]),
    "an added token of 2**31": added(id=1 << 31, content="dog", special=False),
    "an added token of 2**32": added(id=1 << 32),
    "an added token below zero": added(id=-1),
    "an added token that is a number": added(content=7),
    "an added token with wrong flags": added(special="x"),
    "a token for every letter beyond the model": edit(
        FILE,
        lambda all_: (
            all_
            | {
                "model": all_["model"]
                | {"vocab": {key: id_ + 1000 for key, id_ in all_["model"]["vocab"].items()}}
            }
        ),
    ),
}

FILES: dict[str, Breaker] = {
    "an empty tokenizer": content(FILE, b""),
    "a tokenizer cut short": lambda folder: (folder / FILE).write_bytes(
        (folder / FILE).read_bytes()[:-200]
    ),
    "a tokenizer of no settings": content(FILE, b"{}"),
    "a tokenizer that is a list": content(FILE, b"[]"),
    "a tokenizer that is null": content(FILE, b"null"),
    "a tokenizer of bytes": content(FILE, bytes(range(256))),
    "a tokenizer nested too deep": content(FILE, b'{"model":' + b"[" * 100_000),
    "a tokenizer in UTF-16": lambda folder: (folder / FILE).write_text(
        (folder / FILE).read_text("utf-8"), encoding="utf-16"
    ),
    "a tokenizer of another version": tokenizer(version="9.0"),
    "a tokenizer that is a folder": in_place_of(FILE, Path.mkdir),
    "a tokenizer that is a pipe": in_place_of(FILE, fifo),
    "a tokenizer that links to itself": in_place_of(FILE, lambda path: path.symlink_to(path.name)),
    "a tokenizer without an end": in_place_of(FILE, lambda path: path.symlink_to("/dev/zero")),
    "a tokenizer that is too large": in_place_of(FILE, sparse((1 << 27) + 1)),
    "no tokenizer": remove(FILE, "tokenizer_config.json"),
    "settings without a tokenizer": remove(FILE),
    "a tokenizer of sentencepiece that is damaged": both(
        remove(FILE), settings(tokenizer_class="LlamaTokenizer"), content("tokenizer.model", b"x")
    ),
    "a tokenizer of sentencepiece that is empty": both(
        remove(FILE), settings(tokenizer_class="LlamaTokenizer"), content("tokenizer.model", b"")
    ),
    "a vocabulary that is no JSON": both(
        remove(FILE),
        settings(tokenizer_class="GPT2Tokenizer"),
        content("vocab.json", b"{"),
        content("merges.txt", b"#version: 0.2\n"),
    ),
    "a vocabulary of a list beside merges": both(
        remove(FILE),
        settings(tokenizer_class="GPT2Tokenizer"),
        content("vocab.json", b"[1]"),
        content("merges.txt", b"a b\n"),
    ),
    "merges of one word beside a vocabulary": both(
        remove(FILE),
        settings(tokenizer_class="GPT2Tokenizer"),
        content("vocab.json", b'{"a": 0}'),
        content("merges.txt", b"a\nb c d e\n"),
    ),
    "a vocabulary of bytes": both(
        remove(FILE),
        settings(tokenizer_class="BertTokenizer"),
        content("vocab.txt", b"\xff\xfe\n"),
    ),
    "a tokenizer of tiktoken that is damaged": both(
        remove(FILE),
        settings(tokenizer_class="PreTrainedTokenizerFast"),
        content("tiktoken.model", b"not base64 1\n"),
    ),
}

SETTINGS: dict[str, Breaker] = {
    "a tokenizer class of a number": settings(tokenizer_class=7),
    "a tokenizer class of a list": settings(tokenizer_class=["x"]),
    "a slow tokenizer class": both(
        settings(tokenizer_class="ZorkTokenizer", auto_map={"AutoTokenizer": ["z.Z", None]})
    ),
    "a beginning token of a number": settings(bos_token=7),
    "a beginning token of a list": settings(bos_token=["<s>"]),
    "no beginning and no end": both(
        settings(bos_token=None, eos_token=None), tokenizer(post_processor=None)
    ),
    "a new beginning token beyond the model": both(
        settings(bos_token="<zork>"), tokenizer(post_processor=None)
    ),
    "further special tokens of numbers": settings(extra_special_tokens=[7]),
    "added tokens by words": settings(added_tokens_decoder={"x": {"content": "a"}}),
    "added tokens of numbers": settings(added_tokens_decoder={"1": 7}),
    "added tokens of null": settings(added_tokens_decoder={"1": None}),
    "added tokens of a list": settings(added_tokens_decoder=[1]),
    "settings that are no JSON": content("tokenizer_config.json", b"{"),
    "settings of a list": content("tokenizer_config.json", b"[1]"),
    "settings of a number": content("tokenizer_config.json", b"7"),
    "settings nested too deep": content("tokenizer_config.json", b"[" * 100_000),
    "settings that are not UTF-8": content("tokenizer_config.json", b'{"bos_token": "\xff"}'),
    "settings that are a pipe": in_place_of("tokenizer_config.json", fifo),
    "settings without an end": in_place_of(
        "tokenizer_config.json", lambda path: path.symlink_to("/dev/zero")
    ),
    "a length limit as text": settings(model_max_length="x"),
    "a special tokens map that is no JSON": content("special_tokens_map.json", b"{"),
    "a special tokens map of a list": content("special_tokens_map.json", b"[1]"),
    "a special tokens map of numbers": content("special_tokens_map.json", b'{"bos_token": 7}'),
    "added tokens that are no JSON": content("added_tokens.json", b"{"),
    "added tokens in a file of a list": content("added_tokens.json", b"[1]"),
    "chat templates of numbers": settings(chat_template=[7]),
    "a chat template that is not UTF-8": content("chat_template.jinja", b"\xff"),
    "code of its own": settings(
        tokenizer_class="Zork", auto_map={"AutoTokenizer": ["z.Zork", "z.ZorkFast"]}
    ),
    "a padding side that does not exist": settings(padding_side="up"),
}

EVERY = {**STEPS, **MODELS, **ADDED, **FILES, **SETTINGS}


def broken(breaker: Breaker) -> Attack:
    """A scan of the checkpoint after ``breaker`` has changed the files of its tokenizer."""

    def attack(workplace: Workplace) -> list[str]:
        breaker(workplace.model())
        return workplace.scan()

    return attack


CASES = [Case(name, broken(breaker)) for name, breaker in EVERY.items()]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_hostile_tokenizers(case: Case, workplace: Workplace) -> None:
    assert_promise(case, workplace)
