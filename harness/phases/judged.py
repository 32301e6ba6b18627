"""How rows agree with what people said of pairs: the scores of those pairs are kept, with their places."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from harness.data.given.lists import Lists
from harness.data.given.matrix import Scores
from harness.data.judgements import Judgements, Placed, placed
from harness.data.prepared import Prepared
from harness.measure import evaluator
from harness.measure.judged import above, agreement
from harness.phases import given
from harness.phases.time import contender
from harness.progress import Start, Watch
from harness.record import Judged, Store
from harness.spec.given import same_split
from harness.spec.job import Job


def phase(jobs: Sequence[Job], store: Store, watch: Start, *, judgements: Judgements) -> Iterator[str]:
    """Every row that is recorded and not yet beside these judgements, a line each.  Raises DataError."""
    yield from (f"judged  {note}" for note in judgements.notes)
    done = [job for job in jobs if store.finished(job.key) is not None]
    while done:
        part = [job for job in done if same_split(job.data, done[0].data)]
        done = [job for job in done if job not in part]
        yield from _of_split(part, store, watch, judgements)


def _of_split(jobs: Sequence[Job], store: Store, watch: Start, judgements: Judgements) -> Iterator[str]:
    data = given.prepared(jobs)
    pairs = placed(judgements, data.ranked.split)
    if any(pairs.outside):
        experts, crowd = pairs.outside
        yield (
            f"judged  left out, their image or caption is not in the ranked split: {experts:,} judgements of experts, "
            f"{crowd:,} of the crowd"
        )
    empty = _unscored(pairs, data, judgements)
    for job in jobs:
        known = store.judged(job.key)
        if known is not None and known.digest.item() == empty.digest.item():
            continue
        matrices = _matrices(job, data, store, watch(f"{job.name}, judged pairs"))
        if isinstance(matrices, str):
            yield f"missing {job.name}: {matrices}"
            continue
        found = scored(empty, matrices)
        store.save_judged(job.key, found)
        yield f"judged  {job.name}: {_said(found)}"


def _unscored(pairs: Placed, data: Prepared, judgements: Judgements) -> Judged:
    """All that is the same for every row on a split."""
    split, none = data.ranked.split, np.zeros(len(pairs.images), np.int64)
    found = Judged(
        images=pairs.images,
        captions=pairs.captions,
        own=pairs.own,
        experts=pairs.experts,
        yes=pairs.yes,
        votes=pairs.votes,
        scores=np.zeros((1, len(none)), np.float32),
        i2t_above=none,
        t2i_above=none,
        gallery=np.array([len(split.images), len(split.captions)]),
        damaged=np.array([judgements.experts.damaged, judgements.crowd.damaged]),
        outside=np.array(pairs.outside),
        digest=np.array(""),
    )
    return replace(found, digest=np.array(found.said()))


def scored(pairs: Judged, matrices: Sequence[np.ndarray]) -> Judged:
    """With the scores of one row.  matrices: (N, M) each, one, or those by which images and by which captions ask."""
    i2t, _ = above(matrices[0], pairs.images, pairs.captions)
    _, t2i = above(matrices[-1], pairs.images, pairs.captions)
    scores = np.stack([matrix[pairs.images, pairs.captions] for matrix in matrices])
    return replace(pairs, scores=scores, i2t_above=i2t, t2i_above=t2i)


def _said(found: Judged) -> str:
    """Of the experts, or where they were not asked that there is nothing of theirs."""
    asked = (found.experts > 0) & ~found.own
    if not asked.any():
        return "its scores are kept; no pair of an image and the caption of another was shown to experts"
    told = agreement(found.scores[-1:, asked], found.experts[asked], found.captions[asked])
    tau = "undefined, all tie" if told.over_all.value is None else f"{told.over_all.value:+.3f}"
    bounds = told.over_all.interval
    sure = "" if bounds is None else f", 95% from {bounds[0]:+.3f} to {bounds[1]:+.3f}"
    return f"Kendall's tau with experts {tau}{sure} ({told.pairs:,} pairs of {told.queries:,} captions)"


def _matrices(job: Job, data: Prepared, store: Store, watch: Watch) -> Sequence[np.ndarray] | str:
    """The (N, M) scores of the row, of one in two stages by its close look at every pair; or why there are none."""
    side = data.ranked
    if job.model.given:
        found = given.read_row(job, side.split)
        if isinstance(found, Lists):
            return "lists of what was retrieved have no score for every judged pair"
        if isinstance(found, Scores):
            return [found.i2t] if found.t2i is None else [found.i2t, found.t2i]
    row = contender(job, data, store)
    if row is None:
        return "no weights to score judged pairs by (--force trains it again)"
    matrix, _ = evaluator.scores(row.model, side, job.settings, watch)
    return [matrix]
