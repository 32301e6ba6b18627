"""What one text query costs: its time against galleries from 1K to 1M images, and what is computed and kept for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from harness.record import CostRecord, Gallery
from harness.report.formats import ABOUT, ABSENT, Sheet, significant, whole
from harness.report.read.groups import Group
from harness.report.read.rows import Row
from harness.report.read.times import STAGES, QueryTime, finite, query_time, query_times, timing_conflict, without_time

UNITS = ((1_000_000, "M"), (1_000, "K"))


def single_queries(group: Group) -> Sheet | None:
    """A line per timed row, fastest first; None where no single query was timed.  Raises RecordError."""
    rows = [row for row in group.rows if row.cost and row.cost.galleries]
    if not rows:
        return None
    if conflict := timing_conflict(rows):
        empty = pd.DataFrame(columns=["method"], dtype=str)
        return Sheet(TITLE, empty, empty, notes=(conflict,))
    sizes = sorted({entry["items"] for row in rows if row.cost for entry in row.cost.galleries})
    lines = [_Line(row, {size: query_times(rows, size).get(row.name) for size in sizes}) for row in rows]
    lines.sort(key=_Line.slowest_ms)
    text, flat = (pd.DataFrame([cells(line) for line in lines], dtype=str) for cells in (_Line.cells, _Line.flat))
    notes = tuple(note for note in (*_notes(lines), without_time(rows)) if note)
    return Sheet(TITLE, text, flat, notes=notes, names=2)


TITLE = "One text query"


def shown_items(items: int) -> str:
    """`5K`, `1M`"""
    unit, letter = next(((unit, letter) for unit, letter in UNITS if items >= unit and items % unit == 0), (1, ""))
    return f"{items // unit}{letter}"


@dataclass(frozen=True)
class _Line:
    """A timed row and what it takes from its caption to the best images, by the size of the gallery."""

    row: Row
    times: Mapping[int, QueryTime | None]

    @property
    def cost(self) -> CostRecord:
        assert self.row.cost is not None
        return self.row.cost

    @property
    def missing(self) -> list[Gallery]:
        """What was extrapolated."""
        return [entry for entry in self.cost.galleries if not entry["measured"]]

    def slowest_ms(self) -> float:
        return max(self.cost.galleries, key=_items)["p50_ms"]

    def cells(self, mark: str = ABOUT) -> dict[str, str]:
        """In words; medians of what was not measured after `mark`."""
        cost = self.cost
        largest = max((entry for entry in cost.galleries if entry["measured"]), key=_items, default=None)
        last = self.times.get(largest["items"]) if largest else None
        own = query_time(cost) or last or next((time for time in self.times.values() if time), None)
        return {
            "method": self.row.name,
            "family": self.row.family,
            **{f"{stage} ms": _shown(own and own.parts.get(stage)) for stage in STAGES},
            **{
                f"{shown_items(items)} ms": _shown(time and time.ms, "" if time is None or time.measured else mark)
                for items, time in self.times.items()
            },
            "largest measured": shown_items(largest["items"]) if largest else ABSENT,
            "its p95 ms": _shown(last and last.p95_ms),
            "its p99 ms": _shown(last and last.p99_ms),
            "queries/s": _shown(last and 1000 / last.ms),
            "search, times the limit": (
                _shown(largest["p50_ms"] / largest["limit_ms"]) if largest and largest["limit_ms"] else ABSENT
            ),
            "build ms per 1K images": _shown(largest and _build_ms(largest)),
            **{f"MFLOP/{what}": _mega(cost.flops.get(what)) for what in ("image", "caption", "pair")},
            "peak MiB": ABSENT if cost.peak_memory_mib is None else whole(cost.peak_memory_mib),
        }

    def flat(self) -> dict[str, str]:
        """The same for CSV, with what search alone takes, and a column that says which sizes were extrapolated."""
        alone = {f"search {shown_items(entry['items'])} ms": _shown(entry["p50_ms"]) for entry in self.cost.galleries}
        missing = [shown_items(entry["items"]) for entry in self.missing]
        return self.cells("") | alone | {"extrapolated": " ".join(missing) or ABSENT}


def _build_ms(entry: Gallery) -> float | None:
    """Of a thousand images: what depends on the gallery alone."""
    seconds = entry.get("build_samples_s")
    return 1e6 * float(np.median(seconds)) / entry["items"] if seconds else None


def _shown(value: float | None, mark: str = "") -> str:
    return ABSENT if value is None else mark + significant(value)


def _items(entry: Gallery) -> int:
    return entry["items"]


def _mega(operations: float | None) -> str:
    return ABSENT if operations is None else significant(operations / 1e6)


def _notes(lines: Sequence[_Line]) -> list[str]:
    machine = ", ".join(f"{name} {value}" for name, value in sorted(lines[0].cost.machine.items()))
    notes = [
        f"Median ms of one caption end to end: read, encoded, scored and ranked to its ten best images, alone "
        f"({machine}). Encode, search and rank are its parts among the images of the data, "
        "in records without such a time among those of the largest measured gallery. "
        "Galleries are the test images repeated, each repeat scaled by a factor of its own.",
        f"{ABOUT}: extrapolated from the largest measured gallery by a law fitted to the largest few, "
        "ms of search and rank = intercept + slope x items. "
        "The limit is the time of reading all embeddings once. Build: what depends on the gallery alone, made once.",
        "FLOP: multiplications and additions of products and convolutions. Peak: of the whole process while encoding, "
        "scoring and ranking.",
    ]
    for line in lines:
        if line.missing:
            residual = finite(line.cost.law.get("residual"))
            fit = "" if residual is None else f"; the law deviates by up to {residual:.0%} from what it was fitted to"
            notes.append(f"{line.row.name}: {line.missing[0]['note']}{fit}.")
    return notes
