"""What a group of records offers to choose from: its rows, and pairs of a retriever and a reranker.

A pair takes what its retriever does, then the caption once more, encoded by the reranker, and k candidates put in
order, which does not depend on the gallery.  It keeps the index of both: a shortlist may hold any image.  All numbers
are of six figures, so that the page, which holds them, is the same text on every processor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from harness.measure.intervals import mean_sd, t_interval
from harness.record import RECALLS, RerankRecord
from harness.report.formats import six_figures
from harness.report.read.groups import Group
from harness.report.read.rows import Row
from harness.report.read.served import served
from harness.report.read.times import TimeCurve, time_curves, timing_conflict
from harness.report.tables import reranking
from harness.report.tables.choice import Candidate

FIGURES = {"rsum": "rsum", "t2i-r1": "t2i_r1", "i2t-r1": "i2t_r1"}  # as choices call it -> as runs do


@dataclass(frozen=True)
class Field:
    """All candidates of one group of records, timed on one machine."""

    candidates: tuple[Candidate, ...]
    rows: Mapping[str, Row]  # name -> row, of single rows
    left_out: tuple[str, ...]  # why some rows and pairs are none, a sentence each


def candidates(group: Group) -> Field:
    """Single models that were trained here and timed alike, and pairs of them.  Raises RecordError."""
    ranked = [row for row in group.rows if row.runs and not row.is_scale]
    ensembles = [row.name for row in ranked if row.is_ensemble]
    elsewhere = [row.name for row in ranked if row.is_elsewhere and not row.is_ensemble]
    rows = {row.name: row for row in ranked if row.name not in (*ensembles, *elsewhere)}
    curves = time_curves(list(rows.values()))
    singles = [_single(row, curves[name], group.is_tuned) for name, row in rows.items() if name in curves]
    pairs, unlike = _pairs(group, rows, curves)
    untimed = [name for name in rows if name not in curves]
    told = (
        (ensembles, "several models together, never ranked with single ones"),
        (elsewhere, "trained elsewhere, never ranked with those trained here"),
        ([] if not curves else untimed, "not timed from the caption on"),
        (unlike, "reranking not timed, or not as its rows were"),
    )
    words = [f"Left out, {why}: {', '.join(names)}." for names, why in told if names]
    conflict = timing_conflict(list(rows.values()))
    return Field((*singles, *pairs, *_served(group, curves)), rows, (*words, *([conflict] if conflict else [])))


def _single(row: Row, curve: TimeCurve, is_tuned: bool) -> Candidate:
    assert row.cost is not None  # it has a curve
    values = {by: [run.accuracy[name] for run in row.runs] for by, name in FIGURES.items()}
    return Candidate(
        name=row.name,
        means={by: six_figures(mean_sd(of_seeds)[0]) for by, of_seeds in values.items()},
        curve=curve,
        bytes_per_image=six_figures(row.cost.index_bytes_per_image),
        images=len(row.runs[0].usable_ranks.i2t),
        family=row.family,
        intervals={by: t_interval(of_seeds) for by, of_seeds in values.items()},
        seeds=len(row.runs),
        untuned=is_tuned and not row.is_settled,
    )


def _pairs(group: Group, rows: Mapping[str, Row], curves: Mapping[str, TimeCurve]) -> tuple[list[Candidate], list[str]]:
    """Every pair at every size of its shortlist, and the names of pairs whose time does not go with that of the rows.

    Shortlists of one image are the retriever alone, those of all images the reranker: they are no pairs.
    """
    found, unlike = [], []
    for pair in group.reranks:
        if pair.retriever not in curves or pair.reranker not in curves:
            continue  # said of the row
        first, second = rows[pair.retriever].cost, rows[pair.reranker].cost
        assert first is not None
        assert second is not None
        added = [reranking.added_ms(pair, place, first, second) for place in range(len(pair.ks))]
        if None in added:
            unlike.append(_of_both(pair))
            continue
        untuned = group.is_tuned and not all(rows[name].is_settled for name in (pair.retriever, pair.reranker))
        images = pair.sizes.get("images", 0)
        for place, k in enumerate(pair.ks):
            if 1 < k < images:
                accuracy = {name: values[place] for name, values in pair.accuracy.items()}
                found.append(
                    Candidate(
                        name=_of_both(pair),
                        means={
                            "rsum": six_figures(sum(accuracy[name] for name in RECALLS)),
                            "t2i-r1": six_figures(accuracy["t2i_r1"]),
                            "i2t-r1": six_figures(accuracy["i2t_r1"]),
                        },
                        curve=curves[pair.retriever],
                        bytes_per_image=six_figures(first.index_bytes_per_image + second.index_bytes_per_image),
                        images=images,
                        family="retrieve, then rerank",
                        k=k,
                        rerank_ms=six_figures(added[place] or 0.0),
                        untuned=untuned,
                    )
                )
    return found, unlike


def _served(group: Group, curves: Mapping[str, TimeCurve]) -> list[Candidate]:
    """Rows by a shortlist that an index names, at every length that was measured; their accuracy is derived."""
    return [
        Candidate(
            name=way.name,
            means={by: six_figures(way.mean(name)) for by, name in FIGURES.items()},
            curve=way.curve,
            bytes_per_image=six_figures((way.entries[-1]["bytes"] or 0.0) / way.entries[-1]["items"]),
            images=len(way.row.runs[0].usable_ranks.i2t),
            family="shortlist, then exact",
            k=way.k,
            seeds=len(way.row.runs),
            untuned=group.is_tuned and not way.row.is_settled,
        )
        for way in served([row for row in group.rows if row.runs and row.name in curves])
    ]


def _of_both(pair: RerankRecord) -> str:
    return f"{pair.retriever}, then {pair.reranker}"
