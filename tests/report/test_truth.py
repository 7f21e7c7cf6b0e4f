"""The page agrees with its tables, and says nothing that the numbers beside it do not."""

import io
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from rich.cells import cell_len

from headprobe.errors import HeadprobeError
from headprobe.format import baseline_name, fraction, relation_words, small, span
from headprobe.report.grid import grid_key, legend, role_grid
from headprobe.report.head import Outcome, draw_excerpt, key_to_excerpts, outcome_of
from headprobe.report.layout import console, filled
from headprobe.report.summary import draw_summary, next_steps
from headprobe.resources import configs_folder
from headprobe.results.examples import examples
from headprobe.roles.verdict import Claim, Verdict
from headprobe.runs.folder import Run
from headprobe.runs.instances import Instances
from headprobe.runs.manifest import ProbeNote
from headprobe.runs.sums import Tallies
from headprobe.runs.tables import Row
from headprobe.vocabulary import DEPRELS, Relation
from tests.helpers.judged import conduct
from tests.helpers.synthetic import instances, tallies


def head(layer: int, number: int, role: str, roles: str = "") -> Row:
    return Row(
        {
            "layer": str(layer),
            "head": str(number),
            "name": f"L{layer}H{number}",
            "role": role,
            "roles": roles or ("" if role == "none" else role),
            "idle": "false",
        }
    )


def many(n_layers: int, n_heads: int) -> list[Row]:
    kinds = [
        ("syntax", "syntax;coreference"),
        ("punctuation", "punctuation"),
        ("none", ""),
        ("redundant", "redundant;syntax"),
        ("mixed", "syntax;punctuation"),
    ]
    return [
        head(layer, number, *kinds[(layer + number) % len(kinds)])
        for layer in range(n_layers)
        for number in range(n_heads)
    ]


def test_the_legend_counts_all_roles_and_the_grid_shows_a_second_one() -> None:
    heads = [
        head(0, 0, "coreference"),
        head(0, 1, "syntax", "syntax;coreference"),
        head(0, 2, "punctuation", "punctuation;syntax;coreference"),
        head(0, 3, "none"),
    ]
    page = " ".join(line.plain for line in legend(heads, 80))
    assert "C coreference 3 (1 strongest)" in page
    assert "S syntax 2 (1 strongest)" in page
    assert re.search(r"punctuation 1(?! \()", page)
    assert [line.plain for line in role_grid(heads, 4, 80)] == ["   0 1 2 3", "0  C ScPc·"]


@pytest.mark.parametrize(("n_layers", "n_heads", "group"), [(30, 9, 3), (32, 32, 4)])
def test_large_grids_with_second_letters_fit_in_80_columns(
    n_layers: int, n_heads: int, group: int
) -> None:
    heads = many(n_layers, n_heads)
    lines = [line.plain for line in role_grid(heads, group, 80)]
    assert all(len(line) <= 80 for line in lines) and len(lines) <= n_layers + 1
    cells = "".join(lines)
    held = sum("coreference" in each.text("roles") for each in heads)
    assert cells.count("Sc") == held
    assert cells.count("=s") == sum(each.text("role") == "redundant" for each in heads)
    assert "spaces separate KV groups" in grid_key(heads, group, 80)
    page = " ".join(line.plain for line in legend(heads, 80))
    assert f"C coreference {held} (0 strongest)" in page


def printed(run: Run, width: int = 80) -> str:
    stream = io.StringIO()
    draw_summary(run, console(stream, width))
    return stream.getvalue()


def test_gains_equal_the_differences_of_the_shown_numbers(run: Run) -> None:
    row = re.compile(
        r"^(L\d+H\d+) .* (\d?\.\d\d)  (\d?\.\d\d) .*  ([+-]\d?\.\d\d)  ([+-]\d?\.\d\d)$"
    )
    found = [match for line in printed(run).splitlines() if (match := row.match(line))]
    assert len(found) > 5
    for match in found:
        top1, baseline, gain = (float(match[number]) for number in (2, 3, 4))
        assert gain == pytest.approx(top1 - baseline, abs=0.0101)


def test_roles_on_built_in_probes_come_with_a_command_to_test_them(run: Run) -> None:
    assert "your.conllu" not in printed(run)
    story = configs_folder() / "probes" / "story.conllu"
    note = ProbeNote("story", str(story), "0", 1, 1, 1, 1)
    named = replace(run.manifest.model, asked="my models/tiny")
    page = printed(replace(run, manifest=replace(run.manifest, probes=(note,), model=named)))
    assert "story (built in): 1 document" in page
    assert "claims about the built-in probe sentences" in page
    assert "  headprobe scan MODEL -p your.conllu\n" in page
    both = replace(run.manifest, probes=(note, *run.manifest.probes))
    assert "partly the built-in probe sentences" in printed(replace(run, manifest=both))
    bundled = replace(run.manifest, probes=(note,), model=replace(named, kind="bundled"))
    assert "  headprobe scan -p your.conllu\n" in printed(replace(run, manifest=bundled))


