"""Rows that a shortlist serves: beside their exact selves in the chart and the choice, with what they find."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.record import IndexRecord, RecordError
from harness.report.figures import gather
from harness.report.figures.values import front
from harness.report.page import overview
from harness.report.read.groups import collect
from harness.report.read.served import among, served
from harness.report.tables.candidates import candidates
from harness.report.tables.choice import Budget, choose
from tests.report.conftest import MACHINE, Maker

SCAN = "scan:t2i-lse"


def entry(items: int, index: str, k: int, recall: float | None, ms: float) -> dict:
    found = {"items": items, "index": index, "setting": f"shortlist={k}", "recall": recall, "p50_ms": ms}
    return found | {"samples_ms": [ms], "build_s": 1.0, "bytes": 100 * items, "note": ""}


ENTRIES = (
    {**entry(20, "exact", 1, 1.0, 900.0), "setting": ""},
    entry(20, "word anchors", 3, 0.5, 1.0),
    entry(20, "word anchors", 7, 0.96, 4.0),
    entry(20, "muvera sq8", 7, 0.98, 6.0),
    entry(20, "word anchors", 20, 1.0, 9.0),  # the whole gallery is no shortlist
    entry(1_000, "word anchors", 7, 0.8, 10.0),
)


@pytest.fixture
def indexed(stored: Maker) -> Maker:
    sizes = {"images": 12, "captions": 30, "queries": 5, "gallery": 20}
    for label, ms in {"vsepp": 1.0, SCAN: 900.0}.items():
        job = stored.job(label)
        stored.time(job, ms / 1000, sizes=sizes)
        stored.ask(job, [2.0] * 3, [ms] * 3, [0.0] * 3)
    for label in ("chance", "vsepp+selfalign"):
        stored.store.cost_path(stored.job(label).key).unlink()
    keep(stored)
    return stored


def keep(make: Maker, **changes) -> None:
    record = IndexRecord(make.job(SCAN).key, SCAN, MACHINE, "7 real images", 10, list(ENTRIES))
    make.store.save_index(replace(record, **changes))


def test_a_way_is_an_index_and_a_length_in_every_gallery(indexed):
    (group,) = collect(indexed.folder)
    ways = {(way.index, way.k): way for way in served(group.rows)}
    assert set(ways) == {("word anchors", 3), ("word anchors", 7), ("muvera sq8", 7)}
    way = ways["word anchors", 7]
    assert way.curve.items == (20, 1_000)
    assert way.curve.ms == (6.0, 12.0)  # 2 ms for the caption
    assert way.curve.at(2_000) is None
    assert way.recall == 0.8
    exact = way.row.runs[0].accuracy
    lost = 0.2 * (exact["t2i_r1"] + exact["t2i_r5"] + exact["t2i_r10"])
    assert way.mean("rsum") == pytest.approx(exact["rsum"] - lost)
    assert way.mean("i2t_r1") == exact["i2t_r1"]
    assert way.mean("t2i_r1", 0.5) == pytest.approx(exact["t2i_r1"] / 2)


def test_the_fastest_that_finds_enough_stands_for_a_row(indexed):
    (group,) = collect(indexed.folder)
    ((way, at),) = among(group.rows, 20)
    assert (way.index, way.k, at["recall"]) == ("word anchors", 7, 0.96)
    ((_, at),) = among(group.rows, 1_000)
    assert at["recall"] == 0.8
    assert among(group.rows, 5) == []


def test_it_stands_beside_its_exact_self_in_the_chart_and_in_no_front(indexed):
    (group,) = collect(indexed.folder)
    points = {point.name: point for point in gather.points(group)}
    point = points[f"{SCAN} by word anchors, 96% of exact 10"]
    assert (point.ms, point.serves, point.row, point.interval) == (6.0, SCAN, SCAN, None)
    assert points[SCAN].ms == 902.0
    assert point.rsum < points[SCAN].rsum
    assert point not in front(list(points.values()))
    drawn = gather.draw([group])
    assert "Small and hollow: an index names a shortlist" in drawn.pictures["accuracy-time"].caption
    html = overview.html("name", "command", [group], drawn, [])
    assert "Rsum, derived" in html


def test_it_can_be_chosen_where_the_exact_row_is_too_slow(indexed):
    (group,) = collect(indexed.folder)
    found = choose(candidates(group).candidates, Budget(1_000, 13.0))
    assert found.best is not None
    assert found.best.candidate.title == f"{SCAN} by word anchors, k=7"
    assert (found.best.ms, found.best.memory) == (12.0, 100_000)


def test_another_machine_has_no_place_beside_these_times(indexed):
    keep(indexed, machine={**MACHINE, "threads": 3})
    (group,) = collect(indexed.folder)
    assert served(group.rows) == []


def test_an_index_of_another_row_is_refused(indexed):
    keep(indexed, label="vsepp")
    with pytest.raises(RecordError, match="label must be scan:t2i-lse, got vsepp"):
        collect(indexed.folder)
