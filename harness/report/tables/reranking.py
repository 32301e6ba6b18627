"""Retrieve, then rerank: what a shortlist of k costs and how accurate it becomes, pair by pair.

Pure: stored pairs in, points and sheets out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from harness.record import RECALLS, CostRecord, RerankRecord
from harness.report.formats import ABSENT, Sheet, decimals, significant
from harness.report.read.nested import differing, flatten
from harness.report.read.times import encode_ms

NOTE = (
    "The independent model picks the best k of the gallery, the interactive one puts them in order; beyond the "
    "shortlist the first order stays, so k = 1 is the retriever alone and the last k the reranker alone. "
    "Ceiling: queries with a right answer in the shortlist, the most R@1 can become; of Rsum, the most the six recalls "
    "can add up to. Ties count against both models. Weights of each row's first seed."
)
TIME_NOTE = (
    "ms/query: the encoded query against the whole encoded gallery, the best k picked, k candidates gathered, scored "
    "and ordered; medians of the samples of both parts, added up"
)


@dataclass(frozen=True)
class Point:
    """One pair at one shortlist size; percent and milliseconds."""

    retriever: str
    reranker: str
    k: int
    accuracy: dict[str, float]  # as stored, with `rsum`
    t2i_ms: float | None  # per query, None where not timed
    i2t_ms: float | None


def points(pairs: Sequence[RerankRecord], timed: bool = True) -> list[Point]:
    """Every pair at every shortlist size, in the order of the pairs."""
    found = []
    for pair in pairs:
        for place, k in enumerate(pair.ks):
            accuracy = {name: values[place] for name, values in pair.accuracy.items()}
            accuracy["rsum"] = sum(accuracy[name] for name in RECALLS)
            t2i, i2t = (_ms(pair, way, place) if timed else None for way in ("t2i", "i2t"))
            found.append(Point(pair.retriever, pair.reranker, k, accuracy, t2i, i2t))
    return found


def _ms(pair: RerankRecord, way: str, place: int) -> float | None:
    """Median of the retriever's samples plus that of the reranker's; None where either has none."""
    samples = [pair.samples_s.get(f"{way}_{part}", [[]] * len(pair.ks))[place] for part in ("retrieve", "rerank")]
    return 1000 * sum(float(np.median(values)) for values in samples) if all(samples) else None


def added_ms(pair: RerankRecord, place: int, first: CostRecord | None, second: CostRecord | None) -> float | None:
    """What the reranker adds to a query of the retriever: the caption encoded by it too, and k candidates put in order.

    place: of k.  None where either was not timed, or the pair on another machine than the retriever.
    """
    samples = pair.samples_s.get("t2i_rerank", [])
    again = None if second is None else encode_ms(second)
    if first is None or again is None or not samples or not all(samples) or dict(pair.machine) != dict(first.machine):
        return None
    return again + 1000 * float(np.median(samples[place]))


def is_power_of_ten(k: int) -> bool:
    return str(k).rstrip("0") == "1"


def conflict(pairs: Sequence[RerankRecord]) -> str:
    """Why the times of these pairs must not share a column; "" where they may."""
    timed = [pair for pair in pairs if pair.samples_s]
    names = differing(
        [flatten({**pair.machine, "sizes": pair.sizes, "queries": tuple(pair.queries)}) for pair in timed]
    )
    return f"Times are left out, pairs were not timed alike: {', '.join(names)} differ." if names else ""


def rerank_sheets(pairs: Sequence[RerankRecord]) -> tuple[Sheet, Sheet] | None:
    """For reading, k = 1, 10, 100 ... and the whole galleries; and every k, for CSV.  None where there are no pairs."""
    if not pairs:
        return None
    unlike = conflict(pairs)
    every = points(pairs, timed=not unlike)
    ends = {(pair.retriever, pair.reranker): {pair.ks[-1], *pair.sizes.values()} for pair in pairs}
    few = [p for p in every if p.k in ends[p.retriever, p.reranker] or is_power_of_ten(p.k)]
    notes = (NOTE, unlike or _time_note(pairs))
    return _sheet(few, notes), _sheet(every, notes)


def _time_note(pairs: Sequence[RerankRecord]) -> str:
    timed = next((pair for pair in pairs if pair.samples_s), None)
    if timed is None:
        return "Nothing was timed."
    machine = ", ".join(f"{name} {ABSENT if value is None else value}" for name, value in sorted(timed.machine.items()))
    counts = sorted({len(samples) for pair in pairs for of_k in pair.samples_s.values() for samples in of_k})
    return f"{TIME_NOTE} ({' to '.join(map(str, sorted({counts[0], counts[-1]})))} samples; {machine})."


def _sheet(shown: Sequence[Point], notes: tuple[str, ...]) -> Sheet:
    names = {"retriever": [p.retriever for p in shown], "reranker": [p.reranker for p in shown]}
    figures = {
        "k": [str(p.k) for p in shown],
        **{
            title: [decimals(1)(p.accuracy[name]) for p in shown]
            for title, name in {
                **{name.replace("_r", " R@"): name for name in RECALLS},
                "Rsum": "rsum",
                "i2t ceiling": "i2t_ceiling",
                "t2i ceiling": "t2i_ceiling",
                "Rsum ceiling": "rsum_ceiling",
            }.items()
        },
        "t2i ms/query": [ABSENT if p.t2i_ms is None else significant(p.t2i_ms) for p in shown],
        "i2t ms/query": [ABSENT if p.i2t_ms is None else significant(p.i2t_ms) for p in shown],
    }
    text = pd.DataFrame(names | figures, dtype=str)
    return Sheet("Retrieve, then rerank", text, text, notes=notes, names=2)
