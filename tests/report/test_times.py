"""The time of a query as records tell it: end to end, its parts, and what is said where it was not timed so."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console

from harness.report import outputs
from harness.report.figures import gather
from harness.report.read.groups import collect
from harness.report.read.rows import Row
from harness.report.read.times import (
    batch_rate,
    query_time,
    query_times,
    search_times,
    time_axis,
    time_curve,
    time_curves,
    without_time,
)
from harness.report.tables import comparison
from harness.report.tables.checklist import checklist
from harness.report.tables.claims import claims
from harness.report.tables.terminal import console_table
from harness.spec import ensembles


@pytest.fixture
def asked(stored):
    """Three rows whose single queries were timed; chance was not."""
    stored.ask(stored.job("vsepp"), [1.0, 2.0, 6.0], [3.0, 1.0, 1.0], [0.5, 0.5, 0.5])  # 4.5, 3.5, 7.5
    stored.ask(stored.job("vsepp+selfalign"), [2.0] * 3, [6.5] * 3, [0.5] * 3)
    stored.ask(stored.job("scan:t2i-lse"), [2.0] * 3, [87.0] * 3, [1.0] * 3)
    return stored


def rows(make) -> dict[str, Row]:
    (group,) = collect(make.folder)
    return {row.name: row for row in group.rows}


def apart(make, label: str, items: int = 2) -> None:
    """As older records have it: the caption's encoding, and the rest."""
    cost = make.store.cost(make.job(label).key)
    entry = {"items": items, "p50_ms": 0.5, "p95_ms": 0.6, "p99_ms": 0.7, "measured": True, "note": "", "limit_ms": 0.4}
    make.store.save_cost(replace(cost, galleries=[entry], query_encode_ms=[1.0, 2.0, 4.0]))


def test_the_time_of_a_query_is_the_median_of_sums_not_the_sum_of_medians(asked):
    time = query_time(rows(asked)["vsepp"].cost)
    assert time is not None
    assert (time.ms, time.measured, time.whole) == (4.5, True, True)
    assert time.p95_ms == pytest.approx(4.5 + 0.9 * (7.5 - 4.5))
    assert time.parts == {"encode": 2.0, "search": 1.0, "rank": 0.5}
    assert time.search_ms == 1.5


def test_what_was_not_measured_is_encoded_as_elsewhere_and_divided_as_the_largest_that_was(asked):
    cost = rows(asked)["vsepp+selfalign"].cost
    (own,) = cost.galleries
    far = own | {
        "items": 1000,
        "p50_ms": 70.0,
        "measured": False,
        "stages_ms": {stage: [] for stage in own["stages_ms"]},
    }
    time = query_time(replace(cost, galleries=[own, far]), 1000)
    assert time is not None
    assert (time.ms, time.measured) == (72.0, False)
    assert time.parts == {"encode": 2.0, "search": pytest.approx(65.0), "rank": pytest.approx(5.0)}
    assert query_time(replace(cost, galleries=[far]), 1000) is None  # nothing says how long encoding takes
    small = query_time(replace(cost, galleries=[far], query_encode_ms=[3.0]), 1000)
    assert small is not None
    assert (small.ms, small.parts) == (73.0, {"encode": 3.0, "search": 70.0})


def curved(cost, law, *galleries):
    """2 ms to encode, then so many to search, measured or not, items by items."""
    entries = [
        {"items": items, "p50_ms": ms, "p95_ms": ms, "p99_ms": ms, "measured": measured, "note": "", "limit_ms": None}
        | {"stages_ms": {"encode": [2.0] * measured, "search": [ms] * measured, "rank": [0.0] * measured}}
        for items, ms, measured in galleries
    ]
    return time_curve(replace(cost, galleries=entries, law=law))


def test_a_curve_is_straight_between_galleries_and_follows_the_law_from_the_last(asked):
    cost = rows(asked)["vsepp"].cost
    law = {"intercept_ms": 1.0, "ms_per_item": 0.01, "residual": 0.5}  # 11 ms of 1,000 images; 33 are thrice as many
    curve = curved(cost, law, (100, 3.0, True), (1_000, 33.0, True))
    assert [curve.at(items) for items in (100, 550, 1_000)] == [5.0, 20.0, 35.0]
    assert curve.at(2_000) == pytest.approx(35 + 3 * 10)
    assert curve.at(1) == 5.0  # no less than among a hundred
    assert [curve.is_measured(items) for items in (99, 100, 550, 1_000, 1_001)] == [False, True, True, True, False]
    assert (curve.residual, curve.whole) == (0.5, True)


