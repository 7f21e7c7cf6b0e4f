"""Runs in Python and in a notebook: what they show is what the command line prints."""

from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

import headprobe
from headprobe.interface import Run
from headprobe.progress import NotebookProgress, is_notebook
from tests.helpers.probes import PROBES


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("interface") / "run"
    return headprobe.scan(probes=PROBES, out=out, device="cpu")


def test_summary_is_what_show_prints(
    measured: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from headprobe.cli.main import run as run_command

    monkeypatch.setenv("COLUMNS", "100")
    assert run_command(["show", str(measured.path)]) == 0
    printed = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert str(measured.summary()).splitlines() == printed
    assert repr(measured.summary()) == str(measured.summary())


def test_pages_in_a_notebook_are_inert_html(hostile_run: headprobe.interface.Run) -> None:
    run = headprobe.load(hostile_run.path)
    for html in (run._repr_html_(), run.head("L0H1")._repr_html_()):
        assert html.startswith("<pre")
        assert not set("\x1b\u202e\x00") & set(html)
        assert "<script" not in html and "[bold red]" in html


def test_a_head_has_its_page_and_its_tables(measured: Run) -> None:
    head = measured.head("l1h2")
    row = measured.heads.set_index("name").loc["L1H2"]
    assert (head.name, head.role, head.reason) == ("L1H2", row["role"], row["reason"])
    assert len(head.relations) == len(measured.power)
    assert repr(head).splitlines()[0].startswith("L1H2")
    assert head.examples == measured.examples((1, 2))
    with pytest.raises(headprobe.HeadprobeError, match="L99H0"):
        measured.head("L99H0")


def test_attend_gives_rows_that_sum_to_one(measured: Run) -> None:
    text = "The animal did not cross the street because it was too tired."
    frame = measured.attend("L2H0", text)
    words = frame.index.tolist()
    assert words[0] == "The" and "the" in words and words[-1] == "."
    assert frame.columns.tolist() == ["start", "itself", *words]
    assert np.allclose(frame.sum(axis=1), 1, atol=1e-3)
    later = frame[words].to_numpy()[np.triu_indices(len(words))]
    assert np.isnan(later).all()
    with pytest.raises(headprobe.HeadprobeError, match="no word"):
        measured.attend("L2H0", "  ")


def test_figures_and_pages_come_from_one_call_each(measured: Run, tmp_path: Path) -> None:
    assert isinstance(measured.plot_roles(), mpl.figure.Figure)
    with pytest.raises(headprobe.HeadprobeError, match="column, page, slide"):
        measured.plot_roles("poster")
    page = measured.report(tmp_path / "atlas.html")
    assert page.read_text("utf-8").startswith("<!doctype html>")
    with pytest.raises(headprobe.HeadprobeError, match="overwrite=True"):
        measured.report(page)


def test_a_notebook_runs_from_scan_to_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real kernel; its outputs are HTML and a picture, and a bar shows the progress."""
    monkeypatch.setenv("PYTHONPATH", str(Path(headprobe.__file__).parents[1]))
    cells = [
        "import headprobe",
        f"run = headprobe.scan(probes={str(PROBES)!r}, out='run', device='cpu')",
        "run",
        "run.head('L0H1')",
        "run.claims.head()",
        "run.attend('L0H1', 'The cat saw the dog.')",
        "run.plot_roles()",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    client = NotebookClient(notebook, timeout=240, resources={"metadata": {"path": tmp_path}})
    done = client.execute()
    shown = [{kind for out in cell.outputs for kind in out.get("data", {})} for cell in done.cells]
    errors = [out for cell in done.cells for out in cell.outputs if out.output_type == "error"]
    assert not errors
    assert all("text/html" in kinds for kinds in shown[2:6])
    assert "image/png" in shown[6]
    progress = "".join(str(out) for out in done.cells[1].outputs)
    assert "measur" in progress


def test_outside_notebooks_nothing_is_shown() -> None:
    assert not is_notebook()


def test_the_notebook_bar_follows_the_stages(capsys: pytest.CaptureFixture[str]) -> None:
    progress = NotebookProgress()
    progress.stage("measuring", 10, "passages")
    progress.advance(4)
    assert progress._bar.n == 4
    progress.stage("judging")
    progress.finish()
    assert "measuring" in capsys.readouterr().err


WRONG: dict[str, Callable[[Run], object]] = {
    "progress of a number": lambda _: headprobe.scan(progress=5),  # type: ignore[arg-type]
    "a shard, which only the command line has": lambda _: headprobe.scan(shard="1/2", out="part"),
    "a run of a number": lambda _: headprobe.load(5),  # type: ignore[arg-type]
    "a run of a number to judge": lambda _: headprobe.judge(5),  # type: ignore[arg-type]
    "a run of nothing to judge": lambda _: headprobe.judge(None),  # type: ignore[arg-type]
    "no shards": lambda _: headprobe.merge([]),
    "a page with a NUL in its name": lambda run: run.report("a\0b"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_calls_say_what_is_wrong(
    name: str, measured: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As HeadprobeError or TypeError, before anything is written."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises((headprobe.HeadprobeError, TypeError)) as refused:
        WRONG[name](measured)
    assert len(str(refused.value)) > 10
    assert list(tmp_path.iterdir()) == []
