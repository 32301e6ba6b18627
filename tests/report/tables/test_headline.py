"""The answer before everything else: which row for which time, and how sure that is."""

from dataclasses import replace

import pytest

from harness.report.page.answer import SAID, answer
from harness.report.read.groups import collect
from harness.report.read.times import index_mib
from harness.report.tables.claims import UNTUNED_HOST
from harness.report.tables.headline import choices, headline


def searched(row, encode_ms: float, search_ms: float):
    """A row whose caption is encoded and searched among 1,000 images in so many milliseconds."""
    late = dict.fromkeys(("p50_ms", "p95_ms", "p99_ms"), search_ms)
    entry = {"items": 1000, **late, "measured": True}
    cost = replace(row.cost, query_encode_ms=(encode_ms,), galleries=(entry,))
    return replace(row, runs=tuple(replace(run, cost=cost) for run in row.runs))


@pytest.fixture
def rows(stored):
    """vsepp in 0.5 ms, vsepp+selfalign in exactly 1 ms, SCAN in 40 ms, chance in 0.1 ms; Rsum in that order."""
    times = {"vsepp": (0.25, 0.25), "vsepp+selfalign": (0.5, 0.5), "scan:t2i-lse": (2, 38), "chance": (0.05, 0.05)}
    return [searched(row, *times[row.name]) if row.name in times else row for row in collect(stored.folder)[0].rows]


def test_every_power_of_ten_has_the_best_row_that_answers_within_it(rows):
    found = choices(rows)
    assert [(choice.budget_ms, choice.row.name) for choice in found] == [
        (1, "vsepp+selfalign"),
        (10, "vsepp+selfalign"),
        (100, "scan:t2i-lse"),
    ]
    assert (found[0].time.ms, found[0].time.measured) == (1.0, True)
    assert [choice.unsure for choice in found] == [False, False, True]


def test_a_lead_that_may_be_none_is_said(rows, stored):
    words = answer(headline(replace(collect(stored.folder)[0], rows=tuple(rows))))
    assert [choice["budget"] for choice in words["choices"]] == ["1 ms", "10 ms", "100 ms"]
    (level,) = [row.name for row in choices(rows)[0].level]
    assert level == "vsepp"
    assert words["choices"][0]["sure"] == "2 seeds: not told apart from vsepp"
    assert words["choices"][2]["sure"] == "one seed: how sure its lead is, is not known"


def test_what_is_added_is_said_of_tuned_rows_alone(stored):
    def said() -> list[tuple[str, list[str]]]:
        found = answer(headline(collect(stored.folder)[0]))["added"]
        return [(group["word"], [name for name, _ in group["hosts"]]) for group in found]

    assert said() == [(SAID[UNTUNED_HOST], ["vsepp"])]
    stored.settle()
    assert said() == [(SAID["undecided"], ["vsepp"])]


def test_rows_that_were_not_timed_alike_or_not_at_all_are_not_chosen_among(stored, rows):
    assert headline(collect(stored.folder)[0]).choices == ()  # no single query was timed
    assert choices([row for row in rows if row.name == "chance"]) == ()


def test_the_index_of_a_thousand_images(rows):
    cost = next(row.cost for row in rows if row.cost)
    assert index_mib(cost) == pytest.approx(1024 * 1000 / 1024**2)
    assert index_mib(None) is None
