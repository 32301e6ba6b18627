"""What a report computes grows as its records do, and what was drawn already is not drawn again."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable
from itertools import pairwise
from types import FrameType
from typing import Any

import pytest

from harness import ROOT
from harness.report import outputs
from harness.report.figures import gather, sketch, style
from harness.report.read.groups import collect
from harness.spec import registry
from tests.processes import imported_by_a_report
from tests.report.conftest import Maker

NONE = outputs.Difference((), (), ())


def calls(work: Callable[[], object]) -> int:
    """How many functions are called: a clock that no other process slows down."""
    count = 0

    def called(_frame: FrameType, event: str, _argument: Any) -> None:
        nonlocal count
        count += event == "call"

    sys.setprofile(called)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def report_of(make: Maker, labels: list[str], seeds: int) -> int:
    for place, label in enumerate(labels):
        for seed in range(seeds):
            job = make.job(label, seed)
            make.add(job, make.ranks([seed % 3, 1], [0, 1, 2, seed % 5, 3]))
            if not seed:
                make.time(job, 0.01 * (1 + place))

    def work() -> None:
        groups = collect(make.folder)
        outputs.texts(make.folder, groups)
        gather.sketched(groups)

    return calls(work)


@pytest.mark.parametrize("of", ["seeds", "rows"])
def test_twice_as_many_records_are_no_more_than_twice_the_work(of, tmp_path):
    labels = list(registry.labels())
    sizes = {"seeds": [(labels[:4], seeds) for seeds in (3, 6, 12, 24)], "rows": [(labels[:n], 1) for n in (5, 9, 17)]}
    report_of(Maker(tmp_path / "first"), labels[:2], 1)  # what is read once whatever is reported
    found = [report_of(Maker(tmp_path / f"{place}"), *size) for place, size in enumerate(sizes[of])]
    more = [b - a for a, b in pairwise(found)]
    assert all(later < 2.7 * earlier for earlier, later in pairwise(more)), found


@pytest.fixture
def drawn(monkeypatch) -> list[str]:
    """Titles of what is drawn."""
    titles: list[str] = []
    picture = style.picture

    def counted(figure: Any, title: str, caption: str) -> Any:
        titles.append(title)
        return picture(figure, title, caption)

    monkeypatch.setattr(style, "picture", counted)
    return titles


def test_what_was_drawn_of_the_same_is_not_drawn_again(stored, drawn):
    before = outputs.write(stored.folder, collect(stored.folder)).all
    assert len(drawn) == 4
    assert outputs.write(stored.folder, collect(stored.folder)).all == before
    assert outputs.check(stored.folder) == NONE
    assert len(drawn) == 4


def test_a_figure_somebody_touched_is_drawn_and_found_stale(stored, drawn):
    outputs.write(stored.folder, collect(stored.folder))
    path = stored.folder / "figures" / "claims.svg"
    path.write_bytes(path.read_bytes().replace(b"<g ", b"<g opacity='0' ", 1))  # its seal is what it was
    del drawn[:]
    assert outputs.check(stored.folder).stale == ("figures/claims.svg",)
    assert drawn == ["What SelfAlign adds to its host"]
    outputs.write(stored.folder, collect(stored.folder))
    assert outputs.check(stored.folder) == NONE


def test_other_records_or_other_code_are_drawn_anew(stored, drawn, monkeypatch):
    outputs.write(stored.folder, collect(stored.folder))
    stored.add(stored.job("scan:t2i-lse", 1), stored.ranks([0, 9], [9, 9, 9, 9, 10]))
    del drawn[:]
    assert "figures/ranks.svg" in outputs.check(stored.folder).stale
    assert "Recall among the first K answers" in drawn
    outputs.write(stored.folder, collect(stored.folder))
    monkeypatch.setattr(sketch, "drawing", lambda: "another version of matplotlib")
    del drawn[:]
    assert outputs.check(stored.folder) == NONE  # drawn again, they look the same
    assert len(drawn) == 4


def test_a_png_that_is_gone_is_made_again(stored):
    outputs.write(stored.folder, collect(stored.folder))
    path = stored.folder / "figures" / "claims.png"
    before = path.read_bytes()
    path.unlink()
    outputs.write(stored.folder, collect(stored.folder))
    assert path.read_bytes() == before


def test_what_is_drawn_already_takes_no_matplotlib(stored):
    outputs.write(stored.folder, collect(stored.folder))
    assert not imported_by_a_report(stored.folder) & {"torch", "matplotlib", "scipy.stats", "PIL"}


def test_the_identity_of_a_figure_covers_all_code_that_draws_it():
    covered = {path.removesuffix(".py").replace("/", ".") for path in sketch.ALSO}
    gathering = {"gather.py", "sketch.py"}
    for path in (ROOT / sketch.HERE).glob("*.py"):
        if path.name not in gathering:
            nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
            ours = {node.module for node in nodes if node.module and node.module.startswith("harness")}
            assert {name for name in ours if not name.startswith("harness.report.figures")} <= covered, path.name


def test_only_plain_values_have_an_identity():
    with pytest.raises(TypeError, match="drawn of plain values, got object"):
        sketch.Sketch("t", "c", "bars.forest", (object(),), {}).identity()
