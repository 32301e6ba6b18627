"""How long a row's training takes, from a few real updates and one real look at dev, before any of it is run."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

import torch

from harness.data import kept
from harness.data.prepared import Prepared, prepare, update_batches
from harness.learn.taken import hand_over
from harness.learn.trainer import optimiser, train_step, trained_parameters
from harness.measure import evaluator
from harness.phases.train import load_model
from harness.precision import prepare_torch
from harness.protocol import Retriever
from harness.spec import registry
from harness.spec.job import Job
from harness.store import Store

WARM, TIMED = 2, 4  # updates


@dataclass(frozen=True)
class Pace:
    """Of one row on this machine."""

    update_s: float
    look_s: float  # all of dev ranked
    trained: bool = True  # whether there is anything to train
    once_s: float = 0.0  # the training captions read by a frozen text model for the first time, kept for all rows

    def seconds(self, updates: int, looks: int) -> float:
        """Without `once_s`, which the rows share."""
        return updates * self.update_s + looks * self.look_s


def pace(job: Job, store: Store, clock: Callable[[], float] = time.perf_counter) -> Pace:
    """The median of a few updates, and one look at dev, in this process.

    store: of the rows that it takes.  Raises DataError and SpecError.
    """
    prepare_torch(job.settings)
    data = prepare(job.data, job.settings)
    model = load_model(job, data)
    hand_over(model, job, data, store)
    if not trained_parameters(model):
        return Pace(0.0, 0.0, trained=False)
    with kept.keeping(model):
        steps = _steps(model, data, job, clock)
        first = _look(model, data, job, clock)
        again = _look(model, data, job, clock) if kept.able(model) else first
    once = (first - again) * len(data.train.split.captions) / len(data.dev.split.captions)
    return Pace(median(steps[WARM:]), again, once_s=max(0.0, once))


def _steps(model: Retriever, data: Prepared, job: Job, clock: Callable[[], float]) -> list[float]:
    """Seconds of the first updates, whose captions were read and whose items a teacher saw before."""
    optimizer = optimiser(model, job.settings)
    model.train()
    batches = [*update_batches(data.train, job.settings.batch, job.settings.seed, 0, WARM + TIMED, model.needs)]
    batches = [batch.to(job.settings.device) for batch in batches]
    if kept.able(model):
        with torch.no_grad():
            for batch in batches:
                model.encode_texts(batch.texts)
    if registry.wanted(job.model):  # what a frozen row makes of an item is computed once and kept
        for batch in batches:
            train_step(model, batch, optimizer, job.settings, "a step before those measured")
    moments = [clock()]
    for number, batch in enumerate(batches):
        train_step(model, batch, optimizer, job.settings, f"measured step {number + 1}")
        moments.append(clock())
    return [later - earlier for earlier, later in pairwise(moments)]


def _look(model: Retriever, data: Prepared, job: Job, clock: Callable[[], float]) -> float:
    begun = clock()
    evaluator.rsum(model, data.dev, job.settings)
    return clock() - begun
