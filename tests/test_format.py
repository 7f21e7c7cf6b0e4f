"""Text of others comes out visible, on one line, and harmless."""

import csv
import re
import unicodedata
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headprobe.format import clip, clip_start, relation_words, safe_text, text_loss
from headprobe.results.tables import write_csv
from headprobe.runs.tables import guard, iterate_rows, read_frame, unguard

ANY_TEXT = st.text(st.characters(), max_size=40)


@given(ANY_TEXT)
def test_plain_hides_nothing(text: str) -> None:
    shown = safe_text(text)
    hidden = {character for character in shown if unicodedata.category(character)[0] == "C"}
    assert hidden <= {"\u200c", "\u200d"}
    assert len(shown.splitlines()) <= 1
    shown.encode()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("[red]x[/red] :smile:", "[red]x[/red] :smile:"),
        ("a\x1b[31mb", "a\\x1b[31mb"),
        ("a\u202eb\u2066", "a\\u202eb\\u2066"),
        ("line\nbreak\ttab\r", "line\\nbreak\\ttab\\r"),
        ("\x9b31m", "\\x9b31m"),
        ("\ud800", "\\ud800"),
        ("a\u200db", "a\\u200db"),
        ("می‌خواهم", "می‌خواهم"),
        ("猫 é ñ", "猫 é ñ"),
    ],
)
def test_plain_by_example(text: str, shown: str) -> None:
    assert safe_text(text) == shown


@given(ANY_TEXT, st.integers(min_value=1, max_value=30))
def test_clipped_text_fits(text: str, width: int) -> None:
    assert len(clip(text, width)) <= width
    assert len(clip_start(text, width)) <= width


@given(ANY_TEXT)
def test_a_guarded_cell_starts_no_formula_and_comes_back(text: str) -> None:
    cell = guard(text)
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
    for part in re.split(r"[;\t\r\n]", cell):
        assert not part.lstrip(' "').startswith(("=", "+", "-", "@"))
    assert unguard(cell) == text


FORMULAS = [
    "x;=1+1",
    "a;=cmd|'/c'!A0",
    "a;;+1",
    'a;"=1"',
    "a; =1",
    "a;'=1",
    ";@SUM(A1)",
    "a\t-1+1",
    "a;＝1",
    "=1;=2;=3",
    "'=1;'=2",
]
PLAIN = ["coreference;syntax", "gain +.40; it beats - and =", "a;b'=c", "it's; 'so'", "5' 3\""]


@pytest.mark.parametrize("text", [*FORMULAS, *PLAIN])
def test_formulas_after_separators(text: str, tmp_path: Path) -> None:
    """Neither our reader nor pandas, nor a spreadsheet that splits at ``;`` or tabs, gets one; what
    is no formula stays as it is."""
    path = tmp_path / "skipped.csv"
    frame = pd.DataFrame({"source": [text, "z"], "what": ["w", text], "count": [1, 2]})
    write_csv(frame, path)
    raw = pd.read_csv(path)
    assert raw.shape == (2, 3)
    assert raw["count"].tolist() == [1, 2]
    assert [unguard(cell) for cell in raw["source"]] == [safe_text(text), "z"]
    if text in PLAIN:
        assert raw["source"][0] == raw["what"][1] == text
    assert read_frame(path)["source"][0] == read_frame(path)["what"][1] == safe_text(text)
    assert [row.text("what") for row in iterate_rows(path)] == ["w", safe_text(text)]
    for delimiter in (",", ";", "\t"):
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.reader(file, delimiter=delimiter):
                for cell in row:
                    assert not cell.strip(' "').startswith(("=", "+", "-", "@", "＝"))


@given(st.lists(ANY_TEXT, min_size=1, max_size=5))
def test_csv_cells_are_safe_whatever_they_hold(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str]
) -> None:
    path = tmp_path_factory.mktemp("csv") / "skipped.csv"
    frame = pd.DataFrame({"source": pd.Series(texts, dtype=object), "gain": [-0.5] * len(texts)})
    write_csv(frame, path)
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert len(rows) == 1 + len(texts)
    for row, text in zip(rows[1:], texts, strict=True):
        assert not row[0].startswith(("=", "+", "-", "@", "\t", "\r"))
        assert unguard(row[0]) == safe_text(text)
        assert row[1] == "-0.5"
    assert path.read_text(encoding="utf-8").count("\n") == 1 + len(texts)
    assert [row.text("source") for row in iterate_rows(path)] == [safe_text(text) for text in texts]


def test_numbers_keep_six_digits_and_gaps_stay_empty(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    path = tmp_path_factory.mktemp("csv") / "heads.csv"
    gains = [-0.123456789, float("nan"), -0.0, 1e-9, 1234567.0]
    frame = pd.DataFrame(
        {"gain": gains, "idle": [True, False] * 2 + [True], "n": range(5), "role": list("abcd=")}
    )
    write_csv(frame, path)
    assert path.read_text().splitlines() == [
        "gain,idle,n,role",
        "-0.123457,true,0,a",
        ",false,1,b",
        "0,true,2,c",
        "1e-09,false,3,d",
        '1.23457e+06,true,4,"\'="',
    ]
    read = read_frame(path)
    assert [str(kind) for kind in read.dtypes][:3] == ["float64", "bool", "int64"]
    assert read["role"].tolist() == list("abcd=")


def test_a_models_loss_is_shown_per_byte_and_per_character_where_they_differ():
    assert text_loss(0.951, 0.951) == "0.95 bits per byte"
    assert text_loss(4.6, 1.533) == "1.53 bits per byte (4.60 per character)"
    assert text_loss(2.41, None) == "2.41 bits per character"


def test_the_relation_of_plain_text_has_words():
    name = relation_words("repetition", "same-word", "copy")
    assert name == "word → its earlier copy (same-word)"
