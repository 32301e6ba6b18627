"""What rows find of an extended ground truth: lists grow as long as it needs, both ways, and are kept.

Data whose images show identities bring one that nobody need ask for.  It looks at the whole gallery, so that the
(N, M) scores of a row are in memory at once, also of an independent one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from harness.data import sources
from harness.data.given.lists import Lists
from harness.data.given.vectors import Embeddings
from harness.data.prepared import Prepared
from harness.data.split import DataError
from harness.data.truths import Truth, of_identities, read
from harness.measure import evaluator, identities, metrics
from harness.measure.extended import evaluate, positives
from harness.phases import given
from harness.phases.time import contender
from harness.progress import Start, Watch
from harness.protocol import Staged
from harness.record import Extended, ExtendedRecord, Store
from harness.spec.given import same_split
from harness.spec.job import Job

LEAST = 50  # items of a list, as ECCV Caption needs


@dataclass(frozen=True)
class Retrieved:
    """Lists of the first k of every query, (N, k) captions and (M, k) images, and where asked for all scores."""

    i2t: np.ndarray
    t2i: np.ndarray
    scores: tuple[np.ndarray, np.ndarray] | None = None  # (N, M) for image queries, (N, M) for caption queries

    def tops(self) -> tuple[np.ndarray, np.ndarray]:
        return self.i2t, self.t2i


def phase(jobs: Sequence[Job], store: Store, watch: Start, *, asked: Sequence[str]) -> Iterator[str]:
    """Every row that is recorded and not yet measured by these truths, a line each.

    Those asked for, and the identities of the data where they tell any.  Raises DataError.
    """
    done = [job for job in jobs if store.finished(job.key) is not None]
    while done:
        part = [job for job in done if same_split(job.data, done[0].data)]
        done = [job for job in done if job not in part]
        if asked or sources.shows_identities(part[0].data):
            yield from _of_split(part, store, watch, asked)


def _of_split(jobs: Sequence[Job], store: Store, watch: Start, asked: Sequence[str]) -> Iterator[str]:
    data = given.prepared(jobs)
    truths = [read(name, data.ranked.split) for name in asked]
    most = [_positives(truth, way).most for truth in truths for way, some in truth.answers.items() if some]
    k = max([LEAST, *most])
    own = of_identities(data.ranked.split)
    if own is not None:
        truths.append(own)
    for job in jobs if truths else ():
        known = store.extended(job.key)
        if known is not None and {t.digest for t in truths} <= {entry["digest"] for entry in known.truths}:
            continue
        row = _retrieved(job, data, store, k, watch(f"{job.name}, extended truths"), whole=own is not None)
        if row is None:
            yield f"missing {job.name}: no weights to rank by extended truths (--force trains it again)"
            continue
        if own is not None and row.scores is None:
            yield f"missing {job.name}: its lists end before the gallery does and tell no places of all of an identity"
        found = [_measured(truth, row, job) for truth in truths if row.scores is not None or not truth.whole]
        if not found:
            continue
        kept = [] if known is None else [e for e in known.truths if e["digest"] not in {f["digest"] for f in found}]
        store.save_extended(ExtendedRecord(job.key, job.model.label, [*kept, *found]), *row.tops())
        parts = "; ".join(f"{entry['name']} {_said(entry)}" for entry in found)
        yield f"truths  {job.name}: {parts}"


def _positives(truth: Truth, way: str):
    return positives(truth.answers[way], truth.beyond[way])


def _measured(truth: Truth, row: Retrieved, job: Job) -> Extended:
    numbers: dict[str, dict[str, float]] = {}
    queries: dict[str, float] = {}
    for way, first, other in (("i2t", row.i2t, row.t2i), ("t2i", row.t2i, row.i2t)):
        if truth.answers[way]:
            if truth.whole:
                numbers[way] = identities.summary(
                    identities.placed(partial(_of_query, row, way), _positives(truth, way))
                )
            else:
                try:
                    numbers[way] = evaluate(first, _positives(truth, way), len(other)).summary()
                except ValueError as error:
                    raise DataError(f"{job.model.label}, {truth.name}, {way}: {error}") from None
            queries[way] = len(truth.answers[way])
    return {"name": truth.name, "digest": truth.digest, "queries": queries, "percent": numbers, "note": truth.note}


def _of_query(row: Retrieved, way: str, query: int) -> np.ndarray:
    """(G,) scores of a query with its whole gallery."""
    assert row.scores is not None
    return row.scores[0][query] if way == "i2t" else row.scores[1][:, query]


def _said(entry: Extended) -> str:
    def told(of: Mapping[str, float]) -> str:
        mean = f"mAP {of['map']:.2f}, mINP {of['minp']:.2f}" if "map" in of else f"mAP@R {of['map_at_r']:.2f}"
        return f"{mean}, R@1 {of['r1']:.2f}"

    return ", ".join(f"{way} {told(of)}" for way, of in entry["percent"].items())


def _retrieved(job: Job, data: Prepared, store: Store, k: int, watch: Watch, *, whole: bool) -> Retrieved | None:
    """What a row retrieves, with all scores where `whole` and there are any; None where the weights are gone."""
    side = data.ranked
    if job.model.given:
        found = given.read_row(job, side.split)
        if isinstance(found, Lists):
            return Retrieved(found.i2t[:, :k], found.t2i[:, :k], _orders(found) if whole else None)
        if not isinstance(found, Embeddings):
            return _of_scores(found.i2t, found.i2t if found.t2i is None else found.t2i, k)
    row = contender(job, data, store)
    if row is None:
        return None
    if whole or isinstance(row.model, Staged):
        matrix, _ = evaluator.scores(row.model, side, job.settings, watch)
        return _of_scores(matrix, matrix, k)
    ranked, _ = evaluator.retrieved(row.model, side, job.settings, k, watch)
    return Retrieved(ranked.i2t_top, ranked.t2i_top)


def _of_scores(i2t: np.ndarray, t2i: np.ndarray, k: int) -> Retrieved:
    """i2t, t2i: (N, M), which may be the same."""
    return Retrieved(metrics.top(i2t, k, 1), metrics.top(t2i, k, 0), (i2t, t2i))


def _orders(found: Lists) -> tuple[np.ndarray, np.ndarray] | None:
    """Scores (N, M) that put items in the order of the lists; None where one is not of the whole gallery."""
    for lists, gallery in ((found.i2t, len(found.t2i)), (found.t2i, len(found.i2t))):
        if lists.shape[1] < gallery or (lists < 0).any():
            return None
    i2t, t2i = (-lists.argsort(1).astype(np.float32) for lists in (found.i2t, found.t2i))
    return i2t, t2i.T
