"""Which numbers differ from the golden ones, in words."""

import math
from typing import Any

EXACT = frozenset({"rows", "shape", "records", "empty", "not_finite", "layer", "head", "n"})
"""Keys whose numbers are counts of the text: equal on every machine."""

Tolerance = tuple[float, float]

LOOSE: Tolerance = (1e-4, 1e-4)
"""Relative and absolute, for cells of tables: they hold six digits, and on another processor one
word of thousands may win by another last bit."""

TIGHT: Tolerance = (1e-6, 1e-9)
"""For sums of floating-point arrays, relative to the sum of sizes."""

COUNTED: Tolerance = (1e-3, 8.0)
"""For sums of integer arrays on another processor: what is counted are comparisons of floats."""


def differences(stored: Any, new: Any, *, exact: bool = False) -> list[str]:
    """One line for each value that differs. ``exact``: integers are compared without tolerance."""
    found: list[str] = []
    _walk("", stored, new, found, exact)
    return found


def _walk(at: str, old: Any, new: Any, found: list[str], exact: bool) -> None:
    if isinstance(old, dict) and isinstance(new, dict):
        if "sums" in old and "sums" in new and isinstance(old["sums"], list):
            _sums(at, old, new, found, exact)
            return
        gone, added = [k for k in old if k not in new], [k for k in new if k not in old]
        for key in list(gone):
            same = next((k for k in added if new[k] == old[key]), None)
            if same is not None and isinstance(old[key], dict | list):
                found.append(f"{at}{key}: renamed {same}, with equal content")
                gone.remove(key)
                added.remove(same)
        found += [f"{at}{key}: is gone" for key in gone]
        found += [f"{at}{key}: is new" for key in added]
        for key in old:
            if key in new:
                _walk(f"{at}{key} ", old[key], new[key], found, exact)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        parts: list[str] = []
        for number, pair in enumerate(zip(old, new, strict=True)):
            _walk(f"[{number}] ", *pair, parts, exact)
        if len(parts) > 2:
            parts = [*parts[:2], f"and {len(parts) - 2} more"]
        if parts:
            found.append(f"{at}{'; '.join(part.strip() for part in parts)}")
    elif not _equal(at, old, new):
        found.append(f"{at}{_brief(old)} -> {_brief(new)}")


def _equal(at: str, old: Any, new: Any) -> bool:
    numbers = (int, float)
    if isinstance(old, bool) or not isinstance(old, numbers) or not isinstance(new, numbers):
        return bool(old == new)
    if EXACT & set(at.split()):
        return old == new
    return math.isclose(old, new, rel_tol=LOOSE[0], abs_tol=LOOSE[1])


def _sums(at: str, old: dict[str, Any], new: dict[str, Any], found: list[str], exact: bool) -> None:
    apart = [k for k in {*old, *new} - {"sums", "sizes"} if old.get(k) != new.get(k)]
    found += [f"{at}{key}: {old.get(key)} -> {new.get(key)}" for key in sorted(apart)]
    if apart or len(old["sums"]) != len(new["sums"]):
        return
    kind = old.get("kind")
    relative, absolute = LOOSE if kind is None else TIGHT if kind == "float" else COUNTED
    if kind == "bool" or (exact and kind == "integer"):
        relative = absolute = 0.0
    sizes = old.get("sizes", old["sums"])
    for number, (one, other, size) in enumerate(zip(old["sums"], new["sums"], sizes, strict=True)):
        if abs(one - other) > absolute + relative * size:
            where = f"block {number + 1} of {len(sizes)}"
            found.append(f"{at}differs from {where} on: weighted sum {one} -> {other}")
            return


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:117]}..."
