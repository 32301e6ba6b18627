"""What rows find of an extended ground truth: lists grow as long as it needs, both ways, and are kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from harness.data.given.lists import Lists
from harness.data.given.vectors import Embeddings
from harness.data.prepared import Prepared
from harness.data.split import DataError
from harness.data.truths import Truth, read
from harness.measure import evaluator, metrics
from harness.measure.extended import evaluate, positives
from harness.measure.ranking import stream
from harness.phases import given
from harness.phases.time import contender
from harness.progress import Start, Watch
from harness.record import Extended, ExtendedRecord, Store
from harness.spec.given import same_split
from harness.spec.job import Job

LEAST = 50  # items of a list, as ECCV Caption needs


def phase(jobs: Sequence[Job], store: Store, watch: Start, *, asked: Sequence[str]) -> Iterator[str]:
    """Every row that is recorded and not yet measured by these truths, a line each.  Raises DataError."""
    done = [job for job in jobs if store.finished(job.key) is not None]
    while done:
        part = [job for job in done if same_split(job.data, done[0].data)]
        done = [job for job in done if job not in part]
        yield from _of_split(part, store, watch, asked)


def _of_split(jobs: Sequence[Job], store: Store, watch: Start, asked: Sequence[str]) -> Iterator[str]:
    data = given.prepared(jobs)
    truths = [read(name, data.ranked.split) for name in asked]
    k = max(LEAST, *(_positives(truth, way).most for truth in truths for way, some in truth.answers.items() if some))
    for job in jobs:
        known = store.extended(job.key)
        if known is not None and {t.digest for t in truths} <= {entry["digest"] for entry in known.truths}:
            continue
        tops = _tops(job, data, store, k, watch(f"{job.name}, extended truths"))
        if tops is None:
            yield f"missing {job.name}: no weights to rank by extended truths (--force trains it again)"
            continue
        found = [_measured(truth, tops, job) for truth in truths]
        kept = [] if known is None else [e for e in known.truths if e["digest"] not in {f["digest"] for f in found}]
        store.save_extended(ExtendedRecord(job.key, job.model.label, [*kept, *found]), *tops)
        parts = "; ".join(f"{entry['name']} {_said(entry)}" for entry in found)
        yield f"truths  {job.name}: {parts}"


def _positives(truth: Truth, way: str):
    return positives(truth.answers[way], truth.beyond[way])


def _measured(truth: Truth, tops: tuple[np.ndarray, np.ndarray], job: Job) -> Extended:
    numbers: dict[str, dict[str, float]] = {}
    queries: dict[str, float] = {}
    for way, first, other in (("i2t", *tops), ("t2i", *tops[::-1])):
        if truth.answers[way]:
            try:
                numbers[way] = evaluate(first, _positives(truth, way), len(other)).summary()
            except ValueError as error:
                raise DataError(f"{job.model.label}, {truth.name}, {way}: {error}") from None
            queries[way] = len(truth.answers[way])
    return {"name": truth.name, "digest": truth.digest, "queries": queries, "percent": numbers, "note": truth.note}


def _said(entry: Extended) -> str:
    return ", ".join(f"{way} mAP@R {of['map_at_r']:.2f}, R@1 {of['r1']:.2f}" for way, of in entry["percent"].items())


def _tops(job: Job, data: Prepared, store: Store, k: int, watch: Watch) -> tuple[np.ndarray, np.ndarray] | None:
    """The first k of every query, (N, k) captions and (M, k) images; None where the weights are gone."""
    side = data.ranked
    if job.model.given:
        found = given.read_row(job, side.split)
        if isinstance(found, Lists):
            return found.i2t[:, :k], found.t2i[:, :k]
        if not isinstance(found, Embeddings):
            return metrics.top(found.i2t, k, 1), metrics.top(found.i2t if found.t2i is None else found.t2i, k, 0)
    row = contender(job, data, store)
    if row is None:
        return None
    if row.model.family != "independent":
        matrix, _ = evaluator.scores(row.model, side, job.settings, watch)
        return metrics.top(matrix, k, 1), metrics.top(matrix, k, 0)
    with evaluator.evaluating(row.model):
        images, groups, _ = evaluator.encoded(row.model, side, job.settings, watch)
        owner, memory = side.split.caption_to_image, job.settings.score_memory_mib
        ranked = stream(row.model, images, groups, owner, memory, k, watch=watch)
    return ranked.i2t_top, ranked.t2i_top
