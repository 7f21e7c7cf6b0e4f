"""Figures show the run's numbers, have the width of a column, and read no text as mathematics."""

import re
from dataclasses import replace
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


@pytest.mark.parametrize("size", SIZES)
def test_files_are_not_wider_than_their_size(run: Run, tmp_path: Path, size: str) -> None:
    """Words beside or below the axes made the files of a column a quarter wider."""
    for name, figure in drawn(run, size).items():
        save_figure(figure, tmp_path / f"{name}.svg")  # type: ignore[arg-type]
        found = re.search(r'width="([\d.]+)pt"', (tmp_path / f"{name}.svg").read_text("utf-8"))
        assert found and float(found[1]) <= 72 * SIZES[size].width + 1, name


def test_profiles_of_heads_are_drawn_by_the_same_ranges(run: Run) -> None:
    """An open range of some heads (65+) was a column beside those of others (65-128)."""
    profiles = ({"1": 0.5, "9–16": 0.49, "17–32": 0.01}, {"1": 1.0}, {"1": 0.996, "9–16": 0.004})
    views = [
        replace(view, profile=(("1", 0.9), ("9+", 0.1)), full_profile=tuple(profile.items()))
        for view in head_views(run)
        for profile in profiles
    ]
    found = dict(figures(RunFigures("a model", views), SIZES["column"]))
    drawn = [figure for name, figure in found.items() if name.startswith("distances-")]
    assert drawn
    for figure in drawn:
        labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
        assert labels == ["1", "9–16", "17–32"]


def test_ranges_without_an_open_end_are_those_of_all_heads(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    for view in head_views(run):
        names = [name for name, _ in view.full_profile]
        assert not any(name.endswith("+") for name in names)
        assert sum(share for _, share in view.full_profile) == pytest.approx(1)


def test_every_family_has_a_map(run: Run) -> None:
    """The best relations of all were often of one or two families."""
    names = [name for name in drawn(run) if name.startswith("map-")]
    best = run.relations.sort_values("gain_low", ascending=False).drop_duplicates("family")
    first = [f"map-{row.relation}-{row.looks_to}" for row in best.itertuples()]
    assert names[: len(first)] == first


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
