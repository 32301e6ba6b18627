"""How long a query is waited for, as records tell it: end to end, its parts, and in batches.

End to end is one caption, read and encoded, scored against a gallery and ranked, alone: the median over queries of all
three together.  Older records hold the caption's encoding and the rest apart; there the medians are added.  The two are
never in one column: where one row was timed end to end, only such rows are.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from harness.measure.intervals import Interval, median_interval
from harness.record import CostRecord, Gallery
from harness.report.formats import ABOUT, ABSENT, significant, six_figures, stored, whole
from harness.report.read.nested import differing, flatten
from harness.report.read.rows import Row

STAGES = ("encode", "search", "rank")  # of one query
BATCHED = ("score", "rank")  # of many at once, encoded already
GALLERY = 1_000  # images, where nothing else is said
MIB = 2**20
EITHER = 0.05  # how often a ratio of two times may lie beyond either end of its interval


@dataclass(frozen=True)
class QueryTime:
    """Milliseconds of one query among so many images, from its caption to the best images."""

    ms: float  # the median
    p95_ms: float
    p99_ms: float
    measured: bool  # else along the law of its row
    parts: Mapping[str, float]  # stage -> median; without those that were not told apart
    whole: bool  # timed as a whole, not in parts apart
    bounds: Interval | None = None  # where the median is, by `EITHER`; None where too few queries were timed to tell
    search_bounds: Interval | None = None  # that of search alone

    @property
    def search_ms(self) -> float:
        """Without encoding the caption."""
        return sum(ms for stage, ms in self.parts.items() if stage != "encode")


def query_time(cost: CostRecord | None, items: int | None = None) -> QueryTime | None:
    """Among `items` images, or among those of the data; None where there is no such figure."""
    return None if cost is None else _query_time(cost, cost.sizes.get("gallery") if items is None else items)


@lru_cache(maxsize=4096)  # tables, figures and page ask for the same ones, of a row and a gallery each
def _query_time(cost: CostRecord, size: int | None) -> QueryTime | None:
    entry = next((entry for entry in cost.galleries if entry["items"] == size), None)
    if entry is None:
        return None
    samples = entry.get("stages_ms")
    if samples is not None and samples.get("encode"):
        return _sampled(samples)
    if samples is not None:
        return _extrapolated(cost, entry)
    if not cost.query_encode_ms:
        return None
    encode = float(np.median(cost.query_encode_ms))
    late = {f"p{p}_ms": encode + entry[f"p{p}_ms"] for p in (95, 99)}
    parts = {"encode": encode, "search": entry["p50_ms"]}
    search = _median(entry.get("samples_ms") or (), 2) if entry["measured"] else _by_law(cost, entry)
    bounds = _sum(_median(cost.query_encode_ms, 2), search)
    return QueryTime(
        encode + entry["p50_ms"],
        **late,
        measured=entry["measured"],
        parts=parts,
        whole=False,
        bounds=bounds,
        search_bounds=search,
    )


def _median(samples: Sequence[float], parts: int) -> Interval | None:
    """As one of so many parts of a time that is divided by another of as many."""
    return median_interval(samples, 1 - EITHER / parts)


def _by_law(cost: CostRecord, entry: Gallery) -> Interval | None:
    """By as much as the law is off what it was fitted to; None where no law says by how much."""
    residual = finite(cost.law.get("residual"))
    if residual is None or not 0 <= residual < 1:
        return None
    return entry["p50_ms"] * (1 - residual), entry["p50_ms"] * (1 + residual)


def _sum(a: Interval | None, b: Interval | None) -> Interval | None:
    return None if a is None or b is None else (a[0] + b[0], a[1] + b[1])


def _sampled(samples: Mapping[str, Sequence[float]]) -> QueryTime:
    whole = np.sum([samples[stage] for stage in STAGES], 0)
    middle, *late = (float(np.percentile(whole, p)) for p in (50, 95, 99))
    parts = {stage: float(np.median(samples[stage])) for stage in STAGES}
    alone = np.add(samples["search"], samples["rank"])
    bounds, search = _median(whole.tolist(), 1), _median(alone.tolist(), 1)
    return QueryTime(middle, *late, measured=True, parts=parts, whole=True, bounds=bounds, search_bounds=search)


def _extrapolated(cost: CostRecord, entry: Gallery) -> QueryTime | None:
    """Encoding takes what it did elsewhere; what follows is divided as in the largest gallery that was measured."""
    encode = encode_ms(cost)
    if encode is None:
        return None
    parts = {"encode": encode, "search": entry["p50_ms"]}
    if sampled := _sampled_queries(cost):
        search, rank = (float(np.median(sampled[-1][stage])) for stage in ("search", "rank"))
        parts["rank"] = rank / (search + rank) * entry["p50_ms"] if search + rank else 0.0
        parts["search"] -= parts["rank"]
    late = (encode + entry["p95_ms"], encode + entry["p99_ms"])
    search = _by_law(cost, entry)
    bounds = _sum(_median(_encoded(cost), 2), search)
    return QueryTime(
        encode + entry["p50_ms"],
        *late,
        measured=False,
        parts=parts,
        whole=True,
        bounds=bounds,
        search_bounds=search,
    )


def encode_ms(cost: CostRecord) -> float | None:
    """One caption alone, read and encoded: the median over all queries; None where it was not timed."""
    encoded = _encoded(cost)
    return float(np.median(encoded)) if encoded else None


def _encoded(cost: CostRecord) -> list[float]:
    return [*cost.query_encode_ms, *(ms for samples in _sampled_queries(cost) for ms in samples["encode"])]


def _sampled_queries(cost: CostRecord) -> list[Mapping[str, list[float]]]:
    """Samples by stage of every gallery whose queries were timed as a whole."""
    return [samples for entry in cost.galleries if (samples := entry.get("stages_ms")) and samples.get("encode")]


@dataclass(frozen=True)
class TimeCurve:
    """Milliseconds of one query, from its caption to the best images, by the size of the gallery.

    Straight between the galleries of a record, along the record's law beyond its largest one; a gallery below the
    smallest takes no longer than that.
    """

    items: tuple[int, ...]  # growing
    ms: tuple[float, ...]
    slope: float | None  # milliseconds per further image beyond the last gallery; None without a law
    least: int  # smallest and largest gallery that was measured; 0 where none was
    most: int
    whole: bool  # timed as a whole, not in parts apart
    residual: float | None = None  # by how much the law is off what it was fitted to, at most

    def at(self, items: int) -> float | None:
        """None beyond the last gallery where there is no law."""
        last = len(self.items) - 1
        place = bisect_right(self.items, items) - 1
        if place < 0:
            return self.ms[0]
        if items == self.items[place]:
            return self.ms[place]
        if place == last:
            return None if self.slope is None else self.ms[last] + self.slope * (items - self.items[last])
        share = (items - self.items[place]) / (self.items[place + 1] - self.items[place])
        return self.ms[place] + share * (self.ms[place + 1] - self.ms[place])

    def is_measured(self, items: int) -> bool:
        """Whether so many images lie within what was measured."""
        return self.least <= items <= self.most


def time_curve(cost: CostRecord | None) -> TimeCurve | None:
    """Of all galleries of a record; None where no query was timed from its caption on."""
    if cost is None:
        return None
    entries = {entry["items"]: entry for entry in reversed(cost.galleries)}
    found = {items: time for items in sorted(entries) if (time := query_time(cost, items)) is not None}
    if not found:
        return None
    measured = [items for items, time in found.items() if time.measured]
    last = max(found)
    residual = finite(cost.law.get("residual"))
    ends = (min(measured, default=0), max(measured, default=0))
    times = tuple(six_figures(time.ms) for time in found.values())
    whole = any(time.whole for time in found.values())
    return TimeCurve(tuple(found), times, _slope(cost, entries[last]), *ends, whole, residual)


def _slope(cost: CostRecord, entry: Gallery) -> float | None:
    """Of the law through the search and rank of one gallery, as records extrapolate; None without a law."""
    intercept, per_item = finite(cost.law.get("intercept_ms")), finite(cost.law.get("ms_per_item"))
    if intercept is None or per_item is None or (there := intercept + per_item * entry["items"]) <= 0:
        return None
    return six_figures(entry["p50_ms"] * per_item / there)


def finite(value: object) -> float | None:
    """A number of a part of a record that no schema looks into; None where it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < 1e300 and math.isfinite(value) else None


