"""How rows agree with what people said of pairs: the scores of those pairs are kept, with their places."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from harness.data.given.lists import Lists
from harness.data.given.matrix import Scores
from harness.data.judgements import Judgements, Placed, placed
from harness.data.split import Split
from harness.measure import evaluator
from harness.measure.judged import above, agreement
from harness.phases.opened import Row, by_split
from harness.progress import Start, Watch
from harness.record import Judged
from harness.store import Store


def phase(rows: Sequence[Row], store: Store, watch: Start, *, judgements: Judgements) -> Iterator[str]:
    """Every recorded row that is not yet beside these judgements, a line each.  Raises DataError."""
    yield from (f"judged  {note}" for note in judgements.notes)
    for part in by_split(rows):
        yield from _of_split(part, store, watch, judgements)


def _of_split(rows: Sequence[Row], store: Store, watch: Start, judgements: Judgements) -> Iterator[str]:
    split = rows[0].split
    pairs = placed(judgements, split)
    if any(pairs.outside):
        experts, crowd = pairs.outside
        yield (
            f"judged  left out, their image or caption is not in the ranked split: {experts:,} judgements of experts, "
            f"{crowd:,} of the crowd"
        )
    empty = _unscored(pairs, split, judgements)
    for row in rows:
        known = store.judged(row.key)
        if known is not None and known.digest.item() == empty.digest.item():
            continue
        matrices = _matrices(row, watch(f"{row.name}, judged pairs"))
        if isinstance(matrices, str):
            yield f"missing {row.name}: {matrices}"
            continue
        found = scored(empty, matrices)
        store.save_judged(row.key, found)
        yield f"judged  {row.name}: {_said(found)}"


def _unscored(pairs: Placed, split: Split, judgements: Judgements) -> Judged:
    """All that is the same for every row on a split."""
    none = np.zeros(len(pairs.images), np.int64)
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


def _matrices(row: Row, watch: Watch) -> Sequence[np.ndarray] | str:
    """The (N, M) scores of the row, of one in two stages by its close look at every pair; or why there are none."""
    found = row.open(watch)
    if isinstance(found, str):
        return found
    if isinstance(found, Lists):
        return "lists of what was retrieved have no score for every judged pair"
    if isinstance(found, Scores):
        return [found.i2t] if found.t2i is None else [found.i2t, found.t2i]
    matrix, _ = evaluator.scores(found.model, found.side, found.settings, watch)
    return [matrix]
