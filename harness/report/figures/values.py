"""What figures are drawn of, and what comes of it, as plain values: nothing here draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from harness.report.figures.looks import ELSEWHERE


@dataclass(frozen=True)
class Picture:
    """A finished figure."""

    title: str
    caption: str  # data set and settings; also drawn under the figure
    svg: bytes
    png: bytes


@dataclass(frozen=True)
class Point:
    """One method."""

    name: str
    family: str
    ms: float  # per query, more than 0
    rsum: float
    interval: tuple[float, float] | None = None  # of rsum, None where it is not known
    ensemble: bool = False  # several models together: drawn hollow, never ranked with single ones
    serves: str = ""  # the row that a shortlist stands in for: drawn small and hollow, never ranked, its Rsum derived

    @property
    def row(self) -> str:
        return self.serves or self.name


def front(points: Sequence[Point]) -> list[Point]:
    """The single models that no other beats: as fast and as accurate, and better in one of both.  From fast to slow.

    Rows that were trained elsewhere are in none: how, and on what, is not known.
    """
    single = [point for point in points if not (point.ensemble or point.serves or point.family in ELSEWHERE)]
    kept = [point for point in single if not any(_beats(other, point) for other in single)]
    return sorted(kept, key=lambda point: (point.ms, -point.rsum, point.name))


def _beats(other: Point, point: Point) -> bool:
    return other.ms <= point.ms and other.rsum >= point.rsum and (other.ms, other.rsum) != (point.ms, point.rsum)


@dataclass(frozen=True)
class Share:
    """One row between a student and a teacher."""

    name: str
    student: str
    family: str
    ms: float  # per query, more than 0
    percent: float  # of the gap
    interval: tuple[float, float] | None = None  # of percent, None where it is not known


class Shortlist(NamedTuple):
    """A pair at one size of the shortlist."""

    label: str  # "" = goes unnamed
    ms: float  # per caption query
    rsum: float
    ceiling: float  # what the shortlist allows


Curves = Mapping[str, Mapping[str, Sequence[Shortlist]]]  # reranker -> retriever -> from short to long
