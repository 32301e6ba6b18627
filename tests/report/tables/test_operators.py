"""The table of operators of traced rows."""

from __future__ import annotations

from dataclasses import replace

from harness import report
from harness.report.formats import ABSENT
from harness.report.read.groups import collect
from harness.report.tables.operators import COLUMNS, operators_sheet

TRAIN = {
    "step_ms": 10.0,
    "parts": {"encode": 2.0, "backward": 6.0},
    "top": [{"name": "aten::mm", "calls": 4.0, "ms": 5.0, "share": 50.0}],
    "outside_ms": 1.5,
}
SCORE = {"step_ms": 0.0, "parts": {}, "top": [], "outside_ms": 0.0}


def test_every_stage_has_its_step_its_ranges_and_its_operators(stored):
    (vsepp, later) = (r.key for r in stored.store.records() if r.label == "vsepp")
    stored.store.save_operators(later, {"score": SCORE, "train": TRAIN})
    (group,) = collect(stored.folder)
    sheet = operators_sheet(group)
    assert sheet is not None
    assert tuple(sheet.columns) == COLUMNS
    assert [tuple(line) for line in sheet.text.itertuples(index=False)] == [
        ("vsepp", "train", "(whole step)", ABSENT, "10.0", "100.0"),
        ("vsepp", "train", "(range backward)", ABSENT, "6.00", "60.0"),
        ("vsepp", "train", "(range encode)", ABSENT, "2.00", "20.0"),
        ("vsepp", "train", "(outside operators)", ABSENT, "1.50", "15.0"),
        ("vsepp", "train", "aten::mm", "4.00", "5.00", "50.0"),
        ("vsepp", "score", "(whole step)", ABSENT, "0", ABSENT),
        ("vsepp", "score", "(outside operators)", ABSENT, "0", ABSENT),
    ]
    assert sheet.notes[1] == "Not traced: chance, vsepp+selfalign, vsrn, scan:t2i-lse."
    assert "operators.md" in {path.name for path in report.write(stored.folder)}
    assert vsepp != later


def test_no_traces_are_no_table(stored):
    (group,) = collect(stored.folder)
    assert operators_sheet(group) is None
    assert operators_sheet(replace(group, rows=())) is None
