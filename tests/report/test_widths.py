"""At no width does a page break a word, a number, a name or a command."""

import io
from collections.abc import Callable
from dataclasses import replace

import pytest
from rich.console import Console

from headprobe.commands.documentation import list_topics
from headprobe.commands.heads import list_heads
from headprobe.commands.probe_sets import list_marks, list_probe_sets, some_samples
from headprobe.commands.show import show_head
from headprobe.report.head import draw_head, draw_text
from headprobe.report.heads import draw_heads
from headprobe.report.layout import console
from headprobe.report.lists import (
    draw_changes,
    draw_marks,
    draw_plan,
    draw_probe_sets,
    draw_runs,
    draw_samples,
    draw_selftest,
    draw_topics,
)
from headprobe.report.summary import draw_summary
from headprobe.results.views import CaseResult, Change, Fault, SelfTest, TextView
from headprobe.runs.folder import Run
from headprobe.vocabulary import Relation
from tests.helpers.judged import RELATIONS
from tests.helpers.synthetic import PLAN, Size, write_run

WIDE = 4000

Draw = Callable[[Run, Console], None]


@pytest.fixture(scope="module")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of the size of SmolLM2-135M, with the relations and domains of GUM."""
    syntax = ("parataxis", "compound", "mark", "nmod", "advcl", "xcomp", "vocative", "discourse")
    more = tuple(
        Relation("syntax", name, looks_to, scope="sentence")
        for name in syntax
        for looks_to in ("head", "dependent")
    )
    mentions = ("nominal-strict", "proper-strict")
    more += tuple(Relation("coreference", name, "antecedent", strict=True) for name in mentions)
    more += tuple(Relation("punctuation", name, "mark", every=True) for name in ("stop", "bracket"))
    more += (Relation("user", "light-verb-construction", "nominal-predicate"),)
    domains = ("academic", "conversation", "interview", "how-to guides", "textbook", "vlog")
    name = "SmolLM2-135M-Instruct.Q4_1.gguf-20261128-143418"
    folder = tmp_path_factory.mktemp("runs") / "headprobe-runs" / name
    return write_run(folder, Size(30, 9, 3), relations=(*RELATIONS, *more), domains=domains)


def summary(run: Run, on: Console) -> None:
    draw_summary(run, on, ["margin: 0.05", "roles.light-verb-construction"])


def some_heads(run: Run, on: Console) -> None:
    for layer in range(0, run.manifest.model.n_layers, 6):
        for head in range(0, run.manifest.model.n_heads, 4):
            draw_head(show_head(run, layer, head), on, everything=layer % 4 == 0)


def lists_of_heads(run: Run, on: Console) -> None:
    for role in (None, "coreference", "redundant"):
        for sort in ("gain", "duplicate_token_gain_low"):
            draw_heads(list_heads(run, role, sort, 80), on)


def list_of_runs(run: Run, on: Console) -> None:
    hub = replace(run.manifest.model, asked="HuggingFaceTB/SmolLM2-135M-Instruct", kind="hub")
    named = replace(run, manifest=replace(run.manifest, model=hub))
    draw_runs([run, named], on)


def plan(run: Run, on: Console) -> None:
    relations = [("noun modifier → its noun (nmod)", 230), ("main clause → its side clause", 43)]
    draw_plan(
        replace(PLAN, model="llm/SmolLM2", target=run.path, relations=(*relations, *relations)), on
    )


def changes(run: Run, on: Console) -> None:
    rows = run.rows("heads.csv")[:40]
    roles = ("duplicate-token", "coreference", "none", "redundant")
    made = [
        Change(row.text("name"), roles[i % 4], roles[i % 3], row.text("reason"))
        for i, row in enumerate(rows)
    ]
    draw_changes(made, run.path, on)


def selftest(_: Run, on: Console) -> None:
    reason = "noun → its preposition (case): top1 .96 against .39 2 words back, gain +.57"
    fault = Fault("L12H5", "duplicate-token", "coreference", named=True, reason=reason)
    case = CaseResult("grouped queries, sinks", "llama", 1024, 120, 119, 1, 2, (fault, fault))
    draw_selftest(SelfTest((case,), (case,), right=False, seconds=12.0), on)


def probes(_: Run, on: Console) -> None:
    draw_probe_sets(list_probe_sets(), on)
    draw_samples(some_samples("news", 4), on)
    draw_marks(list_marks(), on)


def topics(_: Run, on: Console) -> None:
    draw_topics(((each.name, each.summary) for each in list_topics()), on)


def text(_: Run, on: Console) -> None:
    words = ("Understandably", ",", "the", "extraordinarily", "tired", "animal", "slept")
    weights = tuple(tuple(1 / (k + 1) for _ in range(k + 1)) for k in range(len(words)))
    usable = (True, True, True, False, True, True, True)
    draw_text(TextView("L12H5", words, weights, (0.1,) * len(words), usable), on)


PAGES = (
    *(summary, some_heads, lists_of_heads, list_of_runs, plan, changes, selftest, probes, topics),
    text,
)


def printed(draw: Draw, run: Run, width: int) -> str:
    stream = io.StringIO()
    draw(run, console(stream, width))
    return stream.getvalue()


@pytest.mark.parametrize("draw", PAGES, ids=lambda draw: draw.__name__)
def test_words_and_numbers_are_never_broken(smollm2: Run, draw: Draw) -> None:
    whole = set(printed(draw, smollm2, WIDE).split())
    for width in (80, 100, 160):
        page = printed(draw, smollm2, width)
        broken = {word for word in page.split() if word not in whole and "…" not in word}
        assert not broken, width


@pytest.mark.parametrize("width", [80, 100, 160])
@pytest.mark.parametrize("draw", PAGES, ids=lambda draw: draw.__name__)
def test_pages_are_not_wider_than_the_console(smollm2: Run, draw: Draw, width: int) -> None:
    """But for the lines that name the run, which are copied as a whole."""
    name = smollm2.path.name
    lines = printed(draw, smollm2, width).splitlines()
    assert not [line for line in lines if len(line) > width and name not in line]


def test_a_broken_word_is_noticed(smollm2: Run) -> None:
    def narrow(_: Run, on: Console) -> None:
        on.print("parataxis" if on.width == WIDE else "parat\naxis")

    with pytest.raises(AssertionError):
        test_words_and_numbers_are_never_broken(smollm2, narrow)


def test_run_and_next_commands_are_whole_lines(smollm2: Run) -> None:
    page = printed(summary, smollm2, 80)
    path = str(smollm2.path)
    ends = [line for line in page.splitlines() if path in line]
    assert [line.split()[:2] for line in ends] == [
        ["run", path],
        ["next", "headprobe"],
        ["headprobe", "export"],
    ]
