"""Hostile caches: folders named by variables, which hold converted GGUF files and compiled code."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from headprobe.model.gguf import LIST
from tests.helpers.broken import fifo
from tests.helpers.gguf import write_gguf
from tests.hostile.driver import Attack, Case, Workplace, assert_promise, run_here

FILE = "model.gguf"


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gguf(tmp_path_factory.mktemp("gguf") / FILE)


def named(value: str, make: Callable[[Path], object] = lambda _: None) -> Attack:
    """A scan with the cache named ``value``, made by ``make``."""

    def attack(workplace: Workplace) -> list[str]:
        make(workplace.here / "cache")
        workplace.patch.setenv("HEADPROBE_CACHE", value)
        return workplace.scan("--dry-run", model=FILE)

    return attack


def damaged(name: str, change: Callable[[Path], object]) -> Attack:
    """A scan with a cache that an earlier one filled and in which ``change`` damaged a file."""

    def attack(workplace: Workplace) -> list[str]:
        cache = workplace.here.with_name("filled")
        workplace.patch.setenv("HEADPROBE_CACHE", str(cache))
        command = workplace.scan("--dry-run", model=FILE)
        assert run_here(command).code == 0
        (path,) = cache.glob(f"gguf/*/text/{name}")
        change(path)
        return command

    return attack


def listed(**changes: object) -> Callable[[Path], object]:
    return lambda path: path.write_text(json.dumps(json.loads(path.read_text()) | changes))


CASES = [
    Case("a user who does not exist", named("~nobody-here/cache"), "^HEADPROBE_CACHE"),
    Case("a file", named("cache", lambda path: path.write_text("x")), harmless=True),
    Case("a pipe", named("cache", fifo), harmless=True),
    Case("a link to itself", named("cache", lambda p: p.symlink_to(p.name)), harmless=True),
    Case("a device", named("/dev/null"), harmless=True),
    Case("too long a name", named("z" * 300), harmless=True),
    Case("a place for no files", named("/proc/1/cache"), harmless=True),
    Case("a list that is empty", damaged(LIST, lambda p: p.write_text("")), harmless=True),
    Case("a list of a list", damaged(LIST, lambda p: p.write_text("[]")), harmless=True),
    Case("a list of no files", damaged(LIST, listed(files={})), harmless=True),
    Case("a list of numbers", damaged(LIST, listed(files=7)), harmless=True),
    Case(
        "a list of files elsewhere",
        damaged(LIST, listed(files={"../../../passwd": "0" * 64})),
        harmless=True,
    ),
    Case("a list of other versions", damaged(LIST, listed(versions={})), harmless=True),
    Case(
        "another configuration",
        damaged("config.json", lambda p: p.write_text('{"model_type": "zork"}')),
        harmless=True,
    ),
    Case(
        "a tokenizer cut short",
        damaged("tokenizer.json", lambda p: p.write_text("{")),
        harmless=True,
    ),
    Case("a configuration that is missing", damaged("config.json", Path.unlink), harmless=True),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_hostile_caches(case: Case, workplace: Workplace, intact: Path) -> None:
    (workplace.here / FILE).write_bytes(intact.read_bytes())
    assert_promise(case, workplace)
