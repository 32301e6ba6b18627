"""Ensembles made: stored scores of the members averaged element by element, ranked and recorded.  Nothing is trained.

Where a member's scores are gone and its weights are not, it scores the split once more.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np

from harness.data.prepared import prepare
from harness.learn.checkpoint import CheckpointError, Checkpoints
from harness.measure import evaluator
from harness.measure.clock import timed
from harness.measure.metrics import blocks, summary
from harness.measure.provenance import peak_memory_mib, provenance
from harness.phases.recorded import Unmade, averaged, kept_lines, member, stamp
from harness.phases.train import load_model
from harness.progress import Progress, Start, Watch, unwatched
from harness.record import Ranks, Record, RecordError
from harness.spec.ensembles import Plan, plan
from harness.spec.job import Job
from harness.store import Store

T = TypeVar("T", int, float)
BLOCK_ROWS = 128  # images averaged at a time: what is read of each member stays small
TIME = ("encode_images", "encode_texts", "score", "train")  # what all members spend; ranks are found once


def phase(jobs: Sequence[Job], store: Store, watch: Start, *, force: bool) -> Iterator[str]:
    """Makes every ensemble of these jobs that is not recorded (or all), a line each; then what stored scores take."""
    planned = plan(jobs)
    for line in planned.short:
        yield f"missing {line}"
    for ensemble in planned.plans:
        if not force and averaged(ensemble, store):
            yield f"cached  {ensemble.name}"
            continue
        started = time.perf_counter()
        try:
            ranks = average(ensemble, store, watch(ensemble.name))
        except Unmade as reason:
            store.remove(ensemble.key)
            yield f"missing {ensemble.name}: {reason}"
            continue
        rsum, made_of = summary(ranks.i2t, ranks.t2i)["rsum"], " and ".join(job.name for job in ensemble.jobs)
        ranked, seconds = ensemble.job.data.ranked, time.perf_counter() - started
        yield f"done    {ensemble.name}: {ranked} Rsum {rsum:.1f}, mean scores of {made_of}, {seconds:.0f} s"
    yield from kept_lines(planned.member_keys, store)


def average(plan: Plan, store: Store, watch: Watch = unwatched) -> Ranks:
    """Stores record and ranks of the averaged scores.  Raises Unmade."""
    members = [member(job, store) for job in plan.jobs]
    matrices = [scores_of(job, store, watch) for job in plan.jobs]
    job, settings = plan.job, plan.jobs[0].settings
    side = prepare(job.data, settings).ranked
    matrix = mean_of(matrices, watch)
    (ranks, tied), rank_s = timed(lambda: evaluator.rank(matrix, side.split), "cpu")
    spent = {stage: _sum([member.seconds.get(stage) for member in members]) for stage in TIME}
    record = Record(
        key=plan.key,
        label=job.model.label,
        status="ok",
        job=job.as_dict(),
        family=plan.family,
        parameters=_sum([member.parameters for member in members]),
        data=members[0].data,
        seconds={stage: seconds for stage, seconds in spent.items() if seconds is not None} | {"rank": rank_s},
        peak_memory_mib=peak_memory_mib(settings.device),
        tied_queries=tied,
        provenance=provenance(settings) | {"members": [stamp(j, m) for j, m in zip(plan.jobs, members, strict=True)]},
        members=plan.members,
    )
    store.save(record, ranks)
    return ranks


def _sum(values: Sequence[T | None]) -> T | None:
    """None where one is not known."""
    known = [value for value in values if value is not None]
    return sum(known[1:], known[0]) if len(known) == len(values) else None


def mean_of(matrices: Sequence[np.ndarray], watch: Watch = unwatched) -> np.ndarray:
    """Element by element, (N, M) float32, block by block of rows.  matrices: (N, M) each, possibly memory-mapped."""
    mean = np.empty(matrices[0].shape, np.float32)
    for rows in blocks(len(mean), BLOCK_ROWS):
        np.mean([np.asarray(matrix[rows]) for matrix in matrices], axis=0, dtype=np.float32, out=mean[rows])
        watch(Progress("average", rows.stop, len(mean)))
    return mean


def scores_of(job: Job, store: Store, watch: Watch = unwatched) -> np.ndarray:
    """The member's (N, M) scores, from the store or once more from its weights.  Raises Unmade."""
    side = prepare(job.data, job.settings).ranked
    shape = (len(side.split.images), len(side.split.captions))
    try:
        stored = store.scores(job.key)
    except RecordError:  # damaged: as good as gone
        stored = None
    if stored is None or stored.shape != shape:
        store.save_scores(job.key, _scored_again(job, store, watch))
        stored = store.scores(job.key)
    if stored is None:
        raise Unmade(f"the scores of {job.name} went away while they were read")
    return stored


def _scored_again(job: Job, store: Store, watch: Watch) -> np.ndarray:
    data = prepare(job.data, job.settings)
    model = load_model(job, data)
    try:
        Checkpoints(store.checkpoints(job.key)).load_best(model)
    except CheckpointError:
        raise Unmade(f"{job.name} has neither scores nor weights (--force trains it again)") from None
    return evaluator.scores(model, data.ranked, job.settings, watch)[0]
