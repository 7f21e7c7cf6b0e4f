"""Whatever the libraries raise that load a checkpoint is one line with a remedy."""

import pickle

import pytest

from headprobe.errors import HeadprobeError
from headprobe.model.load_errors import MOST, friendly_load_errors, quote


@pytest.mark.parametrize(
    "error",
    [
        ZeroDivisionError("integer division or modulo by zero"),
        ImportError("flash_attn"),
        AttributeError("x"),
        AssertionError(),
        IndexError("list index out of range"),
        pickle.UnpicklingError("bad"),
        EOFError("Ran out of input"),
        MemoryError(),
        RecursionError("deep"),
        StopIteration(),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
        Exception("bare"),
        type("PanicException", (BaseException,), {})("called `Option::unwrap()` on a `None` value"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_every_exception_becomes_one(error: BaseException) -> None:
    with pytest.raises(HeadprobeError) as raised, friendly_load_errors("a/b"):
        raise error
    assert raised.value.__cause__ is error


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_ends_the_process_goes_on(error: type[BaseException]) -> None:
    with pytest.raises(error), friendly_load_errors("a/b"):
        raise error


def test_quotes_are_short_and_safe() -> None:
    assert quote("one\n  two\x1b[31m\u202e\ud800.") == "one two\\x1b[31m\\u202e\\ud800"
    assert len(quote("x" * 10_000)) == MOST
