"""The page as a reader has it: opened from disk in Chromium, sorted, filtered, on a narrow screen and on paper."""

from __future__ import annotations

import csv
import io
import re

import numpy as np
import pytest
from PIL import Image, ImageColor

from harness import ROOT
from harness.report.figures import gather
from harness.report.figures.looks import LOOKS
from harness.report.read.groups import collect
from harness.report.tables.headline import headline

MAIN = "section[data-data]:has(table.rows tr[data-name='scan:i2t-lse'])"  # the settings that most records share
AXE = ROOT / "build" / "axe" / "package" / "axe.min.js"  # `make browser` fetches it where there is npm
VIEWS = [(1400, "light"), (800, "light"), (400, "light"), (1400, "dark"), (400, "dark")]


def numbers(cells: list[str]) -> list[float | None]:
    return [None if cell == "—" else float(cell.partition(" ")[0].replace(",", "")) for cell in cells]


def main(folder):
    """The group of the records that most rows share."""
    return max(collect(folder), key=lambda group: len(group.rows))


def test_it_loads_without_an_error_and_without_the_network(opened):
    opened.page.wait_for_load_state("load")
    assert opened.messages == []
    assert opened.requests
    assert [url for url in opened.requests if not url.startswith(("file://", "data:", "blob:", "about:"))] == []
    assert re.findall(r"(?:src|href)=\"(?:https?:)?//", opened.page.content()) == []


