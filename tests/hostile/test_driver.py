"""The driver notices every way in which a command can break the promise."""

import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from headprobe.errors import HeadprobeError
from tests.hostile.driver import Case, Workplace, assert_promise

REFUSAL = HeadprobeError("file", "is damaged", "Replace it")


def raise_bug() -> int:
    raise KeyError("bug")


def leave_file() -> int:
    Path("half.csv").write_text("")
    return refuse()


def lose_file() -> int:
    Path("thesis.tex").unlink()
    return refuse()


def change_file() -> int:
    Path("thesis.tex").write_text("short")
    return refuse()


def leave_temporary_file() -> int:
    Path(os.environ["TMPDIR"], "x").write_text("")
    return refuse()


def refuse(line: str = str(REFUSAL), code: int = 2) -> int:
    print(line, file=sys.stderr)
    return code


def speak_from_another_language() -> int:
    os.write(2, b"thread panicked\n")
    return refuse()


def hang() -> int:
    time.sleep(5)
    return refuse()


def exhaust() -> int:
    return refuse() if bytearray(8 << 30) else 0


BROKEN: dict[str, Callable[[], int]] = {
    "traceback": raise_bug,
    "left": leave_file,
    "lost": lose_file,
    "changed": change_file,
    "temporary": leave_temporary_file,
    "exit code": lambda: refuse(code=1),
    "false success": lambda: 0,
    "two lines": lambda: refuse("one: two. three.\nfour: five. six."),
    "no remedy": lambda: refuse("file: is damaged."),
    "no place": lambda: refuse("Something. Went wrong."),
    "raw escape": lambda: refuse("file: is \x1b[31mdamaged. Replace it."),
    "too long": lambda: refuse(f"file: is {'x' * 5000}. Replace it."),
    "another reason": lambda: refuse("file: is missing. Replace it."),
    "another language": speak_from_another_language,
    "hangs": hang,
    "memory": exhaust,
}


def put_in_place(command: Callable[[], int], patch: pytest.MonkeyPatch) -> None:
    """Let the driver run ``command`` instead of headprobe."""

    def stand_in(argv: Sequence[str]) -> int:
        return command()

    patch.setattr("tests.hostile.driver.run", stand_in)
    patch.setattr("tests.hostile.driver.run_here.__defaults__", (0.5,))


def thesis(workplace: Workplace) -> list[str]:
    (workplace.here / "thesis.tex").write_text("years of work")
    return ["runs"]


@pytest.mark.parametrize("fault", BROKEN)
def test_broken_promises_are_noticed(
    fault: str, workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_in_place(BROKEN[fault], monkeypatch)
    with pytest.raises((AssertionError, KeyError, MemoryError)):
        assert_promise(Case(fault, thesis, "damaged"), workplace)


def test_a_kept_promise_passes(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    put_in_place(refuse, monkeypatch)
    assert_promise(Case("kept", thesis, "damaged"), workplace)


def test_harmless_input_must_succeed(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    put_in_place(refuse, monkeypatch)
    with pytest.raises(AssertionError):
        assert_promise(Case("refused", thesis, harmless=True), workplace)
    put_in_place(lambda: 0, monkeypatch)
    assert_promise(Case("fine", thesis, harmless=True), workplace)
