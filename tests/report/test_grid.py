"""The map of all heads: every head once, whatever the width."""

import pytest

from headprobe.report.grid import legend, role_grid
from headprobe.results.views import kind_of
from headprobe.runs.tables import Row


@pytest.mark.parametrize(
    ("n_layers", "n_heads", "n_kv_heads"),
    [(1, 1, 1), (5, 8, 4), (6, 6, 6), (24, 32, 32), (32, 32, 8), (80, 64, 8), (60, 128, 16)],
)
@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_grid_has_one_cell_per_head(
    n_layers: int, n_heads: int, n_kv_heads: int, width: int
) -> None:
    heads = [
        Row({"layer": str(layer), "head": str(head), "role": role, "idle": "false"})
        for layer in range(n_layers)
        for head, role in zip(
            range(n_heads), ("syntax", "coreference", "own") * n_heads, strict=False
        )
    ]
    lines = [line.plain for line in role_grid(heads, n_heads // n_kv_heads, width)]
    assert all(len(line) <= width for line in lines)
    cells = "".join(lines)
    assert sum(cells.count(letter) for letter in "SCN") == n_layers * n_heads
    keys = " ".join(line.plain for line in legend(heads, width))
    assert f"S syntax {sum(head.text('role') == 'syntax' for head in heads):,}" in keys


def test_layers_without_roles_share_a_line_in_tall_models() -> None:
    heads = [
        Row({"layer": str(layer), "head": "0", "role": "syntax" if layer == 9 else "none"})
        for layer in range(80)
    ]
    lines = [line.plain for line in role_grid(heads, 1, 80)]
    assert any("0–8 no role" in line for line in lines)
    assert any("10–79 no role" in line for line in lines)
    assert len(lines) < 10


def test_idle_heads_and_repeaters_have_different_letters() -> None:
    assert kind_of(Row({"role": "redundant", "idle": "true"})) == "idle"
    assert kind_of(Row({"role": "redundant", "idle": "false"})) == "repeater"
