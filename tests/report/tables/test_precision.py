"""The table of what scoring in half precision did."""

from __future__ import annotations

from dataclasses import replace

from harness import report
from harness.report.read.groups import collect
from harness.report.tables.precision import precision_sheet


def test_a_run_scored_in_half_precision_has_its_line(stored):
    (record,) = (r for r in stored.store.records() if r.label == "scan:t2i-lse")
    fp32 = {"rsum": 123.46, "tied_queries": 2, "changed_i2t": 0.125, "changed_t2i": 0.0625}
    stored.store.save(replace(record, fp32=fp32, tied_queries=7), stored.store.ranks(record.key))
    (group,) = collect(stored.folder)
    sheet = precision_sheet(group)
    assert sheet is not None
    rsum = next(row for row in group.rows if row.name == "scan:t2i-lse").runs[0].accuracy["rsum"]
    (line,) = sheet.text.itertuples(index=False, name=None)
    assert line == ("scan:t2i-lse", "0", f"{rsum:.1f}", "123.5", "7", "2", "12.5", "6.2")
    assert "precision.md" in {path.name for path in report.write(stored.folder)}


def test_single_precision_is_no_table(stored):
    (group,) = collect(stored.folder)
    assert precision_sheet(group) is None
