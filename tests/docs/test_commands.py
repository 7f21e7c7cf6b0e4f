"""README and the documentation do what they say: their commands are executed.

``headprobe/docs/CONTRIBUTING.md`` describes how blocks are marked. The commands run in this
process, because importing torch anew for each would take longer than they do.
"""

import doctest
import re
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from typer.main import get_command

import headprobe
from headprobe.cli.commands import app
from headprobe.cli.main import main
from headprobe.probes.relations import MAKERS
from headprobe.resources import DEMO_MODEL, configs_folder
from tests.docs.markdown import PAGES, ROOT, blocks

FEWER = {"scan": ("--max-passages", "12"), "ablate": ("--sets", "2")}
"""Options that make commands quick here: passages to measure, random sets."""

DOCUMENTS = 30
"""Documents of ``treebank.conllu``."""

Execute = Callable[[str], str]


@pytest.fixture
def sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder of a page, with the files that its commands may name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    (tmp_path / "my-model").symlink_to(DEMO_MODEL, target_is_directory=True)
    (tmp_path / "configs").symlink_to(configs_folder(), target_is_directory=True)
    bundled = (configs_folder() / "probes" / "natural.conllu").read_text("utf-8")
    documents = bundled.split("# newdoc")[: DOCUMENTS + 1]
    (tmp_path / "treebank.conllu").write_text("# newdoc".join(documents), "utf-8")
    before = signal.getsignal(signal.SIGTERM)
    with patch.dict(MAKERS):  # a page adds one
        yield tmp_path
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def execute(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Execute:
    """Runs a command line; returns its stdout."""

    def run(line: str) -> str:
        program, *words = shlex.split(line)
        assert program == "headprobe", f"cannot be executed here, say why not: {line}"
        words += FEWER.get(words[0], ())
        monkeypatch.setattr(sys, "argv", [program, *words])
        with pytest.raises(SystemExit) as left:
            main()
        output, errors = capsys.readouterr()
        assert left.value.code == 0, f"{line}\n{errors}"
        return output

    return run


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_blocks_of_a_page_run(sandbox: Path, execute: Execute, page: Path) -> None:
    names: dict[str, object] = {}
    for block in filter(lambda block: block.is_run, blocks(page)):
        if block.file:
            (sandbox / block.file).write_text(block.body, "utf-8")
        for line, expected in block.commands:
            output = execute(line)
            if expected:
                assert matches(expected, output), f"{line}\n{output}"
        if block.language == "python":
            exec(compile(block.body, str(page), "exec"), names)  # noqa: S102


def matches(expected: str, output: str) -> bool:
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    return doctest.OutputChecker().check_output(expected, output, flags)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_unexecuted_commands_exist(page: Path) -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    for block in blocks(page):
        for line, _ in block.commands:
            words = shlex.split(line)
            if "headprobe" in words:
                unknown = unknown_options(words[words.index("headprobe") + 1 :])
                assert not unknown, line
            elif words[0] == "make":
                assert words[1] in targets, line


def unknown_options(words: list[str]) -> set[str]:
    """The options of a command line that its command does not have. Fails for unknown commands."""
    command: Any = get_command(app)
    while words and words[0] in getattr(command, "commands", {}):
        command, words = command.commands[words[0]], words[1:]
    assert not hasattr(command, "commands") or not words or words[0].startswith("-"), words
    known = {option for parameter in command.params for option in parameter.opts}
    return {word for word in words if re.match(r"--?[a-z]", word)} - known - {"--help"}


def test_the_checks_can_fail(sandbox: Path, execute: Execute) -> None:
    assert not matches("one\n...\nthree\n", "one\ntwo\n")
    assert unknown_options(["scan", "--no-such-option"]) == {"--no-such-option"}
    with pytest.raises(AssertionError):
        execute("headprobe judge no-such-run")
    assert headprobe.__version__ in execute("headprobe --version")
