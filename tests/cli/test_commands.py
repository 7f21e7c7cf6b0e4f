"""What people type, what they get back, and what it may load."""

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import headprobe
from headprobe.runs.folder import RUNS, Run
from tests.helpers.synthetic import write_run

HEAVY = ("torch", "transformers", "pandas", "scipy")

HYGIENE = f"""
import sys
from headprobe.cli.main import main
try:
    main()
finally:
    loaded = [name for name in {HEAVY!r} if name in sys.modules]
    print("loaded:", loaded, file=sys.stderr)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A current folder with two runs in it."""
    folder = tmp_path_factory.mktemp("cli")
    write_run(folder / RUNS / "first")
    write_run(folder / RUNS / "second", hostile=True)
    yield folder


def typed(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """``headprobe WORDS`` in ``folder``, as a user would type it."""
    return subprocess.run(
        [sys.executable, "-c", HYGIENE, *words],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(headprobe.__file__).parents[1]), **environment},
    )


def said(result: subprocess.CompletedProcess[str]) -> list[str]:
    """The lines on stderr, without what ``HYGIENE`` adds."""
    return [line for line in result.stderr.splitlines() if not line.startswith("loaded:")]


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["--version"],
        ["scan", "--help"],
        ["runs"],
        ["runs", "--json"],
        ["show-head", "L1H2"],
        ["show-head", "L1H2", "--json"],
        ["show-head", "L1H2", "L0H0", "first"],
        ["show"],
        ["heads", "--role", "syntax"],
        ["show-head", "L99H0"],
        ["export", "--csv", "hygiene"],
    ],
)
def test_light_commands_do_not_import_heavy_libraries(folder: Path, words: list[str]) -> None:
    if words[0] == "export":
        words = [*words, "--overwrite"]
    result = typed(folder, *words)
    assert result.returncode in (0, 2)
    assert result.stderr.splitlines()[-1] == "loaded: []"
    assert "\x1b" not in result.stdout + result.stderr


def test_no_arguments_print_the_help(folder: Path) -> None:
    result = typed(folder)
    assert result.returncode == 0
    assert "scan" in result.stdout


def test_version_prints_the_package_version(folder: Path) -> None:
    assert typed(folder, "--version").stdout == f"headprobe {headprobe.__version__}\n"


def test_probes_show_prints_json(folder: Path) -> None:
    result = typed(folder, "probes", "show", "story", "-n", "2", "--json")
    assert result.returncode == 0
    assert [sample["domain"] for sample in json.loads(result.stdout)] == ["story", "story"]


@pytest.mark.parametrize("name", ["L1H2", "l1h2", "1.2", "1-2"])
def test_show_head_accepts_every_spelling_of_a_head(folder: Path, name: str) -> None:
    result = typed(folder, "show-head", name, "-r", "first")
    assert result.returncode == 0
    assert result.stdout.startswith("L1H2  ")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            ["show-head", "L4H0"],
            "L4H0: the model has 4 layers of 8 heads. Name one from L0H0 to L3H7.",
        ),
        (
            ["show-head", "L0H8"],
            "L0H8: the model has 4 layers of 8 heads. Name one from L0H0 to L3H7.",
        ),
        (["show-head", "five"], "head 'five': not the name of a head."),
        (["show-head", "L0H\x1b[31m"], "not the name of a head"),
        (["show-head", "L0H0", "-r", "nowhere"], "nowhere: no such folder."),
        (["show-head"], "Missing argument 'HEAD'"),
        (["scna"], "No such command 'scna'. Did you mean 'scan'? See"),
        (["xyz"], "No such command 'xyz'. See headprobe --help."),
        (["scan", "--devise", "cpu"], "--device"),
        (["scan", "--max-passages", "many"], "max-passages"),
        (["scan", "--max-passages", "0"], "--max-passages 0: too small. Give 1 or more."),
        (["scan", "--seed", "-1"], "--seed -1: too small. Give 0 or more."),
        (["selftest", "--seed", "-1"], "--seed: is negative."),
        (["export", "nowhere", "--csv", "out"], "nowhere: no such folder."),
        (["probes", "show", "nothing-like-it"], "nothing-like-it"),
    ],
)
def test_user_errors_are_one_line_and_exit_2(folder: Path, words: list[str], expected: str) -> None:
    result = typed(folder, *words)
    assert result.returncode == 2
    assert result.stdout == ""
    lines = [line for line in said(result) if not line.startswith("run: ")]
    assert len(lines) == 1
    assert expected in lines[0]
    assert "\x1b" not in result.stderr


