"""Numbers as people read them."""

from collections.abc import Sequence

from headprobe.verdicts.wording import MISSING, TOO_LITTLE, chance_of, fraction, signed, span

__all__ = [
    "MISSING",
    "TOO_LITTLE",
    "chance_of",
    "count",
    "decimal",
    "duration",
    "fraction",
    "groups",
    "memory",
    "signed",
    "span",
]


def decimal(value: float | None, digits: int = 2) -> str:
    """A number that is no share: ``1.24``, ``.68``."""
    if value is None:
        return MISSING
    text = f"{value:.{digits}f}"
    return text.replace("0.", ".", 1) if text.startswith(("0.", "-0.")) else text


def count(value: int, one: str, many: str | None = None) -> str:
    """``1 head``, ``1,024 heads``."""
    return f"{value:,} {one if value == 1 else many or one + 's'}"


def groups(n_kv_heads: Sequence[int]) -> str:
    """``4 KV groups``; ``[2, 4] KV groups`` where layers differ."""
    found = sorted(set(n_kv_heads))
    return count(found[0], "KV group") if len(found) == 1 else f"{found} KV groups"


def duration(seconds: float) -> str:
    """``0.4 s``, ``38 s``, ``4 min 10 s``, ``2 h 05 min``."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def memory(mebibytes: float | None) -> str:
    """``512 MiB``, ``14.2 GiB``."""
    if mebibytes is None:
        return MISSING
    return f"{mebibytes:,.0f} MiB" if mebibytes < 10_000 else f"{mebibytes / 1024:.1f} GiB"
