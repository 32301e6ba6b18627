"""What the benchmarks say, as one table: medians, and ratios beside their goals.

python -m tests.perf.ratios FILE         FILE is what `pytest tests/perf --benchmark-json=FILE` wrote
python -m tests.perf.ratios FILE KEPT    and KEPT is written, which docs/speed.md is filled from
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

DOORS: Mapping[str, float] = {"door[run --list]": 0.5, "door[report]": 4.0}  # seconds at most
NONE = "—"
COLUMNS = ("measure", "what", "value", "goal", "short")


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


def medians(benchmarks: list[dict[str, Any]]) -> Iterator[tuple[str, str, float, float | None]]:
    """(measure, unit, median, goal) of each: milliseconds of a call; of a door the seconds of the processor."""
    for benchmark in sorted(benchmarks, key=lambda b: b["name"]):
        cpu = benchmark["extra_info"].get("cpu_s")
        if "spent" in benchmark["extra_info"]:
            continue  # under a profiler
        if cpu:
            yield benchmark["name"], "s of CPU", median(cpu), DOORS.get(benchmark["name"])
        else:
            yield benchmark["name"], "ms", 1000 * median(benchmark["stats"]["data"]), None


def lines(benchmarks: list[dict[str, Any]]) -> list[tuple[str, str, str, str, str]]:
    """The table: what takes how long, then what is how many times faster, and whether that is short of its goal."""
    found = [
        (name, unit, f"{value:.3g}", NONE if goal is None else f"<= {goal}", value, goal and -goal)
        for name, unit, value, goal in medians(benchmarks)
    ]
    found += [
        (name, what, _digits(ratio), NONE if goal is None else f">= {goal}", ratio, goal)
        for name, what, ratio, goal in ratios(benchmarks)
    ]
    return [(*told, _short(value, goal)) for *told, value, goal in found]  # type: ignore[misc]


def _digits(ratio: float) -> str:
    return f"{ratio:.2f}" if ratio >= 0.1 else f"{ratio:.2g}"


def _short(value: float, goal: float | None) -> str:
    """goal: at least so much; below zero, at most its opposite."""
    met = goal is None or (value >= goal if goal > 0 else value <= -goal)
    return "" if met else "short"


KINDS: Mapping[str, tuple[str, ...]] = {  # of operators, by the ends of their names
    "products": ("mm", "mv", "conv1d", "mkldnn_convolution"),
    "exponentials": ("sigmoid", "sigmoid_", "tanh", "tanh_", "exp", "exp_", "_softmax", "log", "log_"),
    "copies": ("copy_", "cat", "index", "index_select", "index_put_", "clone", "fill_", "zero_", "_to_copy"),
}
OTHER, OUTSIDE = "other operators", "compiled passes, Python"


def spent(found: Mapping[str, Any]) -> dict[str, float]:
    """Percent of a traced step by kind of operator, of what `harness.measure.trace` found; they add up to 100."""
    shares = dict.fromkeys((*KINDS, OTHER, OUTSIDE), 0.0)
    for operator in found["top"]:
        name = operator["name"].removeprefix("aten::")
        shares[next((kind for kind, ends in KINDS.items() if name.endswith(ends)), OTHER)] += operator["share"]
    shares[OUTSIDE] = 100 * found["outside_ms"] / found["step_ms"]
    shares[OTHER] += 100 - sum(shares.values())  # operators further down
    return shares


def kept(told: Mapping[str, Any]) -> dict[str, Any]:
    """What docs/speed.md is filled from."""
    benchmarks = told["benchmarks"]
    return {
        "machine": told.get("machine_info", {}).get("cpu", {}).get("brand_raw", NONE),
        "date": told.get("datetime", NONE)[:10],
        "commit": told.get("commit_info", {}).get("id", NONE),
        "threads": next((b["extra_info"]["threads"] for b in benchmarks if "threads" in b["extra_info"]), None),
        "lines": [dict(zip(COLUMNS, line, strict=True)) for line in lines(benchmarks)],
        "spent": {b["name"]: b["extra_info"]["spent"] for b in benchmarks if "spent" in b["extra_info"]},
    }


def main(file: str, keep: str = "") -> None:
    told = json.loads(Path(file).read_text(encoding="utf-8"))
    found = kept(told)
    cells = [tuple(line.values()) for line in found["lines"]]
    print(tabulate(cells, headers=["measure", "", "", "goal", ""], disable_numparse=True))
    shares = [
        {"percent of the time": name} | {k: f"{v:.0f}" for k, v in of.items()} for name, of in found["spent"].items()
    ]
    print("\n" + tabulate(shares, headers="keys", disable_numparse=True))
    print(f"\n{found['machine']}, {found['date']}")
    if keep:
        Path(keep).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