def time_curves(rows: Sequence[Row]) -> Mapping[str, TimeCurve]:
    """By the name of the row, as `query_times`: of rows timed as a whole, or where there is none of those timed in
    parts; none where rows were not timed alike."""
    if timing_conflict(rows):
        return {}
    found = {row.name: curve for row in rows if (curve := time_curve(row.cost)) is not None}
    whole = {name: curve for name, curve in found.items() if curve.whole}
    return whole or found


def query_times(rows: Sequence[Row], items: int | None = None) -> Mapping[str, QueryTime]:
    """By the name of the row: rows timed as a whole, or where there is none those timed in parts; none where rows were
    not timed alike."""
    if timing_conflict(rows):
        return {}
    found = {row.name: time for row in rows if (time := query_time(row.cost, items)) is not None}
    whole = {name: time for name, time in found.items() if time.whole}
    return whole or found


def without_time(rows: Sequence[Row]) -> str:
    """Which timed rows have no end-to-end time, or how it was found where that was in parts; "" where all have one."""
    found = query_times(rows)
    timed = [row.name for row in rows if row.cost is not None]
    given = [row.name for row in rows if row.cost is not None and row.is_given]
    missing = [name for name in timed if name not in [*found, *given]]
    if not timed or timing_conflict(rows):
        return ""
    told = []
    if found and not any(time.whole for time in found.values()):
        told.append("Encoding and searching were timed apart, end to end is the sum of their medians.")
    if given:
        told.append(f"No end-to-end time of {', '.join(given)}: encoded elsewhere, in a time that no file tells.")
    if missing:
        which = "any row" if len(missing) == len(timed) else ", ".join(missing)
        told.append(f"No end-to-end time of {which}: records from before single queries were timed as a whole.")
    return " ".join(told)


