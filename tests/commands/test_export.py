"""Tables in every format: equal values, inert cells, all files or none."""

import importlib.util
from pathlib import Path

import pandas as pd
import pytest

from headprobe.cli.main import run as run_command
from headprobe.commands.export import export, table_writers
from headprobe.errors import HeadprobeError
from headprobe.format import signed
from headprobe.runs.folder import Run
from tests.helpers.synthetic import Size, write_run


def test_parquet_holds_every_table_with_values_and_dtypes(run: Run, tmp_path: Path) -> None:
    written = export(run, tmp_path, table_writers(run, "parquet"))
    assert sorted(path.stem for path in written) == sorted(Path(name).stem for name in run.tables)
    for path in written:
        frame = pd.read_parquet(path)
        pd.testing.assert_frame_equal(frame, getattr(run, path.stem), check_dtype=False)


@pytest.mark.parametrize("form", ["latex", "markdown"])
def test_paper_tables_have_a_row_for_every_claim(run: Run, tmp_path: Path, form: str) -> None:
    path = export(run, tmp_path, table_writers(run, form))[0]
    lines = path.read_text("utf-8").splitlines()
    end, cell = (" \\\\", "&") if form == "latex" else ("|", "|")
    rows = [line for line in lines if line.endswith(end) and line.count(cell) >= 10]
    claims = run.claims
    shown = [row for row in rows if any(name in row for name in claims["name"])]
    assert len(shown) == len(claims)
    for row, claim in zip(shown, claims.itertuples(), strict=True):
        assert claim.name in row and claim.role in row
        if not pd.isna(claim.gain):
            assert signed(claim.gain) in row


def test_long_latex_tables_break_across_pages(tmp_path: Path) -> None:
    run = write_run(tmp_path / "long", size=Size(12, 12, 4))
    assert len(run.claims) > 40
    [path, *_] = export(run, tmp_path / "tables", table_writers(run, "latex"))
    assert r"\begin{longtable}" in path.read_text("utf-8")


def test_hostile_cells_are_escaped(hostile_run: Run, tmp_path: Path) -> None:
    for form in ("latex", "markdown"):
        for path in export(hostile_run, tmp_path / form, table_writers(hostile_run, form)):
            text = path.read_text("utf-8")
            assert not set("\x1b\u202e\x00") & set(text)
            for line in text.splitlines():
                if form == "markdown" and "evil" in line:
                    assert r"\[bold red\]" in line and r"\|" in line


def test_a_missing_library_is_one_line(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    command = ["export", str(run.path), "-o", str(tmp_path / "x"), "--format", "parquet"]
    assert run_command(command) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "pyarrow" in error and "pip install" in error
    assert not (tmp_path / "x").exists()


def test_all_files_are_written_or_none(run: Run, tmp_path: Path) -> None:
    def fail(path: Path) -> None:
        raise OSError(28, "No space left on device")

    first = tmp_path / "heads.csv"
    with pytest.raises(HeadprobeError, match="No space left"):
        export(run, tmp_path, {"heads.csv": lambda path: path.write_text("x"), "b.csv": fail})
    assert not first.exists() and not list(tmp_path.iterdir())


def test_an_unreadable_table_is_named_and_not_the_folder(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    (run.path / "power.csv").unlink()
    (run.path / "power.csv").mkdir()
    with pytest.raises(HeadprobeError, match=r"power\.csv"):
        table_writers(run, "csv")


@pytest.mark.parametrize("form", ["parquet", "latex", "markdown"])
def test_links_and_folders_are_never_replaced(run: Run, tmp_path: Path, form: str) -> None:
    writers = table_writers(run, form)
    name = next(iter(writers))
    victim = tmp_path / "victim"
    victim.write_text("mine")
    folder = tmp_path / "tables"
    folder.mkdir()
    (folder / name).symlink_to(victim)
    with pytest.raises(HeadprobeError, match=name):
        export(run, folder, writers, overwrite=True)
    assert victim.read_text() == "mine"


@pytest.mark.parametrize("form", ["parquet", "latex", "markdown", "csv"])
def test_overwrite_replaces_only_what_headprobe_wrote(run: Run, tmp_path: Path, form: str) -> None:
    writers = table_writers(run, form)
    written = export(run, tmp_path, writers)
    assert export(run, tmp_path, writers, overwrite=True) == written
    written[0].write_text("mine")
    with pytest.raises(HeadprobeError, match="is not a file that headprobe wrote"):
        export(run, tmp_path, writers, overwrite=True)
    assert written[0].read_text() == "mine"


@pytest.mark.parametrize(
    "options",
    [("report", "--png"), ("export", "--format", "svg", "-o")],
    ids=lambda words: words[0],
)
def test_overwrite_replaces_only_figures_that_headprobe_drew(
    run: Run, tmp_path: Path, options: tuple[str, ...]
) -> None:
    command, *rest = options
    words = [command, str(run.path), "-q", *rest, str(tmp_path / "figures"), "--overwrite"]
    assert run_command(words) == 0
    assert run_command(words) == 0
    first, *_ = sorted((tmp_path / "figures").iterdir())
    first.write_text("mine")
    assert run_command(words) == 2
    assert first.read_text() == "mine"
