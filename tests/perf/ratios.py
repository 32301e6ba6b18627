"""What the benchmarks say: ratios of medians timed in turns, beside the goals.  `python -m tests.perf.ratios FILE`.

FILE is what `pytest tests/perf --benchmark-json=FILE` wrote.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Any

from tabulate import tabulate

# measure -> how many times faster than the reference, and which share of the bound; None = no goal
GOALS: Mapping[str, tuple[float | None, float | None]] = {
    "scan": (15, 0.85),
    "bfan": (20, 0.65),
    "chan": (2.5, 0.95),
    "sgraf": (4, None),
    "imram": (4.5, None),
    "gsmn": (10, None),
    "naaf": (10, None),
    "camp": (10, None),
    "rank, 1000 x 5000": (4, 0.8),
    "rank, 5000 x 25000": (6, 0.8),
}


def ratios(benchmarks: list[dict[str, Any]]) -> Iterator[tuple[str, str, float, float | None]]:
    """(measure, against what, ratio, goal): the reference over the fast way, and the bound over the fast way."""
    for benchmark in sorted(benchmarks, key=lambda b: b["name"]):
        own = median(benchmark["stats"]["data"])
        for other, seconds in benchmark["extra_info"].get("beside", {}).items():
            beside = median(seconds)
            method = benchmark["name"].partition("[")[2].partition("-")[0]
            size = benchmark["extra_info"].get("size", "")
            measure = method if benchmark["name"].startswith("score") else f"rank, {size}"
            faster, share = GOALS.get(measure, (None, None))
            if other.endswith("-fast]"):
                yield other, "times faster than the reference", own / beside, faster
            elif other.endswith("bound]"):
                yield benchmark["name"], "share of the product bound", beside / own, share
            elif other.startswith("rank[fast"):
                yield benchmark["name"], f"times faster than {other}", beside / own, None
            else:
                yield benchmark["name"], f"times faster than {other}", beside / own, faster


def main(file: str) -> None:
    benchmarks = json.loads(Path(file).read_text(encoding="utf-8"))["benchmarks"]
    rows = [
        (
            name,
            what,
            f"{ratio:.2f}",
            "—" if goal is None else f">= {goal}",
            "" if goal is None or ratio >= goal else "short",
        )
        for name, what, ratio, goal in ratios(benchmarks)
    ]
    print(tabulate(rows, headers=["measure", "", "ratio", "goal", ""], disable_numparse=True))


if __name__ == "__main__":
    main(*sys.argv[1:])
