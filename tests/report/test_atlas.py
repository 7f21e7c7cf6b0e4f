"""The atlas: its numbers are those of the tables, its text is inert, and it works in a browser."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from headprobe import format as wording
from headprobe.cli.main import run as run_command
from headprobe.commands.show import head_views
from headprobe.report.atlas.data import MAX_BYTES, atlas_data
from headprobe.report.atlas.page import draw_atlas, json_for_html
from headprobe.report.atlas.views import NO_COUNTERPART, comparison_data
from headprobe.report.comparison import answer
from headprobe.results.comparison import ComparedHead
from headprobe.results.views import HeadView
from headprobe.runs.folder import HEADS, RELATIONS, Run
from headprobe.runs.tables import Row
from tests.helpers.browser import chromium, needs_browser, opened
from tests.helpers.synthetic import HOSTILE, manifest
from tests.report.test_comparison import TWO_MODELS

SCRIPT = "</script><script>document.title = 'taken'</script><img src=x onerror=alert(1)>"


def data_of(run: Run) -> dict[str, Any]:
    return atlas_data(run, head_views(run), [])


def draw(run: Run, path: Path) -> Path:
    path.write_text(draw_atlas(data_of(run)), encoding="utf-8")
    return path


def unpacked(hundredths: int | None) -> float | None:
    return None if hundredths is None else hundredths / 100


def test_every_number_in_the_page_equals_its_cell(run: Run) -> None:
    data = data_of(run)
    rows = {
        (row.text("name"), row.text("family"), row.text("relation"), row.text("looks_to")): row
        for row in run.rows(RELATIONS)
    }
    fields = data["fields"]["relations"]
    compared = 0
    shown = [(head, values) for head in data["heads"] for values in head["relations"]]
    for head, values in shown:
        relation = dict(zip(fields, values, strict=True))
        about = data["relations"][relation["relation"]]
        row = rows[head["name"], about["family"], about["name"], about["to"]]
        for name, column, print_number in (
            ("top1", "top1", wording.fraction),
            ("over", "baseline_top1", wording.fraction),
            ("category", "category_top1", wording.fraction),
            ("gain", "gain", wording.signed),
            ("out", "gain_b", wording.signed),
        ):
            assert print_number(unpacked(relation[name])) == print_number(row.number(column))
            compared += 1
        assert relation["q"] == wording.p_value(row.number("q"))
        assert relation["role"] == row.text("role")
        ends = row.number("gain_low"), row.number("gain_high")
        if wording.span(*ends) == wording.TOO_LITTLE:
            assert (relation["low"], relation["high"]) == (wording.TOO_LITTLE, None)
        else:
            low, high = (unpacked(relation[end]) for end in ("low", "high"))
            assert wording.span(low, high) == wording.span(*ends)
    assert compared > 100
    for index, about in enumerate(data["relations"]):
        gains = [
            rows[head["name"], about["family"], about["name"], about["to"]].number("gain")
            for head in data["heads"]
        ]
        printed = [wording.signed(unpacked(gain)) for gain in data["gains"][index]]
        assert printed == list(map(wording.signed, gains))


def test_the_page_is_one_file_that_loads_nothing(run: Run) -> None:
    page = draw_atlas(data_of(run))
    assert "default-src 'none'" in page
    outside = re.sub(r"http://www\.w3\.org/2000/svg", "", page)
    assert not re.search(r"https?://|@import|url\(|\bsrc=|<link", outside.partition('id="data"')[0])


def test_json_cannot_end_the_script_element() -> None:
    text = json_for_html({"a": SCRIPT, "b": "\u2028<!--"})
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == {"a": SCRIPT, "b": "\u2028<!--"}


def test_large_models_fit_in_two_megabytes(run: Run) -> None:
    """1,024 heads of 80 relations, each head with ten sentences of its own."""
    views = list(head_views(run))
    data = atlas_data(replace(run, manifest=manifest(32, 32, 8)), many_heads(views), [])
    assert len(data["heads"]) == 1024 and len(data["relations"]) == 80
    assert data["omitted"] > 0
    assert any("sentences" in head for head in data["heads"])
    size = len(draw_atlas(data).encode())
    assert MAX_BYTES * 0.9 < size < 2_000_000


def many_heads(views: Sequence[HeadView]) -> Iterator[HeadView]:
    relation, head = views[0].relations[0], views[0].head
    example = views[0].examples[0]
    for layer, number in product(range(32), range(32)):
        name = {"layer": str(layer), "head": str(number), "name": f"L{layer}H{number}"}
        rows = (Row({**relation.cells, **name, "relation": f"relation-{k}"}) for k in range(80))
        words = [f"word{layer}", f"word{number}", *example["words"]]
        sentences = tuple({**example, "words": [str(k), *words]} for k in range(10))
        yield replace(
            views[0], head=Row({**head.cells, **name}), relations=tuple(rows), examples=sentences
        )


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture
def page(browser: Browser, run: Run, tmp_path: Path) -> Iterator[Page]:
    shown = opened(browser, draw(run, tmp_path / "atlas.html"))
    yield shown
    assert shown.problems == []  # type: ignore[attr-defined]
    shown.close()


@needs_browser
@pytest.mark.xdist_group("browser")
def test_a_click_on_a_head_shows_it(page: Page, run: Run) -> None:
    view = next(view for view in head_views(run) if view.examples)
    name = view.head.text("name")
    page.locator(f"#grid [aria-label^='{name}:']").click()
    card = page.locator("article")
    assert card.locator("h2").inner_text().startswith(name)
    assert card.locator(".reason").inner_text() == view.head.text("reason")
    assert page.url.endswith(f"#{name}")
    earned = next(row for row in view.relations if row.whole("n"))
    assert wording.fraction(earned.number("top1")) in card.locator("table").first.inner_text()
    sentence = card.locator(".sentence").first
    assert sentence.locator(".query").count() == 1
    assert sentence.locator("path").count() > 0


@needs_browser
@pytest.mark.xdist_group("browser")
def test_another_relation_recolours_the_grid(page: Page, run: Run) -> None:
    before = page.locator("#grid rect").first.get_attribute("fill-opacity")
    page.locator("#colour").select_option("gain:0")
    cells = page.locator("#grid .cell")
    gains = [
        row.number("gain") for row in run.rows(RELATIONS) if row.text("relation") == _first(run)
    ]
    labels = [cells.nth(n).get_attribute("aria-label") for n in range(cells.count())]
    assert [label.split(": ")[1] for label in labels if label] == list(map(wording.signed, gains))
    assert before is None
    assert page.locator("#grid rect").first.get_attribute("fill-opacity") is not None


def _first(run: Run) -> str:
    return next(row.text("relation") for row in run.rows(RELATIONS) if row.whole("n"))


@needs_browser
@pytest.mark.xdist_group("browser")
def test_search_and_sorting_reduce_and_order_the_table(page: Page) -> None:
    rows = page.locator("#table tbody tr")
    everything = rows.count()
    page.keyboard.press("/")
    page.keyboard.type("coreference")
    assert 0 < rows.count() < everything
    assert page.locator("#grid .faded").count() == everything - rows.count()
    first = rows.first.locator("td").first.inner_text()
    page.keyboard.press("Enter")
    assert page.locator("article h2").inner_text().startswith(first)
    page.keyboard.press("Escape")
    assert rows.count() == everything
    page.get_by_role("button", name="sink").click()
    values = [rows.nth(n).locator("td").nth(9).inner_text() for n in range(rows.count())]
    assert values == sorted(values, key=float, reverse=True)


@needs_browser
@pytest.mark.xdist_group("browser")
def test_the_keyboard_reaches_every_head(page: Page, run: Run) -> None:
    page.locator("#grid .cell").first.focus()
    for key in ("ArrowDown", "ArrowRight", "ArrowRight", "Enter"):
        page.keyboard.press(key)
    assert page.locator("article h2").inner_text().startswith("L1H2")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Shift+Enter")
    shown = page.locator("article h2")
    assert [shown.nth(n).inner_text()[:4] for n in range(shown.count())] == ["L1H2", "L1H1"]
    page.keyboard.press("Escape")
    assert shown.count() == 0


@needs_browser
@pytest.mark.xdist_group("browser")
def test_it_can_be_read_on_a_phone_in_the_dark_and_on_paper(
    browser: Browser, run: Run, tmp_path: Path
) -> None:
    page = opened(browser, draw(run, tmp_path / "atlas.html"), width=320, height=640)
    page.locator("#grid .cell").first.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    colours = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        colours.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert colours[0] != colours[1]
    page.emulate_media(media="print")
    assert not page.locator(".controls").is_visible()
    assert page.locator("#grid").is_visible()
    assert page.problems == []  # type: ignore[attr-defined]


@needs_browser
@pytest.mark.xdist_group("browser")
def test_hostile_text_is_inert(browser: Browser, hostile_run: Run, tmp_path: Path) -> None:
    data = data_of(hostile_run)
    for head in data["heads"]:
        head["reason"] = SCRIPT
    data["model"] = SCRIPT
    path = tmp_path / "atlas.html"
    path.write_text(draw_atlas(data), encoding="utf-8")
    page = opened(browser, path)
    page.locator("#grid .cell").first.click()
    assert page.title().startswith("</script><script>document.title")
    assert page.locator(".reason").inner_text() == SCRIPT
    assert page.locator("img, a[href^=javascript]").count() == 0
    assert "\x1b" not in page.content() and "\u202e" not in page.content()
    assert page.problems == []  # type: ignore[attr-defined]


def test_report_writes_a_page_beside_the_run_and_never_over_another_file(
    run: Run, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = here / "page.html"
    assert run_command(["report", str(run.path), "-o", str(target)]) == 0
    assert capsys.readouterr().out.strip() == str(target)
    first = target.read_text(encoding="utf-8")
    assert run_command(["report", str(run.path), "-o", str(target)]) == 2
    assert "exists already" in capsys.readouterr().err
    assert run_command(["report", str(run.path), "-o", str(target), "--overwrite"]) == 0
    assert target.read_text(encoding="utf-8") == first
    for wrong in (here, here / "none" / "page.html"):
        assert run_command(["report", str(run.path), "-o", str(wrong), "--overwrite"]) == 2
    assert HOSTILE not in first


@needs_browser
@pytest.mark.xdist_group("browser")
def test_another_run_is_shown_beside_this_one(browser: Browser, run: Run, tmp_path: Path) -> None:
    """Its roles colour the grid, and its sentence and table are text, whatever they hold."""
    heads = tuple(
        ComparedHead(
            row.text("name"), None, 0.5, 0.4, False, True, SCRIPT, SCRIPT if n % 3 else None, None
        )
        for n, row in enumerate(run.rows(HEADS))
    )
    beside = replace(TWO_MODELS, heads=heads, notes=(SCRIPT,))
    data = atlas_data(run, head_views(run), [], comparison_data(beside))
    path = tmp_path / "atlas.html"
    path.write_text(draw_atlas(data), encoding="utf-8")
    page = opened(browser, path)
    assert page.locator("#sentence").inner_text() == answer(beside)
    section = page.locator("#section")
    assert section.locator("tbody tr").count() == len(heads)
    assert section.locator("tbody td").nth(1).inner_text() == SCRIPT
    page.locator("#colour").select_option("view:0")
    labels = [
        str(cell.get_attribute("aria-label")).partition(": ")[2]
        for cell in page.locator("#grid .cell").all()
    ]
    assert labels == [head.role_b or NO_COUNTERPART for head in heads]
    assert page.locator("#legend li").count() == 2
    section.locator("tbody a").nth(4).click()
    assert page.locator("article h2").inner_text().startswith(heads[4].head_a)
    assert not page.locator("#steps").is_visible()
    assert page.locator("img").count() == 0 and page.problems == []  # type: ignore[attr-defined]