@dataclass(frozen=True)
class TimeAxis:
    """By which time the rows of a chart are placed."""

    name: str
    label: str
    ms: Mapping[str, float]  # row -> milliseconds a query


def time_axis(rows: Sequence[Row]) -> TimeAxis:
    """End to end where a row has such a time; else scoring and ranking in batches."""
    if ends := query_times(rows):
        ms = {name: time.ms for name, time in ends.items()}
        return TimeAxis("end to end", "one caption end to end: encode, search, rank; ms (log scale)", ms)
    conflict = timing_conflict(rows)
    found = {row.name: None if conflict else stage_ms(row.cost, BATCHED, "queries") for row in rows}
    ms = {name: time for name, time in found.items() if time}
    return TimeAxis("score+rank", "score + rank in batches, encoding left out; ms per query (log scale)", ms)


def search_times(rows: Sequence[Row]) -> Mapping[str, float]:
    """Milliseconds of search alone, the caption encoded already: of single queries, or in batches where rows have no
    end-to-end time."""
    ends = query_times(rows)
    return {name: time.search_ms for name, time in ends.items()} if ends else time_axis(rows).ms


def batch_rate(cost: CostRecord | None) -> float | None:
    """Captions encoded, scored and ranked per second in batches."""
    encode, answer = stage_ms(cost, ["encode_texts"], "captions"), stage_ms(cost, BATCHED, "queries")
    return None if encode is None or not answer else 1000 / (encode + answer)


def stage_ms(cost: CostRecord | None, stages: Sequence[str], per: str) -> float | None:
    """Milliseconds per item: median samples of the stages, added up, over the items of one.  None where absent."""
    if cost is None or not cost.sizes.get(per) or not all(cost.samples_s.get(stage) for stage in stages):
        return None
    return 1000 * sum(float(np.median(cost.samples_s[stage])) for stage in stages) / cost.sizes[per]


def timing_conflict(rows: Sequence[Row]) -> str:
    """Why the times of these rows must not share a column; "" where they may."""
    costs = [(row.name, cost) for row in rows if (cost := row.cost) is not None]
    if all(cost.machine == costs[0][1].machine and cost.sizes == costs[0][1].sizes for _, cost in costs):
        return ""
    timed = [(name, flatten({**cost.machine, "sizes": cost.sizes})) for name, cost in costs]
    parts = []
    for name in differing([flat for _, flat in timed]):
        by_value: dict[str, list[str]] = {}
        for row, flat in timed:
            by_value.setdefault(stored(flat.get(name)), []).append(row)
        parts.append(f"{name} " + ", ".join(f"{value} ({', '.join(names)})" for value, names in by_value.items()))
    return f"Times are left out, rows were not timed alike: {'; '.join(parts)}." if parts else ""


def timing_note(rows: Sequence[Row]) -> str:
    """How the times of a table were found."""
    cost = next((row.cost for row in rows if row.cost), None)
    if cost is None:
        return "Nothing was timed."
    counts = sorted({len(s) for row in rows if row.cost for s in row.cost.samples_s.values()})
    samples = " to ".join(map(str, counts[:: max(1, len(counts) - 1)]))
    machine = ", ".join(f"{name} {stored(value)}" for name, value in sorted(cost.machine.items()))
    return (
        f"Times are medians ({machine}). End to end: one caption alone, read, encoded, scored against "
        f"{cost.sizes.get('gallery', ABSENT)} images that are encoded already, and ranked. In batches: encoding, "
        f"scoring and ranking of many captions at once, {samples} samples."
    )


def index_mib(cost: CostRecord | None, items: int = GALLERY) -> float | None:
    """MiB kept for `items` images; None where nothing was timed."""
    return None if cost is None else cost.index_bytes_per_image * items / MIB


def shown_ms(time: QueryTime) -> str:
    """Two figures, `0.91`, `1,200`; ≈ before what was not measured."""
    rounded = float(f"{time.ms:.2g}")
    return ("" if time.measured else ABOUT) + (whole(rounded) if rounded >= 100 else significant(rounded, 2))
