"""Golden data on disk: read, compared and written."""

import json
from pathlib import Path
from typing import Any

from tests.golden import compare, screen
from tests.golden.recorder import Recording, environment

DATA = Path(__file__).parent / "data"


def screen_differences(name: str, new: Recording) -> list[str]:
    """Lines that are printed otherwise than in ``CASE.txt``."""
    path = DATA / f"{name}.txt"
    if not path.is_file():
        return ["nothing is stored"]
    return screen.differences(path.read_text("utf-8"), new.screen, exact=same_environment())


def number_differences(name: str, new: Recording) -> list[str]:
    """Values that differ from ``CASE.numbers.json`` by more than the tolerance."""
    path = DATA / f"{name}.numbers.json"
    if not path.is_file():
        return ["nothing is stored"] if new.numbers else []
    return compare.differences(json.loads(path.read_text("utf-8")), json.loads(_text(new.numbers)))


def hash_differences(name: str, new: Recording) -> list[str]:
    """Files, columns and arrays whose values are not those of ``CASE.hashes.json``, bit by bit."""
    path = DATA / f"{name}.hashes.json"
    if not path.is_file():
        return ["nothing is stored"] if new.hashes else []
    old: dict[str, str] = json.loads(path.read_text("utf-8"))
    gone, added = [k for k in old if k not in new.hashes], [k for k in new.hashes if k not in old]
    found = []
    for key in list(gone):
        same = next((other for other in added if new.hashes[other] == old[key]), None)
        if same is not None:
            found.append(f"{key}: renamed {same}, with equal content")
            gone.remove(key)
            added.remove(same)
    found += [f"{key}: is gone" for key in gone] + [f"{key}: is new" for key in added]
    return found + [f"{key}: differs" for key in old if new.hashes.get(key, old[key]) != old[key]]


def same_environment() -> bool:
    """Whether the golden data was made with this processor and these versions."""
    path = DATA / "environment.json"
    return path.is_file() and json.loads(path.read_text("utf-8")) == environment()


def write_screens(name: str, new: Recording) -> None:
    DATA.mkdir(exist_ok=True)
    (DATA / f"{name}.txt").write_text(new.screen, encoding="utf-8")


def write_numbers(name: str, new: Recording) -> None:
    DATA.mkdir(exist_ok=True)
    for kind, values in (("numbers", new.numbers), ("hashes", new.hashes)):
        if values:
            (DATA / f"{name}.{kind}.json").write_text(_text(values), encoding="utf-8")


def write_environment() -> None:
    (DATA / "environment.json").write_text(_text(environment()), encoding="utf-8")


def _text(values: Any, indent: str = "") -> str:
    """JSON with one line for each column, array or value, so that differences can be read."""
    flat = json.dumps(values, ensure_ascii=False)
    if not isinstance(values, dict) or "sums" in values or len(flat) < 90 - len(indent):
        return flat + ("\n" if not indent else "")
    inner = indent + " "
    lines = [
        f"{inner}{json.dumps(k, ensure_ascii=False)}: {_text(v, inner)}" for k, v in values.items()
    ]
    return "{\n" + ",\n".join(lines) + f"\n{indent}}}" + ("\n" if not indent else "")