def test_the_default_run_is_the_newest_and_is_named(folder: Path) -> None:
    result = typed(folder, "show-head", "L0H0")
    assert said(result) == ["run: headprobe-runs/second"]
    assert said(typed(folder, "show-head", "L0H0", "--quiet")) == []


def test_without_runs_the_message_names_the_scan_command(tmp_path: Path) -> None:
    result = typed(tmp_path, "show-head", "L0H0")
    assert result.returncode == 2
    assert "headprobe scan" in said(result)[0]
    listed = typed(tmp_path, "runs")
    assert (listed.returncode, listed.stdout) == (0, "")
    assert "headprobe scan" in said(listed)[0]


def test_runs_lists_another_folder(folder: Path) -> None:
    listed = typed(folder.parent, "runs", str(folder / RUNS), "--quiet")
    assert [Path(line).name for line in listed.stdout.splitlines()] == ["second", "first"]
    missing = typed(folder, "runs", "nowhere")
    assert missing.returncode == 2
    assert said(missing)[0].startswith("nowhere: no such folder.")


def test_json_output_is_parseable(folder: Path) -> None:
    runs = json.loads(typed(folder, "runs", "--json").stdout)
    assert [Path(each["run"]).name for each in runs] == ["second", "first"]
    assert runs[0].keys() >= {"model", "probes", "started", "seconds"}
    assert not any(isinstance(value, dict) for value in runs[0].values())  # no whole manifests
    head = json.loads(typed(folder, "show-head", "1.2", "--json", "-r", "second").stdout)
    assert head["head"]["name"] == "L1H2"
    assert isinstance(head["head"]["sink"], float)
    assert head["head"]["idle"] is False
    assert len(head["relations"]) == 6
    assert abs(sum(each["share"] for each in head["profile"]) - 1) < 1e-6


@pytest.mark.parametrize("kind", ["file", "link", "folder"])
def test_export_with_overwrite_replaces_only_tables(
    folder: Path, tmp_path: Path, kind: str
) -> None:
    """Neither a file of another kind nor a link, whatever the name."""
    table = tmp_path / "tables" / "pairs.csv"
    table.parent.mkdir()
    if kind == "file":
        table.write_text("chapter,words\n")
    elif kind == "link":
        table.symlink_to(folder / RUNS / "first" / "pairs.csv")
    else:
        table.mkdir()
    words = ["export", "first", "--csv", str(table.parent), "--overwrite"]
    result = typed(folder, *words)
    assert result.returncode == 2
    assert "pairs.csv: is not a file that headprobe wrote. Move it elsewhere" in result.stderr
    assert list(table.parent.iterdir()) == [table]
    table.rename(tmp_path / "elsewhere")  # the remedy
    assert typed(folder, *words).returncode == 0
    assert typed(folder, *words).returncode == 0  # all are tables now