def test_a_curve_goes_through_what_records_extrapolated(asked):
    cost = rows(asked)["vsepp"].cost
    law = {"intercept_ms": 0.0, "ms_per_item": 0.01}
    curve = curved(cost, law, (1_000, 30.0, True), (10_000, 300.0, False))
    assert (curve.at(10_000), curve.is_measured(10_000), curve.most) == (302.0, False, 1_000)
    assert curve.at(20_000) == pytest.approx(602.0)


@pytest.mark.parametrize("law", [{}, {"intercept_ms": "far", "ms_per_item": 1}, {"intercept_ms": 0, "ms_per_item": 0}])
def test_without_a_law_there_is_no_time_beyond_the_last_gallery(law, asked):
    curve = curved(rows(asked)["vsepp"].cost, law, (1_000, 30.0, True))
    assert (curve.at(1_000), curve.at(1_001), curve.residual) == (32.0, None, None)


def test_there_is_no_curve_where_no_query_was_timed_and_none_of_rows_timed_otherwise(asked):
    assert time_curve(None) is None
    assert time_curve(rows(asked)["chance"].cost) is None
    assert list(time_curves(list(rows(asked).values()))) == ["vsepp", "vsepp+selfalign", "scan:t2i-lse"]
    apart(asked, "vsepp")
    assert list(time_curves(list(rows(asked).values()))) == ["vsepp+selfalign", "scan:t2i-lse"]


def test_there_is_no_time_of_a_gallery_nobody_asked(asked):
    cost = rows(asked)["vsepp"].cost
    assert query_time(cost, 3) is None
    assert query_time(None) is None
    assert query_time(replace(cost, galleries=[])) is None


def test_rows_timed_in_parts_never_stand_beside_rows_timed_as_a_whole(stored):
    for label in ("vsepp", "vsepp+selfalign"):
        apart(stored, label)
    both = list(rows(stored).values())
    assert {name: time.ms for name, time in query_times(both).items()} == {"vsepp": 2.5, "vsepp+selfalign": 2.5}
    assert without_time(both) == (
        "Encoding and searching were timed apart, end to end is the sum of their medians. No end-to-end time of "
        "chance, scan:t2i-lse: records from before single queries were timed as a whole."
    )
    stored.ask(stored.job("scan:t2i-lse"), [2.0], [87.0], [1.0])
    mixed = list(rows(stored).values())
    assert {name: time.ms for name, time in query_times(mixed).items()} == {"scan:t2i-lse": 90.0}
    assert without_time(mixed).startswith("No end-to-end time of chance, vsepp, vsepp+selfalign: records from before")


def test_the_axis_is_end_to_end_and_leaves_out_who_has_no_such_time(asked):
    axis = time_axis(list(rows(asked).values()))
    assert axis.name == "end to end"
    assert axis.ms == {"vsepp": 4.5, "vsepp+selfalign": 9.0, "scan:t2i-lse": 90.0}
    (group,) = collect(asked.folder)
    assert {point.name: point.ms for point in gather.points(group)} == axis.ms
    drawn = gather.draw([group]).pictures
    assert "No end-to-end time of chance" in drawn["accuracy-time"].caption
    assert drawn["query"].title == "Where the time of one query goes"


def test_without_any_end_to_end_time_the_axis_is_search_and_says_so(stored):
    axis = time_axis(list(rows(stored).values()))
    assert axis.name == "score+rank"
    assert axis.label.startswith("score + rank in batches, encoding left out")
    assert axis.ms == pytest.approx({"chance": 10.0, "vsepp": 10.0, "vsepp+selfalign": 20.0, "scan:t2i-lse": 1000.0})
    drawn = gather.draw(collect(stored.folder))
    assert "query" not in drawn.pictures
    assert "No figure query: no row was timed end to end." in drawn.absent
    assert "No end-to-end time of any row" in drawn.pictures["accuracy-time"].caption