def test_it_is_small_and_paints_soon(browser, folder):
    loaded = {path.name: path.stat().st_size for path in (folder / "page").iterdir()}
    assert max(loaded.values()) < 1.2e6
    assert sum(loaded.values()) + (folder / "index.html").stat().st_size < 2.2e6
    paints = []
    for _ in range(5):
        page = browser.new_page()
        page.goto((folder / "index.html").as_uri())
        page.wait_for_function("performance.getEntriesByName('first-contentful-paint').length")
        paints.append(page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime"))
        page.close()
        if paints[-1] < 1000:
            return
    pytest.fail(f"first paint after {paints} ms")


@pytest.mark.parametrize(("width", "scheme"), VIEWS)
def test_the_answer_stands_in_the_first_screen(width, scheme, open_page, folder):
    page = open_page(width, 900, scheme, "data=data-2").page
    choices = {choice.budget_ms: choice for choice in headline(main(folder)).choices}
    assert {1.0, 100.0} <= choices.keys()
    seen = page.locator(".choices li:visible")
    shown = {line.locator(".budget").inner_text(): line.locator("strong") for line in seen.all()}
    for budget in (1.0, 100.0):
        name = shown[f"{budget:g} ms"]
        assert name.inner_text() == choices[budget].row.name
        box = name.bounding_box()
        assert box is not None
        assert box["y"] + box["height"] <= 900


@pytest.mark.parametrize(("width", "scheme"), VIEWS)
def test_score_and_time_of_every_row_are_seen_without_scrolling_sideways(width, scheme, open_page):
    opened = open_page(width, 900, scheme)
    page = opened.page
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for title in ("Rsum", "ms per query"):
        field = opened.header(title, MAIN).get_attribute("tabulator-field")
        cells = page.locator(f"{MAIN} .tabulator-cell[tabulator-field={field}]").all()
        assert len(cells) > 10
        for cell in cells:
            box = cell.bounding_box()
            assert box is not None
            assert box["x"] >= 0
            assert box["width"] > 40
            assert box["x"] + box["width"] <= width
            assert cell.evaluate("e => e.scrollWidth <= e.clientWidth + 1")
    assert opened.messages == []


@pytest.mark.parametrize(("width", "scheme"), [VIEWS[0], *VIEWS[2:]])
def test_axe_finds_no_serious_fault(width, scheme, open_page):
    if not AXE.is_file():
        pytest.skip("no axe-core: `make browser` fetches it where there is npm")
    page = open_page(width, 900, scheme).page
    page.evaluate("document.querySelectorAll('details').forEach(box => { box.open = true })")
    page.evaluate(AXE.read_text())
    found = page.evaluate("axe.run().then(found => [found.passes.length, found.violations])")
    assert found[0] > 20
    serious = [
        (fault["id"], fault["nodes"][0]["html"]) for fault in found[1] if fault["impact"] in ("serious", "critical")
    ]
    assert serious == []


def test_the_first_click_on_a_heading_brings_the_best_to_the_top(opened):
    assert opened.titles(MAIN)[:2] == ["method", "Rsum"]
    by_default = numbers(opened.column("Rsum", MAIN))
    single = by_default[: by_default.index(None)]
    assert single == sorted(single, reverse=True)
    assert len(single) >= 12
    opened.header("ms per query", MAIN).click()
    times = [time for time in numbers(opened.column("ms per query", MAIN))[: len(single)] if time is not None]
    assert times == sorted(times)
    opened.header("i2t R@1", MAIN).click()
    recalls = numbers(opened.column("i2t R@1", MAIN))[: len(single)]
    assert recalls == sorted(recalls, reverse=True)
    opened.header("i2t R@1", MAIN).click()
    recalls = numbers(opened.column("i2t R@1", MAIN))[: len(single)]
    assert recalls == sorted(recalls)
    opened.header("method", MAIN).press("Enter")  # by keyboard as well
    names = opened.column("method", MAIN)[: len(single) + 2]
    assert names == opened.page.evaluate("names => names.toSorted((a, b) => a.localeCompare(b))", names)


def test_ensembles_are_a_ranking_of_their_own(opened, folder):
    rows = main(folder).rows
    together = {row.name for row in rows if row.is_ensemble}
    assert len(together) >= 3
    headings = opened.page.locator(f"{MAIN} .tabulator-group").all_inner_texts()
    assert [text.partition(":")[0].strip() for text in headings] == ["one model", "several models together"]
    names = opened.names(MAIN)
    assert set(names[-len(together) :]) == together
    opened.header("ms per query", MAIN).click()
    assert set(opened.names(MAIN)[-len(together) :]) == together


def test_filters_change_the_rows_the_chart_and_its_front_and_agree_with_the_column_family(opened, folder):
    page, everything = opened.page, opened.names()
    marks = page.locator(f"{MAIN} .scatterlayer .point")
    all_marks = marks.count()
    families = {row.name: row.family for row in main(folder).rows}
    page.select_option("select[name=family]", "interactive")
    shown = opened.names(MAIN)
    assert sorted(shown) == sorted(name for name, family in families.items() if family == "interactive")
    assert marks.count() == len(shown) < all_marks
    front = page.eval_on_selector(f"{MAIN} .chart", "chart => Math.max(...chart.data[0].y)")
    single = [value for value in numbers(opened.column("Rsum", MAIN)) if value is not None]
    assert front == pytest.approx(max(single[:5]), abs=0.06)
    assert f"{len(shown)} of {len(everything)} shown" in page.inner_text("#shown")
    page.select_option("select[name=family]", "independent")
    assert "vsepp+selfalign" in opened.names(MAIN)  # its family, as the column says
    page.select_option("select[name=aligned]", "true")
    assert all(name.endswith("+selfalign") for name in opened.names(MAIN))
    page.select_option("select[name=family]", "")
    page.select_option("select[name=aligned]", "")
    page.fill("input[name=name]", "SCAN:T2I")
    assert sorted(opened.names()) == ["scan:t2i-avg", "scan:t2i-lse"]
    page.select_option("select[name=seeds]", "3")
    assert opened.names() == []
    assert page.locator(".tabulator-placeholder-contents:visible").first.inner_text().startswith("No row of this table")
    page.fill("input[name=name]", "")
    page.select_option("select[name=seeds]", "")
    assert sorted(opened.names()) == sorted(everything)
    assert marks.count() == all_marks


def test_what_is_shown_is_kept_in_the_address(opened):
    page = opened.page
    page.select_option("select[name=family]", "interactive")
    opened.header("ms per query", MAIN).click()
    page.locator(f"{MAIN} .columns summary").click()
    page.locator(f"{MAIN} .columns label", has_text=re.compile(r"^\s*t2i MedR$")).click()
    page.locator(f"{MAIN} .columns label", has_text=re.compile(r"^\s*seeds$")).click()
    page.wait_for_selector(f"{MAIN} .tabulator-row:visible")  # rows are drawn anew when columns change
    shown, titles = opened.names(), opened.titles(MAIN)
    assert shown
    assert "t2i MedR" in titles
    assert "seeds" not in titles
    state = page.evaluate("location.hash.slice(1)")
    page.locator("nav a", has_text="Ablations").click()
    assert page.evaluate("location.hash.slice(1)") == state
    opened.visit(state)
    assert opened.names() == shown
    assert opened.titles(MAIN) == titles
    assert page.input_value("select[name=family]") == "interactive"
    opened.visit()
    assert opened.titles(MAIN) != titles
    assert opened.messages == []


def test_csv_is_what_is_shown_a_number_a_cell(opened):
    page = opened.page
    page.fill("input[name=name]", "vs")
    with page.expect_download() as download:
        page.locator(f"{MAIN} .csv").click()
    lines = list(csv.DictReader(io.StringIO(download.value.path().read_text())))
    assert [line["method"] for line in lines] == opened.names(MAIN)
    assert list(lines[0])[:4] == ["method", "Rsum", "Rsum sd", "i2t R@1"]
    means = [float(line["Rsum"]) if line["Rsum"] else None for line in lines]
    assert means == numbers(opened.column("Rsum", MAIN))
    assert {line["kind"] for line in lines} == {"one model", "several models together"}


def test_the_data_filter_leaves_one_section(opened):
    sections = opened.page.locator("section[data-data]:visible")
    assert sections.count() == 2
    opened.page.select_option("select[name=data]", index=1)
    assert sections.count() == 1
    assert opened.names() == ["vsepp"]
    assert "lr=0.0001" in sections.first.inner_text()


def test_pointing_at_a_mark_shows_its_row(opened):
    chart = opened.page.locator(f"{MAIN} .chart")
    chart.scroll_into_view_if_needed()
    place = opened.page.evaluate(
        """chart => {
            const at = chart.data.findIndex(trace => trace.meta && trace.meta.name === "scan:i2t-lse");
            const axes = chart._fullLayout, box = chart.getBoundingClientRect();
            return [box.x + axes.xaxis._offset + axes.xaxis.d2p(chart.data[at].x[0]),
                    box.y + axes.yaxis._offset + axes.yaxis.d2p(chart.data[at].y[0])];
        }""",
        chart.element_handle(),
    )
    opened.page.mouse.move(place[0] - 40, place[1] + 30)
    opened.page.mouse.move(*place)
    label = opened.page.wait_for_selector(f"{MAIN} .hoverlayer .hovertext")
    assert label is not None
    said = label.text_content() or ""
    row = dict(zip(opened.column("method", MAIN), opened.column("Rsum", MAIN), strict=True))
    assert "scan:i2t-lse" in said
    assert f"Rsum: {row['scan:i2t-lse']}" in said
    assert "ms/query" in said
    pointed = opened.page.locator(f"{MAIN} .tabulator-row.pointed .tabulator-cell").first
    assert pointed.inner_text() == "scan:i2t-lse"


def test_failed_and_stale_rows_are_seen_as_such_and_stored_html_is_text(opened):
    def row(name: str):
        return opened.page.locator(f"{MAIN} .tabulator-row", has=opened.page.get_by_text(name, exact=False)).first

    assert "1 failed: LossError: <img src=x onerror=alert(1)>" in row("vsepp:under_score").inner_text()
    assert "1 stale: " in row("vsrn:<i>old</i>").inner_text()
    assert opened.page.locator("img[src='x']").count() == 0
    assert opened.page.locator(".tabulator-row i, tbody i").count() == 0
    ground = "e => getComputedStyle(e).backgroundColor"
    assert row("vsepp:under_score").evaluate(ground) != row("scan:i2t-lse").evaluate(ground)


def test_names_stay_while_numbers_scroll(open_page):
    opened = open_page(800, 900)
    page = opened.page
    page.locator(f"{MAIN} .columns summary").click()
    for label in page.locator(f"{MAIN} .columns label").all()[7:17]:
        label.click()
    holder = page.locator(f"{MAIN} .tabulator-tableholder")
    assert holder.evaluate("e => e.scrollWidth > e.clientWidth")
    holder.evaluate("e => { e.scrollLeft = 400 }")
    name = page.locator(f"{MAIN} .tabulator-cell[tabulator-field=c0]").first.bounding_box()
    assert name is not None
    assert 0 <= name["x"] < 40
    assert page.evaluate("document.documentElement.scrollWidth") <= 800


def test_it_is_usable_at_400_pixels(narrow):
    page = narrow.page
    page.locator("#filter-box summary").click()
    for control in page.locator("#filters select, #filters input").all():
        box = control.bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 400
        assert box["height"] >= 20
    chart = page.locator(f"{MAIN} .chart .main-svg").first.bounding_box()
    assert chart is not None
    assert 300 <= chart["width"] <= 400
    assert all(width <= 400 for width in page.eval_on_selector_all("img", "all => all.map(i => i.clientWidth)"))
    card = page.locator(f"{MAIN} .tabulator-row:has-text('vsrn+selfalign')").first.inner_text()
    assert re.search(r"i2t R@1 [\d.]+ ± [\d.]+ · t2i R@1 [\d.]+ ± [\d.]+ · index MiB [\d.]+ · seeds 3", card)
    for row in page.locator(f"{MAIN} .tabulator-cell[tabulator-field=c0]").all():
        box = row.bounding_box()
        assert box is not None
        assert box["width"] >= 120
    page.select_option("select[name=family]", "interactive")
    assert len(narrow.names()) >= 4
    assert narrow.messages == []


@pytest.mark.parametrize(("width", "scheme"), VIEWS)
def test_a_screenshot_shows_marks_of_every_family(width, scheme, open_page, folder):
    page = open_page(width, 900, scheme).page
    chart = page.locator(f"{MAIN} .chart")
    chart.scroll_into_view_if_needed()
    with Image.open(io.BytesIO(chart.screenshot())) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    for name in {gather.family(row) for row in main(folder).rows if not row.is_scale}:
        near = np.abs(pixels - ImageColor.getrgb(LOOKS[name].colour)).max(-1) < 24
        assert near.sum() > 60, f"no mark of {name}"
    page.evaluate("window.scrollTo(0, 0)")
    with Image.open(io.BytesIO(page.screenshot())) as image:
        grey = np.asarray(image.convert("L"))
    ground, ink = (grey < 60, grey > 150) if scheme == "dark" else (grey > 200, grey < 128)
    assert ground.mean() > 0.5
    assert 0.003 < ink.mean() < 0.3


def test_on_paper_nothing_is_cut_and_every_figure_is_there(opened, folder):
    page = opened.page
    assert len(page.pdf(format="A4")) > 50_000  # printing loads the figures that were not scrolled to
    page.emulate_media(media="print", color_scheme="dark")
    page.set_viewport_size({"width": 720, "height": 1000})  # A4 without its margins
    assert page.evaluate("document.documentElement.scrollWidth") <= 720
    assert not page.locator("#filter-box, nav, .chart, .tabulator, .tools").filter(visible=True).count()
    names = page.locator(f"{MAIN} table.rows tbody th").all_inner_texts()
    assert len(names) == len(main(folder).rows)
    titles = page.locator(f"{MAIN} table.rows thead th").all_inner_texts()
    assert titles == ["method", "Rsum", "i2t R@1", "t2i R@1", "ms per query", "index MiB", "seeds"]
    shown = {src.rpartition("/")[2] for src in page.eval_on_selector_all("img", "all => all.map(i => i.src)")}
    assert shown == {path.name for path in (folder / "figures").glob("*.svg")}
    assert all(page.eval_on_selector_all("img", "all => all.map(i => i.offsetParent !== null && i.naturalWidth > 100)"))
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == "rgb(255, 255, 255)"


def test_without_its_scripts_it_still_has_answer_table_and_figures(browser, folder):
    context = browser.new_context(java_script_enabled=False, offline=True)
    page = context.new_page()
    page.goto((folder / "index.html").as_uri())
    assert page.locator(".choices li").count() >= 3
    assert page.locator(f"{MAIN} table.rows tbody tr").count() > 10
    assert page.locator(f"{MAIN} table.rows").is_visible()
    assert page.locator("img[src$='accuracy-time-2.svg']").is_visible()
    context.close()


def test_figures_are_shown(opened):
    images = opened.page.locator("figure img:visible")
    assert images.count() >= 6
    for image in images.all():
        image.scroll_into_view_if_needed()
        opened.page.wait_for_function("e => e.complete", arg=image.element_handle())
        assert image.evaluate("e => e.naturalWidth") > 100
