"""The pages agree with one another and with what the program writes."""

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

import headprobe
from headprobe.commands.documentation import list_topics
from headprobe.resources import DOCS, configs_folder
from headprobe.results.comparison import comparison_table
from headprobe.results.trace import trace_tables
from headprobe.runs.folder import Run
from tests.docs.markdown import PAGES, README, ROOT, anchors, blocks, first_cells, links
from tests.report.test_comparison import ONE_MODEL
from tests.report.test_trace import TRACE

pytestmark = pytest.mark.xdist_group("pages")  # one scan serves all

SUMMARY = 66
"""Characters of a summary that fit on a line of 80 columns beside the longest topic."""


@pytest.fixture(scope="module")
def scanned(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with every file and column that there is."""
    folder = tmp_path_factory.mktemp("documented") / "run"
    return headprobe.scan(out=folder, max_passages=12, twin=True, shuffle=True)


def test_readme_is_short() -> None:
    assert README.stat().st_size <= 10_240


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_resolve(page: Path) -> None:
    for link in links(page):
        if link.startswith("https://"):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.is_file(), link
        assert not anchor or anchor in anchors(target), link
        # a wheel holds headprobe/docs, but nothing above it
        assert page == README or target.resolve().parent == DOCS, link


def test_citation_and_changelog_name_the_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert citation["version"] == headprobe.__version__
    changelog = (DOCS / "CHANGELOG.md").read_text("utf-8")
    assert f"\n## {headprobe.__version__} (" in changelog


def test_readme_links_every_topic() -> None:
    linked = {(ROOT / link.partition("#")[0]).resolve() for link in links(README)}
    assert {topic.path for topic in list_topics()} <= linked


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_directives_are_known(page: Path) -> None:
    for block in blocks(page):
        kind = block.directive.partition(": ")[0]
        assert kind in {"", "not run", "file", "output"}, block.directive
        assert block.language in {"console", "python", "yaml", "text"}, block.body


def test_files_that_architecture_names_exist() -> None:
    """Its tree, and every file and folder named in its text."""
    page = DOCS / "architecture.md"
    text = page.read_text("utf-8")
    named = re.findall(r"`((?:[a-z_]+/)+[a-z_.]*|[a-z_]+\.(?:py|yaml))`", text)
    [tree] = [block.body for block in blocks(page) if block.language == "text"]
    for line in tree.splitlines():
        entries = re.findall(r"[\w.]+(?:/|\.\w+)", line.strip().split("  ")[0])
        assert entries, line
        prefix = "headprobe/" if line.startswith("  ") else ""
        named += [prefix + entry for entry in entries]
    assert len(named) > 40
    missing = [
        name for name in named if not ((ROOT / name).exists() or (DOCS.parent / name).exists())
    ]
    assert not missing


def test_topics_have_a_title_and_a_summary_that_fits() -> None:
    topics = list_topics()
    assert len(topics) >= 12
    for topic in topics:
        assert topic.text.startswith("# "), topic.name
        assert 0 < len(topic.summary) <= SUMMARY, topic.name
        assert "<!--" not in topic.text, topic.name


@pytest.mark.parametrize(
    "table",
    ["heads", "claims", "relations", "domains", "power", "pairs", "controls", "skipped"],
)
def test_documented_columns_are_those_written(scanned: Run, table: str) -> None:
    with (scanned.path / f"{table}.csv").open(encoding="utf-8", newline="") as lines:
        written = next(csv.reader(lines))
    documented = list(first_cells(DOCS / "output.md", f"{table}.csv"))
    assert sorted(documented) == sorted(written)


def test_documented_columns_of_comparisons_and_traces_are_those_written() -> None:
    written = {"compare.csv": comparison_table(ONE_MODEL), **trace_tables(TRACE)}
    for name, table in written.items():
        assert sorted(first_cells(DOCS / "output.md", name)) == sorted(table.columns), name


def test_documented_keys_are_those_written(scanned: Run) -> None:
    page = DOCS / "output.md"
    manifest = json.loads((scanned.path / "manifest.json").read_text("utf-8"))
    assert sorted(first_cells(page, "manifest.json")) == sorted(manifest)
    with (scanned.path / "examples.jsonl").open(encoding="utf-8") as lines:
        example = json.loads(next(lines))
    assert sorted(first_cells(page, "examples.jsonl")) == sorted(example)


def test_documented_files_are_those_written(scanned: Run) -> None:
    text = (DOCS / "output.md").read_text("utf-8").partition("\n## ")[0]
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    documented = [name.strip(" `") for row in rows for name in row.split(",")]
    assert sorted(documented) == sorted(path.name for path in scanned.path.iterdir())


def test_documented_rules_are_those_in_force() -> None:
    rules = yaml.safe_load((configs_folder() / "roles.yaml").read_text("utf-8"))
    del rules["roles"]
    documented = dict(_defaults(DOCS / "rules.md"))
    assert documented == dict(_flat(rules))


def _flat(rules: dict[str, object]) -> Iterator[tuple[str, float]]:
    for name, value in rules.items():
        if isinstance(value, dict):
            yield from ((f"{name}.{key}", each) for key, each in value.items())
        else:
            assert isinstance(value, int | float)
            yield name, value


def _defaults(page: Path) -> Iterator[tuple[str, float]]:
    for line in page.read_text("utf-8").splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if len(cells) == 3 and cells[0].startswith("`"):
            yield cells[0].strip("`"), float(cells[1])
