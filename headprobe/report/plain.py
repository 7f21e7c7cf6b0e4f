"""Text of others, made safe to look at."""

import unicodedata

_JOINERS = "\u200c\u200d"
_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def plain(text: str) -> str:
    """``text`` on one line, every character visible.

    Control characters, bidi overrides, invisible format characters, lone surrogates and line
    separators come out as escapes (``\\x1b``, ``\\u202e``); zero-width joiners stay where a script
    that needs them (Persian, Hindi, emoji) puts them. Markup is text: consoles here never parse it.
    """
    if text.isascii() and text.isprintable():
        return text
    pieces = []
    before = ""
    for character in text:
        joins = character in _JOINERS and before > "\u02ff" and before not in _JOINERS
        hidden = unicodedata.category(character) in _HIDDEN and not joins
        pieces.append(_escape(character) if hidden else character)
        before = character
    return "".join(pieces)


def _escape(character: str) -> str:
    code = ord(character)
    if character in _NAMED:
        return _NAMED[character]
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def clip(text: str, width: int) -> str:
    """``plain(text)``, cut to ``width`` characters with an ellipsis for its end."""
    shown = plain(text)
    return shown if len(shown) <= width else shown[: width - 1] + "…"


def clip_start(text: str, width: int) -> str:
    """``plain(text)``, cut to ``width`` characters with an ellipsis for its beginning (paths)."""
    shown = plain(text)
    return shown if len(shown) <= width else "…" + shown[len(shown) - width + 1 :]
