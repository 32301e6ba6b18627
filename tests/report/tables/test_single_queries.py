"""The table of single queries marks what was not measured, and orders rows by time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.record import CostRecord, RecordError
from harness.report import outputs
from harness.report.read.groups import collect
from harness.report.tables.single_queries import shown_items

MEASURED = {
    "items": 1000,
    "p50_ms": 0.5,
    "p95_ms": 0.6,
    "p99_ms": 0.7,
    "measured": True,
    "bytes": 1,
    "samples_ms": [0.5],
    "limit_ms": 0.4,
    "note": "",
}
GUESSED = MEASURED | {
    "items": 1_000_000,
    "p50_ms": 500.0,
    "measured": False,
    "limit_ms": None,
    "note": "time: too long",
}


def with_queries(stored, label: str, galleries: list, **changes) -> CostRecord:
    cost = stored.store.cost(stored.job(label).key)
    cost = replace(
        cost, galleries=galleries, query_encode_ms=[1.0, 2.0, 4.0], flops={"image": 2e6}, law={"residual": 0.25}
    )
    stored.store.save_cost(replace(cost, **changes))
    return cost


@pytest.mark.parametrize(("items", "text"), [(1_000_000, "1M"), (5_000, "5K"), (1_500, "1500"), (7, "7")])
def test_items_are_shown_in_short(items, text):
    assert shown_items(items) == text


def test_rows_come_by_time_and_what_was_extrapolated_is_marked(stored):
    with_queries(stored, "scan:t2i-lse", [MEASURED, GUESSED])
    with_queries(stored, "vsepp", [MEASURED, MEASURED | {"items": 1_000_000, "p50_ms": 90.0, "limit_ms": 60.0}])
    texts = outputs.texts(stored.folder, collect(stored.folder))
    lines = texts["single-query.csv"].splitlines()
    header = "method,family,encode ms,search ms,rank ms,1K ms,1M ms,largest measured,its p95 ms,its p99 ms,queries/s,"
    header += '"search, times the limit",build ms per 1K images,MFLOP/image,MFLOP/caption,MFLOP/pair,peak MiB,'
    assert lines[0] == header + "search 1K ms,search 1M ms,extrapolated"
    assert lines[1] == "vsepp,independent,2.00,90.0,,2.50,92.0,1M,2.60,2.70,10.9,1.50,,2.00,,,,0.500,90.0,"
    assert lines[2] == "scan:t2i-lse,interactive,2.00,0.500,,2.50,502,1K,2.60,2.70,400,1.25,,2.00,,,,0.500,500,1M"
    shown = texts["single-query.md"]
    assert "≈502" in shown
    assert "≈92.0" not in shown
    assert "- scan:t2i-lse: time: too long; the law deviates by up to 25% from what it was fitted to." in shown


def test_rows_timed_on_different_machines_share_no_table(stored):
    with_queries(stored, "scan:t2i-lse", [MEASURED])
    with_queries(stored, "vsepp", [MEASURED], machine={"device": "slide rule", "threads": 2})
    shown = outputs.texts(stored.folder, collect(stored.folder))["single-query.md"]
    assert "Times are left out" in shown
    assert "|" not in shown


def test_records_without_single_queries_make_no_table(stored):
    assert "single-query.md" not in outputs.texts(stored.folder, collect(stored.folder))


def test_a_damaged_gallery_is_refused_by_name(stored):
    with_queries(stored, "vsepp", [{"items": 1000}])
    with pytest.raises(RecordError, match=r"galleries\.0: has unknown or missing fields: limit_ms"):
        outputs.texts(stored.folder, collect(stored.folder))
