"""A tokenizer of whole words, some of them in two pieces."""

from collections import Counter
from collections.abc import Iterable
from random import Random

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

START, END, UNKNOWN = "<s>", "</s>", "<unk>"
INSIDE = "##"
"""What pieces begin with that continue a word."""

_BREAKS = r"(?:Mr|Ms|Mrs|Dr)\.|n't|'(?:s|ve|re|ll|d|m)|[^\w\s'.-]|\.|'"
_LONG = 6
"""Letters of a word that may be written in two pieces."""


def split_words(forms: Iterable[str], share: float, rng: Random) -> dict[str, tuple[str, str]]:
    """A ``share`` of the long words as two pieces each, of those in which greedy matching finds
    just these: no other word begins with the first piece, and none ends in the second."""
    ordered = sorted(forms)
    apart = {
        form: (form[: len(form) // 2], INSIDE + form[len(form) // 2 :])
        for form in ordered
        if len(form) >= _LONG and form.isalpha()
    }
    endings = Counter(rest for _, rest in apart.values())
    free = [
        form
        for before, form, after in zip(["", *ordered], ordered, [*ordered[1:], ""], strict=False)
        if form in apart
        and endings[apart[form][1]] == 1
        and not before.startswith(apart[form][0])
        and not after.startswith(apart[form][0])
    ]
    return {form: apart[form] for form in rng.sample(free, round(share * len(free)))}


def build_tokenizer(
    forms: Iterable[str], pieces: dict[str, tuple[str, str]], *, adds_start: bool
) -> PreTrainedTokenizerFast:
    """A tokenizer whose ids are ``START``, ``END``, ``UNKNOWN``, whole words and pieces; it puts
    ``START`` before a text itself, or leaves that to whoever uses it."""
    tokens = [START, END, UNKNOWN]
    tokens += [piece for form in forms for piece in pieces.get(form, (form,))]
    numbers = {token: number for number, token in enumerate(dict.fromkeys(tokens))}
    tokenizer = Tokenizer(
        models.WordPiece(numbers, unk_token=UNKNOWN, continuing_subword_prefix=INSIDE)
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(Regex(_BREAKS), "isolated")]
    )
    tokenizer.decoder = decoders.WordPiece(prefix=INSIDE)
    if adds_start:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{START} $A", special_tokens=[(START, numbers[START])]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=START, eos_token=END, unk_token=UNKNOWN
    )
