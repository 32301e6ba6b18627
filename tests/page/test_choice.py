"""The sliders of the page: they choose as the command does, at every place, by keyboard, on paper and in the dark."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page

from harness.report import write
from harness.report.page.choice import BUDGETS_MS, FIRST, GALLERIES, MEMORIES, lines
from harness.report.read.groups import collect
from harness.report.tables.candidates import Field, candidates
from harness.report.tables.choice import Budget, Candidate, choose
from harness.report.tables.choice_words import verdict
from tests.page.conftest import Opener
from tests.report.conftest import Maker, filled
from tests.report.tables.test_candidates import lawful, pair

WISH, TAKEN = "form.wish", "form.wish .taken p"
SET = """([wish, places]) => {
    places.forEach((place, at) => { wish.querySelectorAll("input")[at].value = place });
    wish.dispatchEvent(new Event("input"));
    return Array.from(wish.querySelectorAll(".taken p"), (line) => line.textContent);
}"""

COLOUR = "(e, name) => getComputedStyle(e)[name].match(/[0-9]+/g).slice(0, 3).map(Number)"


@pytest.fixture(scope="module")
def chosen(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Field]:
    """Three rows on laws of their own, and two of them as a pair whose shortlists are better than its retriever."""
    make = filled(Maker(tmp_path_factory.mktemp("choice") / "full-scenes"))
    laws = {"vsepp": (1.0, 1e-5), "vsepp+selfalign": (5.0, 3e-5), "scan:t2i-lse": (9.0, 7e-3)}
    for label, law in laws.items():
        lawful(make, label, 0, *law)
    recalls = {
        name: [50.0, 60.0, 80.0, 90.0, 90.0] for name in ("i2t_r1", "i2t_r5", "i2t_r10", "t2i_r1", "t2i_r5", "t2i_r10")
    }
    ceilings = {name: [99.0] * 5 for name in ("i2t_ceiling", "t2i_ceiling", "rsum_ceiling")}
    pair(make, accuracy=recalls | ceilings)
    write(make.folder)
    (group,) = collect(make.folder)
    return make.folder, candidates(group)


@pytest.fixture
def page(browser: Browser, chosen: tuple[Path, Field]) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1000, "height": 900}, offline=True)
    page = context.new_page()
    page.goto((chosen[0] / "index.html").as_uri())
    page.wait_for_selector(WISH)
    yield page
    context.close()


def said(field: Field, budget: Budget) -> list[str]:
    def told(best: Candidate, second: Candidate) -> str:
        return verdict(field.rows, best, second)

    return lines(choose(field.candidates, budget), budget, told)


def test_the_page_says_what_the_command_chooses_at_every_place(page, chosen):
    field = chosen[1]
    wish = page.query_selector(WISH)
    names = set()
    for at in product(range(len(GALLERIES)), range(len(BUDGETS_MS)), range(0, len(MEMORIES), 3)):
        gallery, ms, memory = (
            values[place] for values, place in zip((GALLERIES, BUDGETS_MS, MEMORIES), at, strict=True)
        )
        shown = page.evaluate(SET, [wish, list(at)])
        assert shown == said(field, Budget(gallery, ms, memory)), (gallery, ms, memory)
        names.add(shown[0])
    singles = {"vsepp", "vsepp+selfalign", "scan:t2i-lse"}
    assert names == {*singles, "Nothing fits.", "vsepp, then scan:t2i-lse, k=2", "vsepp, then scan:t2i-lse, k=10"}


def test_it_opens_at_the_first_answer_with_labelled_sliders(page, chosen):
    assert page.locator(TAKEN).all_text_contents() == said(chosen[1], FIRST)
    for label, told in [
        ("Images searched", "100,000 images"),
        ("Time of a query", "50 ms"),
        ("Memory of the index", "4 GiB"),
    ]:
        slider = page.get_by_label(label)
        assert slider.get_attribute("type") == "range"
        assert slider.get_attribute("aria-valuetext") == told
    assert page.locator(f"{WISH} output").all_text_contents() == ["100,000 images", "50 ms", "4 GiB"]
    assert page.locator(f"{WISH} + script + .still").is_hidden()


def test_a_key_moves_a_slider_and_its_text_and_answer_follow(page, chosen):
    slider = page.get_by_label("Time of a query")
    slider.focus()
    page.keyboard.press("ArrowLeft")
    assert page.locator(f"{WISH} output").nth(1).text_content() == "20 ms"
    assert slider.get_attribute("aria-valuetext") == "20 ms"
    assert page.locator(TAKEN).all_text_contents() == said(chosen[1], Budget(FIRST.gallery, 20.0, FIRST.memory))
    page.keyboard.press("Home")
    assert page.locator(TAKEN).first.text_content() == "Nothing fits."


def test_the_address_keeps_where_the_sliders_stand(page, browser, chosen):
    slider = page.get_by_label("Time of a query")
    slider.focus()
    page.keyboard.press("ArrowLeft")
    address = page.evaluate("location.href")
    name = slider.get_attribute("id")
    assert address.endswith(f"#{name}={slider.input_value()}")
    said_there = page.locator(TAKEN).all_text_contents()
    page.keyboard.press("ArrowRight")
    assert "#" not in page.evaluate("location.href")
    context = browser.new_context(offline=True)
    for kept, expected in ((address, said_there), (f"{address}9", said(chosen[1], FIRST)), (f"{address}x", None)):
        again = context.new_page()
        again.goto(kept)
        again.wait_for_selector(".tabulator.built")
        assert again.locator(TAKEN).all_text_contents() == (expected or said(chosen[1], FIRST))
    context.close()


def test_on_paper_and_without_scripts_the_first_answer_stands_without_sliders(page, browser, chosen):
    page.evaluate(SET, [page.query_selector(WISH), [0, 0, 0]])
    page.emulate_media(media="print", color_scheme="dark")
    still = page.locator(f"{WISH} + script + .still")
    check_first(still, chosen[1])
    assert page.locator(f"{WISH}, {WISH} input").filter(visible=True).count() == 0
    assert still.locator(".taken").evaluate("e => getComputedStyle(e).color") == "rgb(34, 34, 34)"
    context = browser.new_context(java_script_enabled=False, offline=True)
    bare = context.new_page()
    bare.goto((chosen[0] / "index.html").as_uri())
    check_first(bare.locator(f"{WISH} + script + .still"), chosen[1])
    assert bare.locator(WISH).is_hidden()
    context.close()


def check_first(still: Locator, field: Field) -> None:
    assert still.is_visible()
    assert still.locator(".taken p").all_text_contents() == said(field, FIRST)
    assert " ".join((still.locator(".small").text_content() or "").split()).endswith("100,000 images, 50 ms, 4 GiB:")


@pytest.mark.parametrize(("width", "scheme"), [(1400, "light"), (400, "light"), (400, "dark")])
def test_sliders_and_answer_fit_their_window_and_can_be_read(width, scheme, open_page: Opener):
    page = open_page(width, 900, scheme).page
    for element in page.locator(f"{WISH} input, {WISH} output, {TAKEN}").filter(visible=True).all():
        box = element.bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
    inputs = page.locator(f"{WISH} input").filter(visible=True).all()
    assert len(inputs) >= 3
    assert all((box := slider.bounding_box()) and box["width"] > 100 and box["height"] >= 24 for slider in inputs)
    answer = page.locator(f"{WISH} .taken").first
    ink, ground = (answer.evaluate(COLOUR, name) for name in ("color", "backgroundColor"))
    assert abs(sum(ink) - sum(ground)) > 450  # of 765


def test_where_nothing_was_timed_a_sentence_says_so(tmp_path):
    make = filled(Maker(tmp_path / "full-scenes"))
    write(make.folder)
    html = (make.folder / "index.html").read_text()
    assert "Which row to take for which gallery cannot be said" in html
    assert 'type="range"' not in html
