"""The page of a comparison: its sentence, its tables, and text from outside."""

import csv
import io
from dataclasses import replace
from pathlib import Path

import pytest

from headprobe.report.comparison import answer, draw_comparison
from headprobe.report.layout import console
from headprobe.results.comparison import ComparedHead, Comparison, Side, comparison_table
from headprobe.results.tables import write_csv
from tests.helpers.synthetic import HOSTILE


def side(name: str, *, twin: bool = True) -> Side:
    depth = {"syntax": (1, 0, 0, 1), "none": (0, 1, 1, 0)}
    return Side(Path(name), f"models/{name}", "float32", ("gum",), 4, 1, 2, 0.75, twin, depth)


def head(number: int, roles: str, **changes: object) -> ComparedHead:
    role_a, role_b = roles.split()
    plain = ComparedHead(
        f"L{number}H0", f"L{3 - number}H0", 0.98, 0.9, True, True, role_a, role_b, 0.8
    )
    return replace(plain, **changes)


TWO_MODELS = Comparison(
    a=side("a"),
    b=side("b"),
    same_model=False,
    text="same",
    rows=200,
    heads=(
        head(0, "syntax syntax"),
        head(1, "none syntax", matched=False),
        head(2, "syntax none"),
        head(3, "none none", matched=False, nearest=False),
    ),
    agreement=None,
    kappa=None,
    seats={"observed": 1, "expected": 0.5, "p": 0.4},
)

NUMBERS = {
    "family": "coreference",
    "relation": "pronoun-strict",
    "looks_to": "antecedent",
    "gain_a": 0.4,
    "gain_b": 0.1,
    "change": -0.3,
    "change_low": -0.4,
    "change_high": -0.2,
    "q": 0.001,
}

ONE_MODEL = replace(
    TWO_MODELS,
    same_model=True,
    text="other",
    heads=(
        head(0, "coreference none", **NUMBERS),
        head(1, "none syntax", **{**NUMBERS, "q": 0.4}),
        head(2, "syntax syntax"),
        head(3, "none none"),
    ),
    agreement=0.5,
    kappa=0.2,
    seats=None,
)


def page(comparison: Comparison, width: int = 100) -> str:
    stream = io.StringIO()
    draw_comparison(comparison, console(stream, width))
    return stream.getvalue()


def test_two_models_are_answered_in_a_sentence() -> None:
    assert answer(TWO_MODELS) == (
        "2 of the 4 heads of A have a counterpart in B; of the 2 with a role in A, 2 have one, "
        "and 1 of these holds the same role. Equal seats hold equal roles no more often than "
        "chance (1, expected 0.5, p .400)."
    )
    lines = page(TWO_MODELS).splitlines()
    assert " ".join(lines[: lines.index("")]) == answer(TWO_MODELS)
    assert "L0H0  syntax  L3H0  syntax      .980   .900  yes       +.80" in lines
    assert not any(line.startswith("L1H0") for line in lines)  # A gives it no role


def test_without_a_twin_nothing_is_called_a_match() -> None:
    heads = tuple(replace(each, matched=None, floor95=None) for each in TWO_MODELS.heads)
    found = replace(TWO_MODELS, b=side("b", twin=False), heads=heads, notes=("Scan with --twin.",))
    assert "without a random twin of both, none is called a match" in answer(found)
    assert "candidate" in page(found) and "note: Scan with --twin." in page(found)


def test_one_model_on_two_texts() -> None:
    assert answer(ONE_MODEL) == (
        "2 of 4 heads have the same role in both runs (kappa .20): of the 2 with a role in A, 1 "
        "has the same role in B. The gain of 1 head changes clearly (q < .05), by -.300 at most "
        "(L0H0)."
    )
    shown = page(ONE_MODEL)
    assert "L0H0  pronoun → its antecedent" in shown
    assert "what only text A shows" in shown and "coreference  L0H0 (none)" in shown
    assert "what only text B shows" in shown and "syntax  L1H0 (none)" in shown


@pytest.mark.parametrize("width", [40, 80, 200])
@pytest.mark.parametrize("comparison", [TWO_MODELS, ONE_MODEL])
def test_hostile_text_comes_out_as_text(comparison: Comparison, width: int, tmp_path: Path) -> None:
    role = HOSTILE.replace("\x00", "")
    hostile = replace(
        comparison,
        a=replace(comparison.a, model=HOSTILE, details=HOSTILE, probes=(HOSTILE,)),
        heads=tuple(
            replace(each, role_a=role, role_b="none", relation=role, family=role, q=0.001, change=1)
            for each in comparison.heads
        ),
        notes=(HOSTILE,),
    )
    shown = page(hostile, width)
    assert not any(character in shown for character in "\x1b\u202e\x00\r")
    assert "[bold red]x[/]" in shown.replace("\n", "") or width == 40
    write_csv(comparison_table(hostile), tmp_path / "compare.csv")
    with (tmp_path / "compare.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            assert not any(cell.startswith(("=", "+", "@")) for cell in row.values())