def test_the_first_time_column_is_end_to_end_then_throughput(asked):
    (group,) = collect(asked.folder)
    sheet = comparison.comparison(group)
    titles = sheet.columns
    assert titles[titles.index("binding R@1") + 1 :][:3] == [comparison.END_TO_END, comparison.RATE, "encode ms/image"]
    assert list(sheet.text[comparison.END_TO_END]) == ["—", "4.50", "9.00", "—", "90.0"]
    # 50 ms encode 5 captions, 50 ms score and rank 5: 20 ms each
    assert batch_rate(rows(asked)["vsepp"].cost) == pytest.approx(50)
    assert sum("No end-to-end time of chance" in note for note in sheet.notes) == 1


def test_what_was_extrapolated_is_marked_in_words_alone(asked):
    job = asked.job("scan:t2i-lse")
    cost = asked.store.cost(job.key)
    (own,) = cost.galleries
    own = own | {"measured": False, "stages_ms": {stage: [] for stage in own["stages_ms"]}}
    asked.store.save_cost(replace(cost, galleries=[own], query_encode_ms=[2.0]))
    (group,) = collect(asked.folder)
    sheet = comparison.comparison(group)
    assert sheet.text[comparison.END_TO_END].iloc[-1] == "≈90.0"
    assert sheet.flat[comparison.END_TO_END].iloc[-1] == "90.0"
    assert "Time extrapolated from smaller galleries: scan:t2i-lse." in gather.draw([group]).pictures["query"].caption


def test_claims_say_both_times(asked):
    (group,) = collect(asked.folder)
    assert search_times(group.rows) == {"vsepp": 1.5, "vsepp+selfalign": 7.0, "scan:t2i-lse": 88.0}
    ratios = {claim.other.name: (claim.end_to_end, claim.search) for claim in claims(group)}
    assert ratios == {
        "vsepp": (pytest.approx(2.0), pytest.approx(7 / 1.5)),
        "scan:t2i-lse": (pytest.approx(0.1), pytest.approx(7 / 88)),
    }
    assert (
        "A query of vsepp+selfalign: 2.00× the time of vsepp end to end, 4.67× in search alone; 10.0× as fast as "
        "scan:t2i-lse, the fastest interactive row, end to end, 12.6× in search alone."
    ) in checklist(group)[-1].notes


def test_parts_of_a_query_are_columns_beside_what_its_gallery_takes_to_build(asked):
    table = outputs.texts(asked.folder, collect(asked.folder))["single-query.csv"].splitlines()
    names, vsepp = (line.split(",") for line in (table[0].replace('"search, times', '"search times'), table[1]))
    cells = dict(zip(names, vsepp, strict=True))
    assert [cells[name] for name in ("encode ms", "search ms", "rank ms", "2 ms")] == ["2.00", "1.00", "0.500", "4.50"]
    assert cells["build ms per 1K images"] == "1000"
    assert cells["search 2 ms"] == "1.50"


def test_the_terminal_shows_one_query_and_says_who_has_none(asked):
    shown = StringIO()
    Console(width=80, file=shown).print(console_table(asked.folder))
    text = " ".join(shown.getvalue().split())
    assert "4.50" in text
    assert "No end-to-end time of chance" in text


def test_an_ensemble_encodes_and_searches_by_all_members(make):
    jobs = [make.job("vsrn", seed) for seed in (0, 1)]
    for job in jobs:
        make.add(job, make.ranks([0, 3], [0, 0, 0, 0, 3]))
        make.time(job, score=4)
    make.ask(jobs[0], [1.0, 2.0], [3.0, 4.0], [0.5, 0.75])
    make.ask(jobs[1], [10.0, 20.0, 30.0], [30.0, 40.0, 50.0], [5.0, 5.0, 5.0])
    for job, flops in zip(jobs, ({"image": 2e6, "pair": 1.0}, {"image": 3e6}), strict=True):
        known = make.store.cost(job.key)
        make.store.save_cost(replace(known, flops=flops, peak_memory_mib=512.0, noise={"score": 0.1}))
    (plan,) = ensembles.plan(jobs).plans
    make.add(plan.job, make.ranks([0, 0], [0, 0, 0, 0, 0]), family="independent", members=plan.members)
    cost = rows(make)["vsrn*"].cost
    assert (cost.flops, cost.peak_memory_mib, cost.noise) == ({"image": 5e6}, None, {})
    (entry,) = cost.galleries
    assert entry["build_samples_s"] == [0.004]
    assert entry["stages_ms"] == {"encode": [11.0, 22.0], "search": [33.0, 44.0], "rank": [0.5, 0.75]}
    assert entry["bytes"] == 2048