def test_export_copies_tables_and_does_not_overwrite_by_default(folder: Path) -> None:
    result = typed(folder, "export", "first", "--csv", "tables")
    assert result.returncode == 0
    assert result.stdout.splitlines()[0] == "tables/heads.csv"
    copied = (folder / "tables" / "heads.csv").read_bytes()
    assert copied == (folder / RUNS / "first" / "heads.csv").read_bytes()
    again = typed(folder, "export", "second", "--csv", "tables")
    assert again.returncode == 2
    assert (folder / "tables" / "heads.csv").read_bytes() == copied
    forced = typed(folder, "export", "second", "--csv", "tables", "--overwrite", "--quiet")
    assert (forced.returncode, forced.stdout) == (0, "")
    assert (folder / "tables" / "heads.csv").read_bytes() != copied
    itself = typed(folder, "export", "first", "--csv", "headprobe-runs/first", "--overwrite")
    assert itself.returncode == 2
    assert Run.load(folder / RUNS / "first").rows("heads.csv")


def test_export_without_a_folder_writes_to_one_named_after_run_and_format(folder: Path) -> None:
    result = typed(folder, "export", "first")
    assert result.returncode == 0
    assert result.stdout.splitlines()[0] == "first-csv/heads.csv"
    assert "Replace it" not in result.stderr
    again = typed(folder, "export", "first")
    assert again.returncode == 2
    assert "first-csv/heads.csv: exists already." in again.stderr


def test_help_names_no_python_types(folder: Path) -> None:
    for words in (["scan"], ["merge"], ["show-head"], ["probes", "show"], ["selftest"], ["docs"]):
        shown = typed(folder, *words, "--help").stdout
        assert "Usage:" in shown
        assert not re.search(r"<(str|path|list.*|int)>|x>=", shown), shown


@pytest.mark.parametrize("table", ["heads.csv", "relations.csv", "tallies.npz", "examples.jsonl"])
def test_a_damaged_run_is_a_one_line_error(tmp_path: Path, table: str) -> None:
    write_run(tmp_path / RUNS / "run")
    (tmp_path / RUNS / "run" / table).unlink()
    result = typed(tmp_path, "show-head", "L0H0", "-q")
    assert result.returncode == 2
    assert len(said(result)) == 1
    (tmp_path / RUNS / "run" / table).write_bytes(b'layer,head\n0,0,1\n{"layer": 0, "head": 0, x\n')
    result = typed(tmp_path, "show-head", "L0H0", "-q")
    assert result.returncode == 2
    assert len(said(result)) == 1


def test_a_reader_that_closes_early_is_not_an_error(folder: Path) -> None:
    command = (
        f"{sys.executable} -m headprobe show-head L0H0 -q -r first | true; echo ${{PIPESTATUS[0]}}"
    )
    result = subprocess.run(
        ["/bin/bash", "-c", command],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(headprobe.__file__).parents[1])},
    )
    assert result.stdout == "0\n"
    assert result.stderr == ""


def test_terminals_get_colour_unless_no_color_is_set(folder: Path) -> None:
    def on_terminal(**environment: str) -> str:
        parent, child = pty.openpty()
        with subprocess.Popen(
            [sys.executable, "-m", "headprobe", "show-head", "L0H0", "-r", "second"],
            cwd=folder,
            stdout=child,
            stderr=subprocess.DEVNULL,
            env={
                **os.environ,
                "TERM": "xterm-256color",
                "COLUMNS": "80",
                "PYTHONPATH": str(Path(headprobe.__file__).parents[1]),
                **environment,
            },
        ):
            os.close(child)
            pieces = []
            while True:
                try:
                    piece = os.read(parent, 4096)
                except OSError:
                    break
                if not piece:
                    break
                pieces.append(piece)
        os.close(parent)
        return b"".join(pieces).decode()

    coloured = on_terminal()
    assert "\x1b[1m" in coloured
    assert "\u202e" not in coloured
    assert "\x1b[3" not in on_terminal(NO_COLOR="1")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_without_unicode_still_gets_the_text(folder: Path, encoding: str) -> None:
    result = typed(folder, "show-head", "L0H0", "-r", "first", PYTHONIOENCODING=encoding)
    assert result.returncode == 0
    assert result.stdout.startswith("L0H0")
