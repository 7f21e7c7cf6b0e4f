"""What ablation and takeover say appears where heads are shown, and hostile text stays inert."""

import json
import shutil
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

import headprobe
from headprobe.cli.main import run as run_command
from headprobe.commands.ablate import COLUMNS
from headprobe.commands.show import head_views
from headprobe.commands.takeover import COLUMNS as TAKEOVER_COLUMNS
from headprobe.report.ablation import draw_ablation, row_values, table_values
from headprobe.report.atlas.data import atlas_data
from headprobe.report.atlas.page import draw_atlas
from headprobe.report.takeover import draw_takeover
from headprobe.results.tables import write_csv
from headprobe.runs.folder import ABLATION, TAKEOVER, Run
from tests.helpers.synthetic import HOSTILE


def row(heads: str, effect: float, outcome: str = "loss", name: str = "") -> dict[str, object]:
    numbers = dict.fromkeys(COLUMNS, np.nan)
    return numbers | {
        "set": name or heads,
        "heads": heads,
        "by": "mean",
        "outcome": outcome,
        "n": 90,
        "base": 3.2,
        "effect": effect,
        "effect_low": effect - 0.01,
        "effect_high": effect + 0.01,
        "recovery": 0.81,
        "recovery_low": 0.7,
        "recovery_high": 0.9,
        "recovery_control": 0.12,
        "null": "too few",
        "sets": 3,
        "matched_null": "too few",
        "matched_sets": 0,
        "q": 0.01,
        "important": True,
        "usable": True,
    }


@pytest.fixture
def ablated(hostile_run: Run, tmp_path: Path) -> Run:
    """A run whose tables have an ablation of two heads, of a set, and a takeover."""
    folder = tmp_path / "run"
    shutil.copytree(hostile_run.path, folder)
    unusable = row("L0H1", np.nan, outcome=HOSTILE) | {"usable": False, "q": np.nan}
    rows = [
        row("L0H1", 0.1234),
        row("L1H0", -0.02),
        unusable | {"important": False},
        row("L0H1;L1H0", 0.3, name=HOSTILE),
    ]
    write_csv(pd.DataFrame(rows)[list(COLUMNS)], folder / ABLATION)
    made = dict.fromkeys(TAKEOVER_COLUMNS, np.nan) | {"relation": HOSTILE, "controls": 19}
    takeovers = [
        made | {"ablated": "L0H1", "responder": "L1H0", "interaction": 0.2, "verdict": "running"},
        made
        | {
            "ablated": "L0H1",
            "responder": "L1H1",
            "verdict": "starts",
            "top1_before": 0.25,
            "top1_after": 0.75,
        },
    ]
    write_csv(pd.DataFrame(takeovers), folder / TAKEOVER)
    return Run.load(folder)


def test_heads_are_sorted_by_their_effect(
    ablated: Run, hostile_run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["heads", str(ablated.path), "--sort", "effect", "--json"]) == 0
    heads = json.loads(capsys.readouterr().out)["heads"]
    assert [head["name"] for head in heads[:2]] == ["L0H1", "L1H0"]
    assert heads[0]["effect"] == pytest.approx(0.1234)
    assert heads[2]["effect"] is None
    assert run_command(["heads", str(ablated.path), "--sort", "effect"]) == 0
    assert "+0.123" in capsys.readouterr().out
    assert run_command(["heads", str(hostile_run.path), "--sort", "effect"]) == 2
    assert "headprobe ablate --each" in capsys.readouterr().err


def test_the_page_of_a_head_shows_its_ablation(
    ablated: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["show-head", "L0H1", str(ablated.path)]) == 0
    page = capsys.readouterr().out
    for text in ("+0.123", "0.81 [0.70 0.90]", "0.12", "unusable", "already does the work of L0H1"):
        assert text in " ".join(page.split())
    assert "top1 0.75 instead of 0.25" in " ".join(page.split())
    assert not set("\x1b\u202e\x00") & set(page)
    assert run_command(["show-head", "L0H1", str(ablated.path), "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["ablation"][0]["effect"] == pytest.approx(0.1234)
    assert values["takeover"][0]["ablated"] == "L0H1"


def test_the_atlas_has_effects(ablated: Run) -> None:
    data = atlas_data(ablated, head_views(ablated), [])
    [loss, other] = data["effects"]
    assert loss["outcome"] == "loss"
    assert loss["values"][1] == 123
    assert loss["harm"].count(0) == 1  # that of L1H0, whose effect is negative
    assert other["values"].count(None) == len(data["heads"])
    head = next(head for head in data["heads"] if head["name"] == "L0H1")
    assert head["ablation"][0][2:5] == [123, 113, 133]
    assert len(head["takeover"]) == 2
    page = draw_atlas(data)
    assert not set("\x1b\u202e\x00") & set(page)
    assert "harm of ablation" in page


def test_tables_are_exported_and_read(ablated: Run, tmp_path: Path) -> None:
    words = ["export", "--csv", str(tmp_path / "tables"), "-r", str(ablated.path), "--quiet"]
    assert run_command(words) == 0
    for name in (ABLATION, TAKEOVER):
        assert (tmp_path / "tables" / name).read_bytes() == (ablated.path / name).read_bytes()
    run = headprobe.load(ablated.path)
    assert run.ablation["effect"][0] == pytest.approx(0.1234)
    assert run.takeovers["ablated"].tolist() == ["L0H1", "L0H1"]


@pytest.mark.parametrize("width", [40, 80, 140])
def test_the_table_names_sets_at_every_width(width: int) -> None:
    """Narrow consoles lose columns, but never the set, the outcome or the effect."""
    rows = row_values(pd.DataFrame([row("L13H8;L16H5", 0.1234), row("L0H1", -0.02)]))
    shown = Console(file=StringIO(), width=width, markup=False)
    draw_ablation(rows, shown)
    page = shown.file.getvalue()
    for text in ("L13H8", "L16H5", "loss", "+0.123", "-0.020"):
        assert text in page
    assert ("0.81 [0.70 0.90] / 0.12" in page) == (width == 140)


@pytest.mark.parametrize("width", [40, 80, 140])
def test_takeover_is_answered_in_one_sentence(ablated: Run, width: int) -> None:
    rows = table_values(ablated.takeovers)
    shown = Console(file=StringIO(), width=width, markup=False)
    draw_takeover(rows, shown)
    page = " ".join(shown.file.getvalue().split())
    assert page.startswith("Spare engines: yes. Among 1 ablated head, 1 pair of heads already do")
    for text in ("L0H1", "L1H0", "L1H1", "running", "starts"):
        assert text in page
