"""``heads`` and ``show-head``: how heads and runs are named, and what the shell completes."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import headprobe
from headprobe.cli.main import run as command_line
from headprobe.runs.folder import RUNS, Run
from headprobe.runs.recent import remember_run
from tests.helpers.synthetic import Size, write_run

Typed = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with runs in ``headprobe-runs`` and beside it."""
    folder = tmp_path_factory.mktemp("heads")
    write_run(folder / RUNS / "first")
    write_run(folder / RUNS / "second")
    write_run(folder / "apart", Size(2, 4, 2))
    yield folder


@pytest.fixture
def typed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Typed:
    """Runs ``headprobe WORDS`` in the folder; returns exit code, stdout and stderr."""
    monkeypatch.chdir(folder)

    def run(*words: str) -> tuple[int, str, str]:
        code = command_line(words)
        return code, *capsys.readouterr()

    return run


def test_several_heads_and_the_run_in_any_order(typed: Typed) -> None:
    code, out, err = typed("show-head", "L1H2", "apart", "0.1", "L1H2")
    assert (code, err) == (0, "")
    titles = [line.split("  ")[0] for line in out.splitlines() if line[:1] == "L"]
    assert titles == ["L1H2", "L0H1"]  # each once
    assert typed("show-head", "L1H2", "0.1", "-r", "apart") == (0, out, "")
    assert typed("show-head", "L1H2", "0.1", "--run", "apart") == (0, out, "")


def test_json_is_an_object_for_one_head_and_a_list_for_several(typed: Typed) -> None:
    one = json.loads(typed("show-head", "L1H2", "apart", "--json")[1])
    assert one["head"]["name"] == "L1H2"
    assert isinstance(one["head"]["roles"], list)
    several = json.loads(typed("show-head", "L1H2", "L0H1", "apart", "--json")[1])
    assert [each["head"]["name"] for each in several] == ["L1H2", "L0H1"]
    assert several[0] == one


@pytest.mark.parametrize("command", ["show", "heads", "judge"])
def test_every_command_takes_the_run_as_an_argument_and_as_an_option(
    typed: Typed, command: str
) -> None:
    words = ("-o", "judged", "--overwrite") if command == "judge" else ()
    if command == "judge":  # a run made by hand cannot be judged; the message names it
        assert typed(command, "apart", *words)[2] == typed(command, "-r", "apart", *words)[2]
        return
    code, out, err = typed(command, "apart", *words)
    assert (code, err) == (0, "")
    assert typed(command, "-r", "apart", *words) == (0, out, "")
    assert typed(command, "apart", "-r", "apart", *words) == (0, out, "")
    assert typed(command, "apart", "-r", "first", *words) == (
        2,
        "",
        "-r first: apart is named as the run, too. Name one run.\n",
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["apart"], "show-head: no head is named. Write headprobe show-head -r apart L12H5."),
        (["L0H0", "apart", "first"], "first: apart is named as the run, too. Name one run."),
        (["L0H0", "nowhere"], "nowhere: neither a head nor the folder of a run. Write heads as"),
        (["L0H0", "five", "six"], "head 'five': not the name of a head."),
        (["L0H0", "L9H9", "apart"], "L9H9: the model has 2 layers of 4 heads."),
        (["L0H0", "a\0b"], "path 'a\\x00b': cannot be used"),
    ],
)
def test_mistakes_are_one_line(typed: Typed, words: list[str], message: str) -> None:
    code, out, err = typed("show-head", *words)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert err.startswith(message)


def test_heads_prints_what_json_has(typed: Typed) -> None:
    words = ("heads", "first", "--role", "syntax", "--sort", "gain", "--top", "3")
    values = json.loads(typed(*words, "--json")[1])
    page = typed(*words)[1].splitlines()
    assert (
        page[0]
        == f"3 of {values['total']} heads with syntax, by gain; all: --top {values['total']}"
    )
    names = [head["name"] for head in values["heads"]]
    assert [line.split()[0] for line in page if line[:1] == "L"] == names
    assert "no head with induction" in typed("heads", "first", "--role", "induction")[1]
    assert typed("heads", "first", "--top", "0")[0] == 2


