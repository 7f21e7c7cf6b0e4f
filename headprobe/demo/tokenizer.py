"""A byte-level BPE whose pieces never cross a word."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

UNKNOWN, BEGIN, END = "<unk>", "<s>", "</s>"
BEGIN_ID, END_ID = 1, 2

# One alternative per kind of piece: a line break; a word, a digit or a mark, each with at most
# one space before it; other white space. A piece is therefore never more than one word, and a
# mark never shares a piece with a word.
PIECE = r"\n|[^\S\n]?\p{L}+|[^\S\n]?\p{N}|[^\S\n]?[^\s\p{L}\p{N}]|[^\S\n]+"


def train_tokenizer(texts: Iterable[str], pieces: int = 4096) -> Tokenizer:
    """A tokenizer of `pieces` pieces learned from `texts`; it prepends the beginning token."""
    tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECE), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=pieces,
        special_tokens=[UNKNOWN, BEGIN, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN} $A",
        pair=f"{BEGIN} $A $B",
        special_tokens=[(BEGIN, BEGIN_ID)],
    )
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write `tokenizer.json` and `tokenizer_config.json`, as AutoTokenizer reads them.

    No longest text is declared: who tokenises a whole document does so to cut it afterwards, and
    would be warned for nothing.
    """
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token=UNKNOWN,
        bos_token=BEGIN,
        eos_token=END,
    )
    fast.save_pretrained(folder)
