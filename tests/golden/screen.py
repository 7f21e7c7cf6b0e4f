"""What commands print, without what differs from one machine or one minute to the next."""

import re
from collections.abc import Mapping

DURATION = re.compile(r"(?<![\w.])(?:\d[\d,.]* (?:ms|s|min|h)\b ?)*\d[\d,.]* (?:ms|s|min|h)\b")
SIZE = re.compile(r"(?<![\w.])\d[\d,.]* (?:kB|MB|GB|KiB|MiB|GiB)\b")
STAMP = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:\+00:00|Z)?")
NUMBER = re.compile(r"[-+]?(?:\d[\d,]*)?\.?\d+(?:[eE][-+]?\d+)?")


def normalise(text: str, places: Mapping[str, str]) -> str:
    """``text`` with times, sizes and ``places`` (paths and versions) replaced by their names.

    A paragraph that holds a duration becomes one line: where it wraps depends on the digits.
    """
    for place, name in sorted(places.items(), key=lambda item: -len(item[0])):
        text = text.replace(place, name)
    text = STAMP.sub("<moment>", text)
    blocks: list[list[str]] = []
    for line in text.splitlines():
        if blocks and blocks[-1][-1].strip() and re.match(r" {6,}\S", line):
            blocks[-1].append(line)
        else:
            blocks.append([line])
    lines: list[str] = []
    for block in blocks:
        joined = " ".join(line.strip() for line in block)
        if not DURATION.search(joined):
            lines += block
            continue
        whole = " ".join([block[0], *map(str.strip, block[1:])])
        lines.append(DURATION.sub("<time>", whole))
    return "".join(SIZE.sub("<size>", line.rstrip()) + "\n" for line in lines)


def differences(stored: str, new: str, *, exact: bool) -> list[str]:
    """The lines that differ, as ``- stored`` and ``+ new``.

    On another machine (``exact`` is False) a number may differ by two units of its last digit, or
    by 1e-3 of its size, and columns may be wider.
    """
    import difflib

    if exact:
        same = stored == new
    else:
        olds, news = stored.splitlines(), new.splitlines()
        same = len(olds) == len(news) and all(map(_alike, olds, news))
    if same:
        return []
    lines = difflib.unified_diff(stored.splitlines(), new.splitlines(), lineterm="", n=0)
    return [line for line in lines if line[:1] in "+-" and line[:3] not in ("+++", "---")]


def _alike(stored: str, new: str) -> bool:
    if NUMBER.sub("#", stored).split() != NUMBER.sub("#", new).split():
        return False
    pairs = zip(NUMBER.findall(stored), NUMBER.findall(new), strict=True)
    return all(one == other or _near(one, other) for one, other in pairs)


def _near(one: str, other: str) -> bool:
    decimals = min(len(text.partition(".")[2]) for text in (one, other))
    first, second = (float(text.replace(",", "")) for text in (one, other))
    return abs(first - second) <= max(2.001 * 10**-decimals * bool(decimals), 1e-3 * abs(first))
