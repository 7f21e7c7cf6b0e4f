"""Hostile command lines: arguments, paths, and what stands where commands write."""

import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.hostile import spoil
from tests.hostile.driver import OUT, Attack, Case, Workplace, assert_promise

LONG = "x" * 300
"""A name that no file system takes."""

MANY = "9" * 5000
"""More digits than Python reads."""


def scan(*options: str) -> Attack:
    """A scan of a valid checkpoint with these options."""
    return lambda workplace: workplace.scan(*options)


def plain(*command: str) -> Attack:
    """A command line that needs nothing."""
    return lambda _: command


def of_run(*command: str) -> Attack:
    """A command line that reads the run ``run``."""

    def attack(workplace: Workplace) -> Sequence[str]:
        workplace.run()
        return command

    return attack


def at(name: str, make: Callable[[Path], object], *command: str) -> Attack:
    """Put something in the place ``name``; then a scan, or another command, that meets it."""

    def attack(workplace: Workplace) -> Sequence[str]:
        make(workplace.here / name)
        if command and command[0] != "scan":
            workplace.run()
            return command
        return workplace.scan(*command[1:])

    return attack


def write(path: Path) -> None:
    path.write_text("years of work")


def write_folder(path: Path) -> None:
    path.mkdir()
    write(path / "thesis.tex")


def typed(text: str) -> Attack:
    """A head on a text."""

    def attack(workplace: Workplace) -> Sequence[str]:
        workplace.model()
        workplace.run()
        return ("show-head", "L0H0", "-r", "run", "--text", text, "-q")

    return attack


def inside_out(workplace: Workplace) -> Sequence[str]:
    """The run to overwrite is the current folder."""
    workplace.run()
    workplace.model()
    workplace.probes()
    os.chdir(workplace.here / "run")
    return (
        *("scan", "../model", "-p", "../probes.conllu", "--device", "cpu", "-q"),
        *("-o", ".", "--overwrite"),
    )


def deleted_folder(workplace: Workplace) -> Sequence[str]:
    """The current folder does not exist any more."""
    gone = workplace.here / "gone"
    gone.mkdir()
    os.chdir(gone)
    gone.rmdir()
    return ("runs",)


def csv_equal_to_out(workplace: Workplace) -> Sequence[str]:
    return workplace.scan("--csv", OUT)


class Zeros(io.RawIOBase):
    """A stream without an end, like /dev/zero."""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        buffer[:] = bytes(len(buffer))
        return len(buffer)


def endless_text(workplace: Workplace) -> Sequence[str]:
    workplace.run()
    workplace.patch.setattr("sys.stdin", io.TextIOWrapper(io.BufferedReader(Zeros())))
    return ("show-head", "L0H0", "-r", "run", "--text", "-", "-q")


