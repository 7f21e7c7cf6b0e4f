"""Progress is a line per stage without a terminal, and never more than one line with one."""

import io

import pytest

from headprobe.progress import PlainProgress, Progress, SilentProgress
from headprobe.report.layout import LiveProgress, progress_for


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def work(progress: Progress) -> None:
    progress.stage("read", 3, "passages")
    for _ in range(3):
        progress.advance()
    progress.warn("odd \x1b[31m[red]file[/]")
    progress.stage("judge")
    progress.advance()
    progress.finish()
    progress.finish()


def test_a_line_per_stage_without_a_terminal() -> None:
    stream = io.StringIO()
    progress = progress_for(stream)
    assert isinstance(progress, PlainProgress)
    work(progress)
    assert stream.getvalue().splitlines() == [
        "read (3 passages)",
        "warning: odd \\x1b[31m[red]file[/]",
        "judge",
    ]


def test_one_is_one() -> None:
    stream = io.StringIO()
    progress_for(stream).stage("measuring", 1, "passages")
    assert stream.getvalue() == "measuring (1 passage)\n"


def test_small_files_are_not_zero_of_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    stream = Terminal()
    progress = progress_for(stream)
    progress.stage("reading", 63_000, "bytes")
    progress.advance(21_000)
    progress.finish()
    assert "21 of 63 kB" in stream.getvalue()


def test_quiet_keeps_warnings() -> None:
    stream = io.StringIO()
    work(progress_for(stream, quiet=True))
    assert stream.getvalue() == "warning: odd \\x1b[31m[red]file[/]\n"
    loud = Terminal()
    assert isinstance(progress_for(loud, quiet=True), PlainProgress)


def test_a_terminal_gets_a_bar_and_hostile_text_stays_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    stream = Terminal()
    progress = progress_for(stream)
    assert isinstance(progress, LiveProgress)
    work(progress)
    text = stream.getvalue()
    assert "odd \\x1b[31m[red]file[/]" in text
    assert "3 of 3 passages" in text


def test_from_python_warnings_are_warnings() -> None:
    with pytest.warns(UserWarning, match="odd"):
        work(SilentProgress())
