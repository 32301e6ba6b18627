"""What is worked out for sizes that nobody ran follows from the records, by rules a reader can check by hand."""

from __future__ import annotations

import re

import numpy as np
import pytest

from harness.report.texts import growth
from harness.report.texts.facts import Facts

CPU = "full-flickr8k-1"


@pytest.fixture(scope="module")
def stored() -> Facts:
    return Facts()


def cells(table: str, row: str) -> dict[str, str]:
    """Column -> cell of a row of a Markdown table."""
    header, _, *lines = ([cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines())
    return dict(zip(header, next(line for line in lines if line[0] == row), strict=True))


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.000912, "0.91 ms"),
        (0.035, "35 ms"),
        (1, "1.0 s"),
        (90, "1.5 min"),
        (36_000, "10 h"),
        (200 * 86_400, "200 days"),
        (4e10, "1,300 years"),
    ],
)
def test_times_are_said_in_units_that_people_have(seconds, said):
    assert growth.lasts(seconds) == said


def test_sizes_are_said_likewise():
    assert [growth.holds(size) for size in (2**19, 3 * 2**30, 950 * 2.0**30, 34 * 2.0**40)] == [
        "0.50 MiB",
        "3.0 GiB",
        "950 GiB",
        "34 TiB",
    ]


def test_a_query_is_that_of_the_law_and_marked_beyond_what_was_measured(stored):
    cost = stored.row(CPU, "vsepp").cost
    assert cost is not None
    found = cells(growth.queries(stored, CPU, ("vsepp", "chan")), "vsepp")
    per_item, most = cost.law["ms_per_item"], max(entry["items"] for entry in cost.galleries if entry["measured"])
    assert most == 10**6
    assert found["among 1M"] == growth.lasts((cost.law["intercept_ms"] + per_item * 1e6) / 1e3)
    assert found["among 1B"] == "≈" + growth.lasts((cost.law["intercept_ms"] + per_item * 1e9) / 1e3)
    assert found["index of 1M"] == growth.holds(256 * 4 * 1e6)  # width 256, single precision


def test_all_pairs_grow_with_the_square(stored):
    cost = stored.row(CPU, "chan").cost
    assert cost is not None
    found = cells(growth.matrices(stored, CPU, ("chan",)), "chan")
    batch_s = sum(np.median(cost.samples_s[stage]) for stage in ("score", "rank"))
    pairs = cost.sizes["queries"] * cost.sizes["gallery"]
    assert float(found["pairs a second"].replace(",", "")) == pytest.approx(pairs / batch_s, rel=0.05)
    assert found["1M images"] == "≈" + growth.lasts(5e12 * batch_s / pairs)


def test_a_method_is_its_trials_a_longer_run_and_its_seeds(stored):
    said = growth.trained(stored, "full-scenes")
    (runs,) = map(int, re.findall(r"the time of (\d+) runs", said))
    seeds = max(len(row.runs) for row in stored.rows("full-scenes"))
    assert runs == 8 + 2 + seeds
    mean = np.mean(
        [sum(r.record.seconds.values()) for row in stored.rows("full-scenes", "independent") for r in row.runs]
    )
    assert f"{growth.lasts(100 * runs * mean)} for 100 independent ones" in said


def test_features_are_numbers_of_two_bytes(stored):
    assert growth.features(stored, CPU).startswith("36 regions of 1,280 numbers")
    assert growth.holds(36 * 1280 * 2 * 1e6) in growth.features(stored, CPU)
