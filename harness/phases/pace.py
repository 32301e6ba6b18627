"""How long a row's training takes, from a few real updates and one real look at dev, before any of it is run."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from harness.data.prepared import prepare, update_batches
from harness.learn.trainer import optimiser, train_step, trained_parameters
from harness.measure import evaluator
from harness.phases.train import load_model
from harness.precision import prepare_torch
from harness.spec.job import Job

WARM, TIMED = 2, 4  # updates


@dataclass(frozen=True)
class Pace:
    """Of one row on this machine."""

    update_s: float
    look_s: float  # all of dev ranked
    trained: bool = True  # whether there is anything to train

    def seconds(self, updates: int, looks: int) -> float:
        return updates * self.update_s + looks * self.look_s


def pace(job: Job, clock: Callable[[], float] = time.perf_counter) -> Pace:
    """The median of a few updates, and one look at dev, in this process.  Raises DataError and SpecError."""
    prepare_torch(job.settings)
    data = prepare(job.data, job.settings)
    model = load_model(job, data)
    if not trained_parameters(model):
        return Pace(0.0, 0.0, trained=False)
    optimizer, moments = optimiser(model, job.settings), [clock()]
    model.train()
    batches = update_batches(data.train, job.settings.batch, job.settings.seed, 0, WARM + TIMED, model.needs)
    for number, batch in enumerate(batches):
        train_step(model, batch.to(job.settings.device), optimizer, job.settings, f"measured step {number + 1}")
        moments.append(clock())
    steps = [later - earlier for earlier, later in pairwise(moments)]
    evaluator.rsum(model, data.dev, job.settings)
    return Pace(median(steps[WARM:]), clock() - moments[-1])
