"""Metrics of installed packages: a column of the comparison each; a broken one is a line and the tables are made."""

import pytest

from harness.report.read.groups import collect
from harness.report.tables.comparison import comparison
from harness.spec import methods, plugins
from tests.methods_of_others import packaged, written

METRICS = """
def first_three(i2t, t2i):
    return 100 * (t2i < 3).mean()

first_three.better = "higher"

def broken(i2t, t2i):
    return t2i / "x"

def endless(i2t, t2i):
    return float("inf")
"""


@pytest.fixture(autouse=True)
def as_before():
    yield
    plugins.choose()
    methods._methods.cache_clear()


def test_a_metric_is_a_column_and_a_broken_one_is_a_line(stored, tmp_path, monkeypatch):
    (group,) = collect(stored.folder)
    plain = comparison(group)
    written(tmp_path / "site", "module_of_metrics", METRICS)
    points = {"t2i R@3": "first_three", "broken": "broken", "endless": "endless", "gone": "gone"}
    points = {name: f"module_of_metrics:{function}" for name, function in points.items()}
    packaged(tmp_path / "site", "of-others", plugins.METRICS, points)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    sheet = comparison(group)
    assert set(sheet.text.columns) - set(plain.text.columns) == {"t2i R@3"}
    shown = dict(zip(sheet.text["method"], sheet.text["t2i R@3"], strict=True))
    assert shown["scan:t2i-lse"] == "80.0"  # ranks 0, 0, 0, 0, 10
    assert shown["vsepp"] == "20.0 ± 0"  # 0, 4, 9, 10, 10 under both seeds
    assert shown["vsrn"] == "—"
    lines = [note for note in sheet.notes if note.startswith("of-others 1.0 brings no ")]
    assert [line.split(": ")[0].removeprefix("of-others 1.0 brings no ") for line in lines] == [
        "metric 'broken'",
        "metric 'endless'",
        "'gone'",
    ]
    plugins.choose(installed=False)
    assert comparison(group).text.equals(plain.text)
