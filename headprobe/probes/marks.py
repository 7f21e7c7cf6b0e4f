"""Punctuation marks and their classes: the one list (METHOD section 2)."""

from collections.abc import Mapping
from types import MappingProxyType

from headprobe.probes.document import Word

ANY = "any"
"""The relation to marks of every class."""

MARKS: Mapping[str, str] = MappingProxyType(
    {
        "stop": ".!?…‥‼⁇⁈⁉。！？．｡﹒﹖﹗؟۔܀՜՞։।॥།༎።፧፨᙮᠃᠉‽",
        "comma": ",，、､،՝፣﹐﹑᠂᠈߸",
        "quote": "\"'`´‘’‚‛“”„‟«»‹›′″‵‶「」『』｢｣《》〈〉〝〞〟＂＇｀",
        "bracket": "()[]{}<>＜＞⟨⟩⟪⟫（）［］｛｝【】〔〕〖〗〘〙〚〛｟｠⁅⁆⁽⁾﴾﴿﹙﹚﹛﹜﹝﹞",
        "other": ":;-–—―‐‑‒−/\\*•·‧・_~|¦&@#%§¶†‡=+^¡¿；：－～／＼＊＿｜＝＋؛፤፥〜〰᠊־׀׃",
    }
)
"""Class -> its characters. A mark without any of them is of the class ``other``."""

_CLASS = {character: name for name, characters in MARKS.items() for character in characters}


def is_mark(word: Word) -> bool:
    """Whether a word is a mark: its UPOS is PUNCT."""
    return word.upos == "PUNCT"


def mark_class(form: str) -> str:
    """The class of a mark: that of its first listed character, else ``other``."""
    return next((_CLASS[character] for character in form if character in _CLASS), "other")


def printed_marks() -> tuple[tuple[str, str], ...]:
    """(class, its characters divided by spaces), for showing to a person."""
    return tuple((name, " ".join(characters)) for name, characters in MARKS.items())
