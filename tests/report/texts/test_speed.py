"""The tables of docs/speed.md, by hand, from what benchmarks left."""

from __future__ import annotations

import json

import pytest

from harness.record import RecordError
from harness.report.texts import speed
from harness.report.texts.facts import Facts


@pytest.fixture
def facts(tmp_path) -> Facts:
    place = {"machine": "One", "threads": 1, "date": "2026-01-02"}
    lines = [
        ("score[chan-reference]", "ms", "9", "—", ""),
        ("score[chan-fast]", "times faster than the reference", "3.00", ">= 2", ""),
        ("score[chan-fast]", "share of the product bound", "0.50", ">= 0.9", "short"),
        ("score[camp-fast]", "times faster than the reference", "1.50", "—", ""),
        ("door[run --list]", "s of CPU", "0.6", "<= 0.5", "short"),
    ]
    names = ("measure", "what", "value", "goal", "short")
    kept = {**place, "lines": [dict(zip(names, line, strict=True)) for line in lines]}
    kept["spent"] = {f"{kind}[chan]": {"products": 59.6, "copies": 40.4} for kind in ("score", "step")}
    row = {
        "label": "chan",
        "repository": "a/b",
        "commit": "0123456789",
        "images": 2,
        "captions": 3,
        "same_weights": True,
    }
    row |= {"ours_s": [0.1, 0.2, 0.9], "published_s": [0.5, 0.5, 0.1], "max_difference": 1e-6}
    row |= {"note": "", "goal": 3}
    apart = row | {"label": "camp", "max_difference": 0.03, "note": "theirs pads captions", "goal": None}
    unlike = row | {"label": "gsmn", "same_weights": False}
    (tmp_path / "reference").mkdir()
    (tmp_path / "reference" / "speed.json").write_text(json.dumps(kept))
    (tmp_path / "reference" / "speed-published.json").write_text(json.dumps({**place, "rows": [row, apart, unlike]}))
    return Facts(tmp_path)


def cells(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if "|" in line]


def test_measures_of_a_kind_stand_beside_their_goals(facts):
    head, _, *rows = cells(
        speed.measured(facts, "score", "times faster than the reference", "share of the product bound")
    )
    assert head == ["score", "times faster than the reference", "share of the product bound"]
    assert rows == [["chan", "3.00 (goal: at least 2)", "0.50 (goal: at least 0.9, short)"], ["camp", "1.50", "—"]]
    assert cells(speed.measured(facts, "door"))[2] == ["run --list", "0.6 (goal: at most 0.5, short)"]
    with pytest.raises(RecordError, match="no benchmark of step"):
        speed.measured(facts, "step")


def test_shares_are_whole_percents(facts):
    assert cells(speed.spent(facts, "step"))[::2] == [["step", "products", "copies"], ["chan", "60", "40"]]


def test_published_code_is_told_by_medians_and_where_it_departs(facts):
    found = speed.beside_published(facts)
    head, _, *rows = cells(found)
    assert head[2:] == ["published, ms", "here, ms", "times faster", "scores", "code"]
    assert rows[0] == ["chan", "2 x 3", "500", "200", "2.5 (goal: at least 3, short)", "equal", "a/b@0123456"]
    assert rows[1][4] == "2.5"
    assert [row[5] for row in rows] == ["equal", "up to 0.03 apart", "—"]
    assert found.endswith("\n- `camp`: theirs pads captions.\n\nOne, 1 thread, 2026-01-02.\n")
    assert speed.benched(facts) == "One, 1 thread, 2026-01-02."


def test_what_cannot_be_read_is_said(facts):
    (facts.results / "reference" / "speed.json").write_text("{")
    with pytest.raises(RecordError, match=r"speed\.json: "):
        speed.benched(facts)