CASES = [
    # names of nothing
    Case("no such command", plain("zork"), "No such command"),
    Case("no such option", scan("--zork")),
    Case("an option without its value", scan("--seed")),
    Case("an argument too many", scan("another")),
    Case("two runs to show", of_run("show", "run", "run")),
    Case("a run that is not there", plain("show", "nowhere")),
    Case("a run of no name", plain("show", "")),
    Case("no runs at all", plain("show")),
    Case("a folder of runs that is not there", plain("runs", "nowhere")),
    Case("a topic that is not there", plain("docs", "zork")),
    Case("a topic outside", plain("docs", "../../README")),
    Case("probes that are not there", plain("probes", "show", "zork")),
    Case("a model that is not there", plain("scan", "./nowhere", "-q")),
    Case("a model in a file", at("model.txt", write, "show", "model.txt")),
    Case("nothing to merge", plain("merge", "nowhere", "-q")),
    Case("nothing to resume", plain("scan", "--resume", "nowhere", "-q")),
    Case("resuming a finished run", of_run("scan", "--resume", "run", "-q"), "finished"),
    # too long
    Case("a run of 300 letters", plain("show", LONG)),
    Case("a head of a run of 300 letters", plain("show-head", "L0H0", "-r", LONG)),
    Case("runs in a folder of 300 letters", plain("runs", LONG)),
    Case("a model of 300 letters", plain("scan", LONG, "-q")),
    Case("a model in a folder of 300 letters", plain("scan", f"./{LONG}/model", "-q")),
    Case("probes of 300 letters", plain("scan", "-p", LONG, "-q")),
    Case("probes to show of 300 letters", plain("probes", "show", LONG)),
    Case("out of 300 letters", scan("-o", LONG)),
    Case("out of 240 letters", scan("-o", "y" * 240)),
    Case("out of 10,000 letters", scan("-o", "y/" * 5000)),
    Case("a table folder of 300 letters", scan("--csv", LONG)),
    Case("an export of 300 letters", of_run("export", "run", "--csv", LONG)),
    Case("an export of 240 letters in a table", of_run("export", "run", "--csv", "a/" * 2100)),
    Case("rules of 300 letters", scan("--rules", LONG)),
    Case("a merge of 300 letters", plain("merge", LONG, "-q")),
    Case("a resumed run of 300 letters", plain("scan", "--resume", LONG, "-q")),
    Case("an adapter of 300 letters", scan("--adapter", LONG)),
    Case("a GGUF file of 300 letters", scan("--gguf", LONG)),
    Case("a device of 5,000 letters", scan("--device", "d" * 5000)),
    Case("a dtype of 5,000 letters", scan("--dtype", "d" * 5000)),
    Case("a head of 5,000 digits", of_run("show-head", f"L{MANY}H0", "-r", "run")),
    Case("a topic of 5,000 letters", plain("docs", "t" * 5000)),
    Case("a command of 5,000 letters", plain("c" * 5000)),
    # numbers
    Case("a seed below zero", scan("--seed", "-1")),
    Case("a seed of 30 digits", scan("--seed", "9" * 30)),
    Case("a seed of 5,000 digits", scan("--seed", MANY)),
    Case("a seed in words", scan("--seed", "one")),
    Case("no passages", scan("--max-passages", "0")),
    Case("10**30 passages", scan("--max-passages", "1" + "0" * 30)),
    Case("a budget of two tokens", scan("--budget", "2")),
    Case("a budget of 10**30", scan("--budget", "1" + "0" * 30)),
    Case("no memory", scan("--memory", "0GiB")),
    Case("memory without a unit", scan("--memory", "12")),
    Case("memory of 400 digits", scan("--memory", "9" * 400 + "GiB")),
    Case("memory below zero", scan("--memory", "-2GiB")),
    Case("memory that is too little", scan("--memory", "1b")),
    Case("memory in an unknown unit", scan("--memory", "2 apples")),
    Case("a shard of 10**30", scan("--shard", "1/1" + "0" * 30)),
    Case("a shard beyond the last", scan("--shard", "3/2")),
    Case("a shard of zero", scan("--shard", "0/0")),
    Case("a shard in other digits", scan("--shard", "١/٢")),
    Case("a shard of nothing", scan("--shard", "/")),
    Case("a shard with tables", scan("--shard", "1/2", "--csv", "tables")),
    Case("a head below zero", of_run("show-head", "L-1H0", "-r", "run")),
    Case("a head beyond the last", of_run("show-head", "L0H4", "-r", "run")),
    Case("a head that is no head", of_run("show-head", "head", "-r", "run")),
    Case("a head in other digits", of_run("show-head", "L١H٢", "-r", "run")),
    Case("samples below zero", plain("probes", "show", "story", "-n", "-5")),
    Case("samples of 30 digits", plain("probes", "show", "story", "-n", "9" * 30), harmless=True),
    Case("a self-test with a seed below zero", plain("selftest", "--quick", "--seed", "-1", "-q")),
    # devices and number formats
    Case("an unknown device", scan("--device", "zork")),
    Case("a device without data", scan("--device", "meta")),
    Case("a device of another maker", scan("--device", "hpu")),
    Case("a device that is not here", scan("--device", "cuda:99")),
    Case("a device of a strange number", scan("--device", "cpu:-1")),
    Case("an unknown dtype", scan("--dtype", "float13")),
    Case("a dtype of integers", scan("--dtype", "int8")),
    # other users, special files
    Case("out in the home of nobody", scan("-o", "~nouser-zork/run")),
    Case("a model in the home of nobody", plain("scan", "~nouser-zork/model", "-q")),
    Case("tables in the home of nobody", scan("--csv", "~nouser-zork/tables")),
    Case("out is the root", scan("-o", "/", "--overwrite")),
    Case("out is the current folder", inside_out, "current folder"),
    Case("out is empty", scan("-o", "")),
    Case("out below /proc", scan("-o", "/proc/nothing/run")),
    Case("out below /dev/null", scan("-o", "/dev/null/run")),
    Case("resuming the root", plain("scan", "--resume", "/", "-q")),
    Case("resuming nothing", plain("scan", "--resume", "", "-q")),
    Case("merging the root", plain("merge", "/", "-q")),
    Case("tables below /proc", scan("--csv", "/proc/nothing/tables")),
    Case("the current folder is gone", deleted_folder),
    Case("NUL in a path", scan("-o", "a\0b")),
    Case("NUL in a run", plain("show", "a\0b")),
    Case("NUL in a model", plain("scan", "a\0b", "-q")),
    Case("NUL in probes", plain("scan", "-p", "a\0b", "-q")),
    Case("NUL in the text", typed("\0"), harmless=True),
    Case("a surrogate in a path", plain("show", "a\udcffb")),
    Case("an escape in a path", plain("show", "\x1b[31mred\x1b[0m")),
    Case("a line end in a model", plain("scan", "./a\nb: c. d.", "-q")),
    Case("a bidi override in probes", plain("scan", "-p", "\u202efdp.exe", "-q")),
    # what stands in the way
    Case("out is a file", at(OUT, write)),
    Case("out is a file, overwrite", at(OUT, write, "scan", "--overwrite"), "not a folder"),
    Case("out is a folder of others", at(OUT, write_folder, "scan", "--overwrite"), "not a run"),
    Case("out is a pipe", at(OUT, os.mkfifo, "scan", "--overwrite")),
    Case("out is a link to nothing", at(OUT, spoil.link("nowhere"), "scan", "--overwrite")),
    Case("out is a link to itself", at(OUT, spoil.link(OUT), "scan", "--overwrite")),
    Case("out is a link to the root", at(OUT, spoil.link("/"), "scan", "--overwrite")),
    Case("out is a run already", of_run("judge", "run", "-o", "run", "-q")),
    Case("a parent of out is a file", at("a", write, "scan", "-o", "a/b/run")),
    Case("a parent of out is a link to itself", at("a", spoil.link("a"), "scan", "-o", "a/run")),
    Case("tables in a file", at("t", write, "scan", "--csv", "t")),
    Case("tables over others", at("t", lambda path: (path.mkdir(), write(path / "heads.csv")),
         "scan", "--csv", "t", "--overwrite"), "heads.csv"),
    Case("tables in the run", csv_equal_to_out, "--csv"),
    Case("tables in a link to itself", at("t", spoil.link("t"), "export", "run", "--csv", "t")),
    Case("tables in a pipe", at("t", os.mkfifo, "export", "run", "--csv", "t")),
    Case("a saved state that is a file", at(f".{OUT}.unfinished", write), harmless=True),
    Case("a saved state that is a link", at(f".{OUT}.unfinished", spoil.link("/")), harmless=True),
    Case("leftovers of a strange process",
         at(f".{OUT}.partial-host-{'9' * 30}-00000000", write_folder), harmless=True),
    # contradictions
    Case("resume with another option", of_run("scan", "--resume", "run", "--seed", "3")),
    Case("resume with a model", of_run("scan", "model", "--resume", "run")),
    Case("resume and dry run", of_run("scan", "--resume", "run", "--dry-run")),
    Case("a shard without out", plain("scan", "--shard", "1/2", "-q")),
    Case("a GGUF file without a model", plain("scan", "--gguf", "x.gguf", "-q")),
    Case("text of no word", typed(" "), "no word"),
    Case("text without an end on stdin", endless_text, "more than"),
    Case("text that is longer than the context", typed("dog " * 500), "longer"),
    Case("merge into the shard",
         lambda workplace: ("merge", str(workplace.shards().relative_to(workplace.here)), "-q",
                            "-o", "parts.shard-1-of-2", "--overwrite"), "one of the shards"),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_hostile_command_lines(case: Case, workplace: Workplace) -> None:
    assert_promise(case, workplace)
