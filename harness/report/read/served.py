"""Rows as a search engine serves them: a quick index names a shortlist, their own scores order it.

Index records say how fast that is, and which share of the exact first ten it finds (`harness.measure.late`).  What is
retrieved for image queries is not served so.  Rsum is therefore that of the exact row with its text-to-image recalls
times that share, as if a right image were lost as often as any other: derived, not measured, and in no front.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness.measure.intervals import mean_sd
from harness.record import Searched
from harness.report.formats import six_figures
from harness.report.read.rows import Row
from harness.report.read.times import TimeCurve, encode_ms

INDEXES = ("word anchors", "muvera sq8")
SETTING = "shortlist="
ENOUGH = 0.95  # of the exact first ten; of ways that find as many the fastest is shown, else the one that finds most


@dataclass(frozen=True)
class Served:
    """A row by one index and one length of the shortlist, in every gallery where that was measured."""

    row: Row
    index: str
    k: int  # images scored exactly
    neighbours: int  # recall is that of so many
    encode_ms: float  # of one caption
    entries: tuple[Searched, ...]  # by growing galleries

    @property
    def name(self) -> str:
        return f"{self.row.name} by {self.index}"

    @property
    def recall(self) -> float:
        """The least of all galleries."""
        return min(entry["recall"] or 0.0 for entry in self.entries)

    @property
    def curve(self) -> TimeCurve:
        """End to end; nothing is said beyond the largest gallery."""
        items = tuple(entry["items"] for entry in self.entries)
        return TimeCurve(items, tuple(map(self.ms, self.entries)), None, items[0], items[-1], whole=True)

    def ms(self, entry: Searched) -> float:
        return six_figures(self.encode_ms + (entry["p50_ms"] or 0.0))

    def mean(self, name: str, recall: float | None = None) -> float:
        """Of `rsum`, `t2i_r1` or `i2t_r1` over seeds, where so much of the exact first is found."""
        share = self.recall if recall is None else recall
        values = []
        for run in self.row.runs:
            lost = sum(run.accuracy[f"t2i_r{k}"] for k in (1, 5, 10)) if name == "rsum" else run.accuracy["t2i_r1"]
            values.append(run.accuracy[name] - (0.0 if name == "i2t_r1" else (1 - share) * lost))
        return mean_sd(values)[0]


def served(rows: Sequence[Row]) -> list[Served]:
    """Of every row that was measured so on the machine its own times are from, by index and length of the shortlist."""
    return [found for row in rows for found in _of(row)]


def _of(row: Row) -> Iterator[Served]:
    index = next((run.index for run in row.runs if run.index is not None), None)
    encode = None if row.cost is None else encode_ms(row.cost)
    if index is None or row.cost is None or encode is None or dict(index.machine) != dict(row.cost.machine):
        return
    by_setting: dict[tuple[str, int], list[Searched]] = {}
    for entry in sorted(index.entries, key=lambda entry: entry["items"]):
        length = entry["setting"].removeprefix(SETTING)
        told = entry["recall"] is not None and entry["p50_ms"] is not None and entry["bytes"] is not None
        if told and entry["index"] in INDEXES and length.isdecimal() and int(length) < entry["items"]:
            by_setting.setdefault((entry["index"], int(length)), []).append(entry)
    for (name, k), entries in by_setting.items():
        yield Served(row, name, k, index.neighbours, encode, tuple(entries))


def among(rows: Sequence[Row], items: int | None) -> list[tuple[Served, Searched]]:
    """The one way of each row that is worth showing among so many images: the fastest that finds `ENOUGH`, else the one
    that finds most."""
    best: dict[str, tuple[Served, Searched]] = {}
    for found in served(rows):
        for entry in (entry for entry in found.entries if entry["items"] == items):
            known = best.get(found.row.name)
            if known is None or _worth(entry) < _worth(known[1]):
                best[found.row.name] = (found, entry)
    return list(best.values())


def _worth(entry: Searched) -> tuple[float, float]:
    """The less the better."""
    return -min(entry["recall"] or 0.0, ENOUGH), entry["p50_ms"] or 0.0