def test_plain_text_has_no_relations_to_test(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def without_relations(self: Run, table: str, at: tuple[int, int] | None = None) -> list[Row]:
        if table == "relations.csv":
            return []
        if table == "heads.csv":
            return [
                head(0, 0, "none"),
                head(0, 1, "redundant", "redundant"),
                Row({**head(1, 0, "positional").cells, "strength": ".4"}),
                Row({**head(1, 1, "induction").cells, "strength": ".9"}),
            ]
        return rows(self, table, at)

    rows = Run.rows
    monkeypatch.setattr(Run, "rows", without_relations)
    page = printed(run)
    assert "could be judged" not in page
    assert "the probes have no annotated links" in page
    (first, _) = next_steps(run, run.rows("heads.csv"), [])
    assert first.startswith("headprobe show-head L1H1")


def test_impossible_intervals_are_printed_as_too_little_data() -> None:
    assert span(-1.32, 0.4) == span(0.2, 1.17) == "too little data"
    assert span(-1.0, 1.0) == "-1.00 +1.00"
    assert span(None, 1.5) == "–"


def test_relations_are_worded_from_the_later_to_the_earlier_word() -> None:
    assert relation_words("syntax", "case", "dependent") == "noun → its preposition (case)"
    assert relation_words("syntax", "case", "head") == "preposition → its noun (case)"
    assert relation_words("syntax", "obl+case", "head") == "obl+case → head"
    assert relation_words("user", "case", "head") == "case → head"
    assert relation_words("coreference", "nominal-strict", "antecedent") == (
        "noun → its antecedent (nominal-strict)"
    )
    assert relation_words("punctuation", "stop", "mark") == "stop mark"
    for name in DEPRELS:
        if name not in ("", "punct", "root"):
            both = {relation_words("syntax", name, way) for way in ("head", "dependent")}
            assert len(both) == 2 and all(" → its " in each for each in both)


def test_numbers_and_baselines_have_one_style() -> None:
    assert baseline_name("offset", 2) == "2 words back"
    assert baseline_name("offset", 1) == "1 word back"
    assert baseline_name("nearest_mention") == "nearest mention"
    assert (fraction(0.5), small(0.05), small(0.0042), small(0.0001)) == (
        ".50",
        ".05",
        ".004",
        "<.001",
    )


def test_filled_lines_break_between_parts_only() -> None:
    parts = [f"read {number} min 25 s" for number in range(12)]
    lines = filled(parts, 40).splitlines()
    assert len(lines) > 2 and all(len(line) <= 40 for line in lines)
    assert all(line.endswith(("s", "s,")) for line in lines)
    assert " ".join(lines) == ", ".join(parts)


def test_tables_break_between_words_only(run: Run) -> None:
    whole = set(" ".join(printed(run, 400).split()).split())
    for line in printed(run, 80).splitlines():
        assert cell_len(line) <= 80 or str(run.path) in line
    page = printed(run, 80)
    table = page[page.index("best heads") : page.index("statistical power")]
    assert set(table.split()) <= whole | {"held", "out"}


PRONOUN = Relation("coreference", "pronoun", "antecedent")
STRICT = Relation("coreference", "pronoun-strict", "antecedent", strict=True)
TEXT = """
A storm came . It passed . The owner of the old house in the lane smiled .
Then he slept , and he woke . Rain fell .
"""
STORY = TEXT.split()


def chain() -> Instances:
    """ "The owner of the old house in the lane" (head: owner), "he", "he" are one entity."""
    plain, size = instances(()), len(STORY)
    forms = sorted(set(STORY))
    ends = np.full(size, -1, dtype=np.int32)
    first, second = (place for place, word in enumerate(STORY) if word == "he")
    owner = STORY.index("owner")
    lane = STORY.index("lane")
    ends[[owner, STORY.index("house"), lane]] = lane
    ends[[first, second]] = first, second
    mention = range(owner - 1, lane + 1)
    links = [
        (0, first, (*mention,)),
        (0, second, (*mention, first)),
        (1, first, (*mention,)),
        (1, second, (*mention,)),
    ]
    stops = [place for place, word in enumerate(STORY) if word == "."]
    return replace(
        plain,
        relations=(PRONOUN, STRICT),
        passage_first=np.array([0, size]),
        sentence=np.searchsorted(stops, np.arange(size)),
        upos=np.zeros(size, dtype=np.int64),
        form=np.array([forms.index(word) for word in STORY]),
        forms=np.array(forms),
        tokens=np.ones(size, dtype=np.int64),
        usable=np.ones(size, dtype=np.bool_),
        space=np.array([word not in {".", ","} for word in STORY]),
        word_classes=np.zeros(size, dtype=np.int64),
        link_relation=np.array([link[0] for link in links]),
        link_query=np.array([link[1] for link in links]),
        link_first=np.cumsum([0, *(len(link[2]) for link in links)]),
        link_targets=np.array([target for link in links for target in link[2]]),
        deprel=np.zeros(size, dtype=np.int16),
        mention_end=ends,
        example_words=np.array([first, second]),
    )


def looking(asked: Instances, *looks: dict[str, float]) -> list[dict[str, Any]]:
    """The examples of a strict head whose two queries look at these words (the first so called)."""
    sums: dict[str, np.ndarray] = dict(tallies(1, 1, asked).arrays)
    word, weight = (np.zeros_like(sums[f"example_{name}"]) for name in ("word", "weight"))
    for row, looked in enumerate(looks):
        for place, (form, amount) in enumerate(looked.items()):
            word[row, 0, 0, place] = STORY.index(form) + 1
            weight[row, 0, 0, place] = amount
    claim = Claim("coreference", 1, 0.5, "because")
    verdict = Verdict(0, 0, "coreference", (claim,), 0.5, "because", False, None, None, 1)
    sums |= {"example_word": word, "example_weight": weight}
    return list(examples(asked, Tallies(sums), conduct(1, 1), [verdict]))


def test_a_miss_marks_the_head_of_the_mention() -> None:
    (row,) = looking(chain(), {"storm": 0.8, "lane": 0.1}, {})
    assert outcome_of(row) is Outcome.MISS
    text = draw_excerpt(row).plain
    assert "{owner}" in text and "{lane .10}" in text and "[storm .80]" in text
    assert "{word}" in key_to_excerpts([row]).plain


def test_a_missed_head_word_shows_its_weight() -> None:
    (row,) = looking(chain(), {"storm": 0.8, "owner": 0.1}, {})
    text = draw_excerpt(row).plain
    assert "{owner .10}" in text and "{lane" not in text


def test_an_antecedent_of_the_same_form_is_not_a_miss() -> None:
    (row,) = looking(chain(), {}, {"he": 0.9, "storm": 0.05})
    assert outcome_of(row) is Outcome.SAME_FORM and not row["hit"]
    text = draw_excerpt(row).plain
    assert "[=he .90]" in text and "{" not in text
    assert "left out by -strict" in key_to_excerpts([row]).plain
    older = {key: value for key, value in row.items() if key not in ("same_form", "expected")}
    assert outcome_of(older) is Outcome.MISS and "{lane}" in draw_excerpt(older).plain


def test_ellipses_mark_omitted_words() -> None:
    """Words of the sentence before are shown from their middle; none of the sentence after."""
    (row,) = looking(chain(), {"owner": 0.9, "house": 0.05}, {})
    text = draw_excerpt(row).plain
    assert text.startswith("… ") and "Rain" not in text
    assert not text.endswith("…")  # the query's sentence ends with the excerpt
    words, gaps = row["words"], set(row["gaps"])
    places = [STORY.index(words[0])]
    for place, word in enumerate(words[1:], start=1):
        left_out = STORY[places[-1] + 1] != word
        assert (place in gaps) == left_out
        places.append(STORY.index(word, places[-1] + 1))
    assert len(words) not in gaps


@pytest.mark.parametrize("name", ["L1H2", "l1h2", "1.2", "1-2", (1, 2), [1, 2]])
def test_examples_accept_every_spelling_of_a_head(run: Run, name: Any) -> None:
    assert run.examples(name) == run.examples((1, 2)) != []


@pytest.mark.parametrize("name", ["", "five", (1,), (1, 2, 3), (-1, 2), ("1", "2"), "L9H0", (9, 0)])
def test_an_invalid_head_name_is_an_error(run: Run, name: Any) -> None:
    with pytest.raises(HeadprobeError, match=r"not the name of a head|the model has 4 layers"):
        run.examples(name)


def test_skipped_words_are_counted_in_words(run: Run) -> None:
    page = printed(run)
    assert "131 links skipped: its query shares a token with another word" in page
    assert "2 sentences skipped: longer than the context of 512 tokens" in page
