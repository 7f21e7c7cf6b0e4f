"""Figures show the run's numbers, have the width of a column, and read no text as mathematics."""

import re
from pathlib import Path

import pytest

from headprobe.cli.main import run as run_command
from headprobe.commands.show import head_views
from headprobe.report.figures import SIZES, RunFigures, figures, save_figure
from headprobe.runs.folder import Run
from tests.helpers.synthetic import Size, write_run


def drawn(run: Run, size: str = "column") -> dict[str, object]:
    return dict(figures(RunFigures("a model", tuple(head_views(run))), SIZES[size]))


def test_every_role_and_relation_has_its_figure(run: Run) -> None:
    names = set(drawn(run))
    roles = set(run.relations["role"].dropna())
    assert {"roles", *(f"gains-{role}" for role in roles)} <= names
    assert {f"distances-{role}" for role in roles} <= names
    assert sum(name.startswith("map-") for name in names) == min(6, len(run.power))


def test_points_and_ends_are_those_of_the_table(run: Run) -> None:
    role = run.relations["role"].dropna().iloc[0]
    [axes] = drawn(run)[f"gains-{role}"].axes  # type: ignore[attr-defined]
    earned = run.relations[run.relations["role"] == role].sort_values("gain_low", ascending=False)
    points = [line.get_xdata() for line in axes.lines if len(line.get_xdata()) == 1]
    assert [float(point[0]) for point in points] == earned["gain"].tolist()[:16]
    labels = [label.get_text().split()[0] for label in axes.get_yticklabels()]
    assert labels == earned["name"].tolist()[:16]


@pytest.mark.parametrize("size", SIZES)
def test_figures_have_the_width_they_are_for(run: Run, size: str) -> None:
    for name, figure in drawn(run, size).items():
        width, height = figure.get_size_inches()  # type: ignore[attr-defined]
        assert width <= SIZES[size].width + 0.01, name
        assert height < 9, name


def test_tall_models_lie_sideways_on_slides(tmp_path: Path) -> None:
    run = write_run(tmp_path / "tall", size=Size(24, 4, 2))
    axes = drawn(run, "slide")["roles"].axes[0]  # type: ignore[attr-defined]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("layer", "head")


def test_hostile_names_are_drawn_as_text(hostile_run: Run, tmp_path: Path) -> None:
    views = tuple(head_views(hostile_run))
    for name, figure in figures(RunFigures(r"$\frac{1}$ \x", views), SIZES["column"]):
        assert re.fullmatch(r"[a-z0-9-]+", name)
        save_figure(figure, tmp_path / f"{name}.svg")
    assert (tmp_path / "roles.svg").read_text("utf-8").startswith("<?xml")


def test_svg_files_are_equal_from_run_to_run(run: Run, tmp_path: Path) -> None:
    for folder in (tmp_path / "a", tmp_path / "b"):
        assert run_command(["export", str(run.path), "-o", str(folder), "--format", "svg"]) == 0
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert len(names) > 3
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
