"""The page as a reader has it: opened from disk in Chromium, pointed at, sorted, filtered, on a narrow screen."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
from PIL import Image, ImageColor

from harness.report.figures.style import LOOKS

MAIN = "section[data-data]:has(tr[data-name='scan:i2t-lse'])"  # the settings that most records share


def numbers(cells: list[str]) -> list[float | None]:
    return [None if cell == "—" else float(cell.partition(" ")[0].replace(",", "")) for cell in cells]


def test_it_loads_without_an_error_and_without_the_network(opened):
    opened.page.wait_for_load_state("load")
    assert opened.messages == []
    assert opened.requests
    assert [url for url in opened.requests if not url.startswith(("file://", "data:", "blob:"))] == []
    source = opened.page.content()
    assert re.findall(r"(?:src|href)=\"(?:https?:)?//", source) == []


def test_it_is_small_and_paints_soon(browser, folder):
    page_and_script = sum((folder / name).stat().st_size for name in ("index.html", "plotly.min.js"))
    drawn = sum(path.stat().st_size for path in (folder / "figures").glob("*.svg"))
    assert page_and_script + drawn < 6e6
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


def test_sorting_changes_the_order_of_the_rows(opened):
    before = opened.column("method")
    button = opened.page.locator(f"{MAIN} .sortable thead button", has_text=re.compile("^Rsum$"))
    button.click()
    found = numbers(opened.column("Rsum"))
    known = [value for value in found if value is not None]
    assert known == sorted(known, reverse=True)
    assert len(known) >= 9
    assert found[-2:] == [None, None]  # what failed or is stale has no number and stands last
    button.click()
    found = numbers(opened.column("Rsum"))
    assert found[: len(known)] == sorted(known)
    assert found[-2:] == [None, None]
    opened.page.locator(f"{MAIN} .sortable thead button", has_text=re.compile("^method$")).click()
    assert opened.column("method") == sorted(before, key=str.lower)
    header = opened.page.locator(f"{MAIN} .sortable thead th").first
    assert header.get_attribute("aria-sort") == "ascending"


def test_filters_change_the_rows_and_the_chart(opened):
    marks = opened.page.locator(f"{MAIN} .scatterlayer .point")
    all_marks, everything = marks.count(), opened.names()
    opened.page.select_option("select[name=family]", "interactive")
    shown = opened.names()
    assert sorted(shown) == ["scan:i2t-avg", "scan:i2t-lse", "scan:t2i-avg", "scan:t2i-lse"]
    assert marks.count() == 4 < all_marks
    assert f"4 of {len(everything)} rows shown" in opened.page.inner_text("#shown")
    opened.page.select_option("select[name=seeds]", "3")
    assert opened.names() == []
    assert opened.page.locator(".none:visible").count() == 2
    opened.page.select_option("select[name=family]", "")
    assert set(opened.names()) == {"chance", "vsepp", "vsepp+selfalign", "vsrn", "vsrn+selfalign"}
    opened.page.select_option("select[name=seeds]", "0")
    assert opened.names() == everything
    assert marks.count() == all_marks


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
    row = dict(zip(opened.column("method"), opened.column("Rsum"), strict=True))
    assert "scan:i2t-lse" in said
    assert f"Rsum: {row['scan:i2t-lse']}" in said
    assert "ms/query" in said
    pointed = opened.page.eval_on_selector_all("tr.pointed", "rows => rows.map(row => row.dataset.name)")
    assert pointed == ["scan:i2t-lse"]


def test_failed_and_stale_rows_are_seen_as_such_and_stored_html_is_text(opened):
    states = dict(zip(opened.column("method"), opened.column("state"), strict=True))
    assert states["vsepp:under_score"].startswith("1 failed: LossError: <img src=x onerror=alert(1)>")
    assert states["vsrn:<i>old</i>"].startswith("1 stale: ")
    assert states["scan:i2t-lse"] == "ok"
    assert opened.page.locator("img[src='x']").count() == 0
    assert opened.page.locator("tr i").count() == 0
    row = opened.page.locator("tr[data-name='vsepp:under_score'] th")
    usual = opened.page.locator("tr[data-name='scan:i2t-lse'] th")
    assert row.evaluate("e => getComputedStyle(e).backgroundColor") != usual.evaluate(
        "e => getComputedStyle(e).backgroundColor"
    )


def test_it_is_usable_at_400_pixels(narrow):
    page = narrow.page
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    for control in page.locator("#filters select").all():
        box = control.bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 400
        assert box["height"] >= 20
    chart = page.locator(f"{MAIN} .chart .main-svg").first.bounding_box()
    assert chart is not None
    assert 300 <= chart["width"] <= 400
    assert all(width <= 400 for width in page.eval_on_selector_all("img", "all => all.map(i => i.clientWidth)"))
    table = page.locator(f"{MAIN} .wide").first
    assert table.evaluate("e => e.scrollWidth > e.clientWidth && e.clientWidth <= 400")  # it scrolls by itself
    table.evaluate("e => { e.scrollLeft = 300 }")
    name = page.locator(f"{MAIN} tr[data-name='vsrn'] th").bounding_box()
    assert name is not None
    assert 0 <= name["x"] < 40  # the name stays while the numbers scroll
    for row in page.locator(f"{MAIN} tr[data-name^=vs]:not(.failed, .stale) th").all():
        box = row.bounding_box()
        assert box is not None
        assert box["width"] >= 120
        assert box["height"] < 70  # a name is not broken letter by letter
    page.select_option("select[name=family]", "interactive")
    assert len(narrow.names()) == 4
    assert narrow.messages == []


@pytest.mark.parametrize("where", ["opened", "narrow"])
def test_a_screenshot_shows_marks_of_every_family(where, request):
    page = request.getfixturevalue(where).page
    chart = page.locator(f"{MAIN} .chart")
    chart.scroll_into_view_if_needed()
    with Image.open(io.BytesIO(chart.screenshot())) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    for name, look in LOOKS.items():
        near = np.abs(pixels - ImageColor.getrgb(look.colour)).max(-1) < 24
        assert near.sum() > 60, f"no mark of {name}"
    page.evaluate("window.scrollTo(0, 0)")
    with Image.open(io.BytesIO(page.screenshot())) as image:
        whole = np.asarray(image.convert("L"))
    assert 0.003 < (whole < 128).mean() < 0.5  # neither blank nor black


def test_figures_are_shown(opened):
    images = opened.page.locator("figure img")
    assert images.count() >= 6
    for image in images.all():
        image.scroll_into_view_if_needed()
        opened.page.wait_for_function("e => e.complete", arg=image.element_handle())
        assert image.evaluate("e => e.naturalWidth") > 100
