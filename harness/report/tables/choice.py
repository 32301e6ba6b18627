"""Which row, or which row reranked by another, is most accurate within a budget of time and memory?

Pure: candidates in, the choice among them out.  A candidate's time is that of its row along the galleries of its record
(`harness.report.read.times`), its memory the index of all images.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf, isfinite

from harness.measure.intervals import Interval
from harness.report.formats import ABOUT, significant, whole
from harness.report.read.times import TimeCurve

BY = {"rsum": "Rsum", "t2i-r1": "t2i R@1", "i2t-r1": "i2t R@1"}  # what the best one is best in


@dataclass(frozen=True)
class Candidate:
    """A row, or a pair of a retriever and a reranker at one size of the shortlist."""

    name: str  # of the row, or of both
    means: Mapping[str, float]  # each of BY, over seeds
    curve: TimeCurve  # of the row, or of the retriever
    bytes_per_image: float
    images: int  # among so many the accuracy was measured
    family: str = "independent"
    intervals: Mapping[str, Interval | None] = field(default_factory=dict)  # 95%, over seeds; None of one seed
    seeds: int = 1
    k: int | None = None  # images of the shortlist; None of a single row
    rerank_ms: float = 0.0  # of the pair, beside what the retriever takes
    untuned: bool = False  # without settings from trials of its own

    @property
    def title(self) -> str:
        return self.name + ("" if self.k is None else f", k={self.k:,}")

    @property
    def sure(self) -> str:
        return f"{self.seeds} seed{'s' * (self.seeds != 1)}"


@dataclass(frozen=True)
class Budget:
    """What one query may take among so many images."""

    gallery: int
    ms: float
    memory: float = inf  # bytes of the index

    def __post_init__(self) -> None:
        """Raises ValueError where nothing can be chosen within it."""
        if self.gallery < 1 or not (self.ms > 0 and self.memory > 0):  # nor of what is no number
            raise ValueError(f"a budget takes images, time and memory above zero, got {self}")


@dataclass(frozen=True)
class Offer:
    """What a candidate takes among the images of a budget."""

    candidate: Candidate
    ms: float
    memory: float  # bytes
    is_measured: bool  # whether so many images lie within what was measured

    def fits(self, budget: Budget) -> bool:
        return self.ms <= budget.ms and self.memory <= budget.memory

    def excess(self, budget: Budget) -> float:
        """How many times the budget it takes, of time or of memory, whichever is more."""
        return max(self.ms / budget.ms, self.memory / budget.memory)

    @property
    def shown_ms(self) -> str:
        """`11.0`, `1,200`; ≈ before what was not measured."""
        return ("" if self.is_measured else ABOUT) + (whole(self.ms) if self.ms >= 1000 else significant(self.ms))


@dataclass(frozen=True)
class Choice:
    """The best of what fits, and what is near; of a pair one size of its shortlist each."""

    inside: tuple[Offer, ...]  # best first: the choice, the runner-up and so on; none where nothing fits
    outside: tuple[Offer, ...]  # what is more accurate and does not fit, nearest to the budget first
    fastest: Offer | None  # of all, whether it fits or not; None where nothing was timed among so many images
    smallest: Offer | None

    @property
    def best(self) -> Offer | None:
        return next(iter(self.inside), None)

    @property
    def second(self) -> Offer | None:
        return self.inside[1] if len(self.inside) > 1 else None


def choose(candidates: Sequence[Candidate], budget: Budget, by: str = "rsum") -> Choice:
    """The most accurate within the budget; of equals the faster, then the smaller, then the first by name."""
    found = ranked(candidates, budget.gallery, by)
    inside = _first_of_each(offer for offer in found if offer.fits(budget))
    least = inside[0].candidate.means[by] if inside else -inf
    better = [offer for offer in found if offer.candidate.means[by] > least and not offer.fits(budget)]
    outside = _first_of_each(sorted(better, key=lambda offer: (offer.excess(budget), *_rank(offer, by))))
    fastest = min(found, key=lambda offer: (offer.ms, offer.memory, offer.candidate.title), default=None)
    smallest = min(found, key=lambda offer: (offer.memory, offer.ms, offer.candidate.title), default=None)
    return Choice(tuple(inside), tuple(outside), fastest, smallest)


def ranked(candidates: Sequence[Candidate], gallery: int, by: str = "rsum") -> list[Offer]:
    """All offers among so many images, best first."""
    return sorted(offers(candidates, gallery), key=lambda offer: _rank(offer, by))


def offers(candidates: Sequence[Candidate], gallery: int) -> list[Offer]:
    """Candidates among so many images, those left out whose time there nothing tells, or whose shortlist is no choice
    of them."""
    found = []
    for candidate in candidates:
        ms = candidate.curve.at(gallery)
        memory = candidate.bytes_per_image * gallery
        if ms is not None and isfinite(ms + memory) and (candidate.k is None or candidate.k < gallery):
            found.append(Offer(candidate, ms + candidate.rerank_ms, memory, candidate.curve.is_measured(gallery)))
    return found


def _rank(offer: Offer, by: str) -> tuple[float, float, float, str]:
    return -offer.candidate.means[by], offer.ms, offer.memory, offer.candidate.title


def _first_of_each(found: Iterable[Offer]) -> list[Offer]:
    kept: dict[str, Offer] = {}
    for offer in found:
        kept.setdefault(offer.candidate.name, offer)
    return list(kept.values())
