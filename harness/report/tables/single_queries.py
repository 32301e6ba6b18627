"""What one text query costs: its time against galleries from 1K to 1M images, and what is computed and kept for it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from harness.record import CostRecord, Gallery
from harness.report.formats import ABSENT, Sheet, significant, whole
from harness.report.read.groups import Group
from harness.report.tables.comparison import timing_conflict

ABOUT = "≈"  # extrapolated
UNITS = ((1_000_000, "M"), (1_000, "K"))


def single_queries(group: Group) -> Sheet | None:
    """A line per timed row, fastest first; None where no single query was timed.  Raises RecordError."""
    timed = [(row.name, row.family, row.cost) for row in group.rows if row.cost and row.cost.galleries]
    if not timed:
        return None
    if conflict := timing_conflict([row for row in group.rows if row.cost and row.cost.galleries]):
        empty = pd.DataFrame(columns=["method"], dtype=str)
        return Sheet(TITLE, empty, empty, notes=(conflict,))
    timed.sort(key=lambda found: _largest_ms(found[2]))
    text = pd.DataFrame([_line(name, family, cost, ABOUT) for name, family, cost in timed], dtype=str)
    flat = pd.DataFrame([_flat(name, family, cost) for name, family, cost in timed], dtype=str)
    return Sheet(TITLE, text, flat, notes=tuple(_notes(timed)), names=2)


TITLE = "One text query"


def shown_items(items: int) -> str:
    """`5K`, `1M`"""
    unit, letter = next(((unit, letter) for unit, letter in UNITS if items >= unit and items % unit == 0), (1, ""))
    return f"{items // unit}{letter}"


def _line(name: str, family: str, cost: CostRecord, mark: str) -> dict[str, str]:
    """The row in words; medians of what was not measured after `mark`."""
    with_mark = {
        f"{shown_items(entry['items'])} ms": ("" if entry["measured"] else mark) + significant(entry["p50_ms"])
        for entry in cost.galleries
    }
    largest = max((entry for entry in cost.galleries if entry["measured"]), key=_items, default=None)
    return {
        "method": name,
        "family": family,
        "encode ms": significant(float(np.median(cost.query_encode_ms))) if cost.query_encode_ms else ABSENT,
        **with_mark,
        "largest measured": shown_items(largest["items"]) if largest else ABSENT,
        "its p95 ms": significant(largest["p95_ms"]) if largest else ABSENT,
        "its p99 ms": significant(largest["p99_ms"]) if largest else ABSENT,
        "queries/s": significant(1000 / largest["p50_ms"]) if largest else ABSENT,
        "times the limit": (
            significant(largest["p50_ms"] / largest["limit_ms"]) if largest and largest["limit_ms"] else ABSENT
        ),
        **{f"MFLOP/{what}": _mega(cost.flops.get(what)) for what in ("image", "caption", "pair")},
        "peak MiB": ABSENT if cost.peak_memory_mib is None else whole(cost.peak_memory_mib),
    }


def _flat(name: str, family: str, cost: CostRecord) -> dict[str, str]:
    """The same for CSV, with a column that says which sizes were extrapolated."""
    missing = [shown_items(entry["items"]) for entry in cost.galleries if not entry["measured"]]
    return _line(name, family, cost, "") | {"extrapolated": " ".join(missing) or ABSENT}


def _largest_ms(cost: CostRecord) -> float:
    return max(cost.galleries, key=_items)["p50_ms"]


def _items(entry: Gallery) -> int:
    return entry["items"]


def _mega(operations: float | None) -> str:
    return ABSENT if operations is None else significant(operations / 1e6)


def _notes(timed: Sequence[tuple[str, str, CostRecord]]) -> list[str]:
    machine = ", ".join(f"{name} {value}" for name, value in sorted(timed[0][2].machine.items()))
    notes = [
        f"Median ms of one encoded caption to its ten best images ({machine}); encode ms comes on top. "
        "Galleries are the test images repeated, each repeat scaled by a factor of its own.",
        f"{ABOUT}: extrapolated from the largest measured gallery by a law fitted to the largest few, "
        "ms = intercept + slope x items. "
        "The limit is the time of reading all embeddings once.",
        "FLOP: multiplications and additions of products and convolutions. Peak: of the whole process while encoding, "
        "scoring and ranking.",
    ]
    for name, _, cost in timed:
        reasons = [entry["note"] for entry in cost.galleries if not entry["measured"]]
        if reasons:
            residual = cost.law.get("residual")
            fit = "" if residual is None else f"; the law deviates by up to {residual:.0%} from what it was fitted to"
            notes.append(f"{name}: {reasons[0]}{fit}.")
    return notes