def test_without_a_run_the_one_written_last_is_used_and_named(typed: Typed, folder: Path) -> None:
    remember_run(folder / "apart")
    code, _, err = typed("show-head", "L1H2")
    assert (code, err) == (0, "run: apart\n")
    assert typed("heads", "--quiet")[2] == ""
    _, out, _ = typed("show", "first")
    assert "-r headprobe-runs/first" in out  # without it, the next command would show another run
    remember_run(folder / RUNS / "first")
    _, out, _ = typed("show", "first")
    assert "-r headprobe-runs/first" not in out


def test_commands_that_write_a_run_remember_it(
    scanned: Callable[..., Run],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    checkpoint: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from headprobe.runs.recent import last_run

    probes = str(Path(__file__).parents[1] / "data" / "tiny.conllu")
    words = ["scan", str(checkpoint), "-p", probes, "--device", "cpu", "-q"]
    assert command_line([*words, "-o", str(tmp_path / "one")]) == 0
    assert last_run() == tmp_path / "one"
    assert command_line(["judge", "-q", "-o", str(tmp_path / "two")]) == 0
    assert last_run() == tmp_path / "two"
    for shard in ("1/2", "2/2"):
        assert command_line([*words, "-o", str(tmp_path / "three"), "--shard", shard]) == 0
    assert last_run() == tmp_path / "two"  # a shard is no run
    assert command_line(["merge", str(tmp_path / "three"), "-q"]) == 0
    assert last_run() == tmp_path / "three"
    with pytest.warns(UserWarning, match="bits per byte"):
        written = headprobe.scan(checkpoint, probes, device="cpu", out=tmp_path / "four")
    assert last_run() == written.path
    with pytest.warns(UserWarning, match="bits per byte"):
        headprobe.judge(tmp_path / "one")
    assert last_run() == tmp_path / "one"
    monkeypatch.setenv("HEADPROBE_STATE", os.devnull)
    assert command_line([*words, "-o", str(tmp_path / "five")]) == 0
    capsys.readouterr()


def completions(folder: Path, *words: str) -> list[str]:
    """What bash is offered for the last of the words."""
    done = subprocess.run(
        [sys.executable, "-m", "headprobe"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={
            **os.environ,
            "PYTHONPATH": str(Path(headprobe.__file__).parents[1]),
            "_HEADPROBE_COMPLETE": "complete_bash",
            "COMP_WORDS": " ".join(["headprobe", *words]),
            "COMP_CWORD": str(len(words)),
        },
    )
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["show-h"], ["show-head"]),
        (["show", "fir"], ["first"]),
        (["show", "./a"], ["./apart"]),
        (["export", "-r", "sec"], ["second"]),
        (["show-head", "apart", "L1"], ["L1H0", "L1H1", "L1H2", "L1H3"]),
        (["show-head", "-r", "apart", "L0H3"], ["L0H3"]),
        (["show-head", "L0H0", "ap"], ["apart"]),
        (["heads", "--role", "coref"], ["coreference"]),
        (["show-head", "nowhere", "L1"], []),
    ],
)
def test_the_shell_completes_runs_heads_and_roles(
    folder: Path, words: list[str], offered: list[str]
) -> None:
    assert completions(folder, *words) == offered


@pytest.mark.parametrize("shell", ["bash", "fish", "zsh"])
def test_completion_is_installed_for_a_shell(tmp_path: Path, shell: str) -> None:
    home = tmp_path / "home"
    home.mkdir()
    environment = {
        **os.environ,
        "HOME": str(home),
        "PYTHONPATH": str(Path(headprobe.__file__).parents[1]),
        "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1",
    }
    words = [sys.executable, "-m", "headprobe", "--install-completion", shell]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    written = [path.read_text() for path in home.rglob("*") if path.is_file()]
    assert any("_HEADPROBE_COMPLETE" in text for text in written)
    home_is_a_file = {**environment, "HOME": str(tmp_path / "file")}
    (tmp_path / "file").write_text("")
    done = subprocess.run(words, env=home_is_a_file, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("--install-completion: ")
    assert len(done.stderr.splitlines()) == 1
