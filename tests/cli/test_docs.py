"""headprobe docs: the topics, a page, and a name that is not there."""

import os
import pty
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from headprobe.cli.main import main
from headprobe.commands.documentation import find_topic, list_topics
from headprobe.errors import HeadprobeError
from headprobe.resources import DOCS

COMMAND = [sys.executable, "-m", "headprobe", "docs"]


def test_docs_lists_every_page() -> None:
    done = subprocess.run(
        COMMAND, capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": "80"}
    )
    header, *lines = done.stdout.partition("\n\n")[0].splitlines()
    assert header.split() == ["topic", "about"]
    assert [line.split()[0] for line in lines] == [topic.name for topic in list_topics()]
    assert len(lines) == len(list(DOCS.glob("*.md")))
    assert "headprobe docs TOPIC" in done.stdout


def test_docs_prints_markdown_without_a_terminal() -> None:
    done = subprocess.run([*COMMAND, "output"], capture_output=True, text=True, check=True)
    assert done.stdout == find_topic("output").text
    assert "\x1b" not in done.stdout
    assert "| `gain_low`, `gain_high` |" in done.stdout


def test_docs_renders_a_page_on_a_terminal() -> None:
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80"}
    environment.pop("NO_COLOR", None)
    with subprocess.Popen([*COMMAND, "rules"], stdout=theirs, env=environment) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                piece = os.read(ours, 4096)
            except OSError:  # Linux reports the end of a terminal as an error
                break
            if not piece:
                break
            shown += piece
    os.close(ours)
    assert process.returncode == 0
    assert b"\x1b[" in shown
    assert b"```" not in shown
    assert b"min_form_folds" in shown


@pytest.mark.parametrize("name", ["changelog", "CHANGELOG", "Changelog.md"])
def test_topics_are_found_in_any_case(name: str) -> None:
    assert find_topic(name).path.name == "CHANGELOG.md"


def test_an_unknown_topic_is_an_error_with_a_suggestion() -> None:
    done = subprocess.run([*COMMAND, "metod\x1b[31m"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "no such topic. Did you mean method? The topics are architecture, " in done.stderr
    assert all(topic.name in done.stderr for topic in list_topics())
    assert "\x1b" not in done.stderr


def test_missing_documentation_is_a_one_line_error(tmp_path: Path) -> None:
    with pytest.raises(HeadprobeError, match="the documentation is missing"):
        list_topics(tmp_path)


def test_docs_starts_quickly_and_without_torch() -> None:
    program = (
        "import sys, headprobe.cli.commands as c\n"
        "c.app(['docs', 'method'], standalone_mode=False)\n"
        "heavy = {'torch', 'transformers', 'numpy', 'pandas'} & sys.modules.keys()\n"
        "sys.exit(f'imports {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    times = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([*COMMAND, "glossary"], capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(times) < 0.6, times  # processor time: other work on the machine slows the clock's


def test_help_names_the_documentation(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["headprobe", "--help"])
    with pytest.raises(SystemExit):
        main()
    assert "headprobe docs" in capsys.readouterr().out.splitlines()[-1]
