"""Suite `tune` from its estimate to the stored value: waves of trials, each run by whoever runs the jobs of a suite."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from harness import console, tuned
from harness.phases.tune import Trials, best_rsum
from harness.record import Record
from harness.schedule import dispatch
from harness.schedule.division import Place
from harness.spec.job import Job
from harness.spec.tuning import data_of
from harness.tuned import TunedRecord


@dataclass(frozen=True)
class Outcome:
    """What tuning came to."""

    path: Path  # of the value
    value: TunedRecord  # of the rows that were asked for
    untuned: tuple[str, ...]  # rows of which a trial failed, or none has a score


def value_path(folder: Path, row: Job) -> Path:
    """Where the value for a row's data lies."""
    return folder / tuned.file_name(data_of(row.data), row.data.own)


def check(trials: Trials, path: Path) -> None:
    """Before anything runs: raises RecordError where the value at `path` is of trials that these are no equals of."""
    tuned.with_stored(path, trials.value({}))


def measured(trials: Trials, place: Place | None, out: Console) -> Trials:
    """Says how long what is left will take; without rows that have nothing to train.  Raises DataError, SpecError."""
    from harness.phases.pace import pace  # which imports torch

    paces = {}
    for label, row in trials.rows.items():
        if trials.left(label):
            threads = place.threads if place and place.threads else row.settings.threads
            paces[label] = pace(replace(row, settings=replace(row.settings, threads=threads)), trials.store)
    nothing = [label for label, found in paces.items() if not found.trained]
    _say(out, *(f"left out   {label}: it has nothing to train" for label in nothing))
    trials = trials.without(nothing)
    if to_run := {label: found for label, found in paces.items() if found.trained}:
        _say(out, *(f"estimate   {line}" for line in trials.estimate(to_run, place.workers if place else 1)))
    return trials


def run(trials: Trials, path: Path, place: Place | None, out: Console) -> Outcome:
    """Runs what is to run, and merges the rows into the value at `path`.

    Raises DataError, SpecError, RecordError and OSError.
    """
    for wave in trials.waves():
        _run(trials, wave, place, out)
    found = trials.value()
    tuned.keep(trials.store.folder, tuned.store(path, found))
    return Outcome(path, found, tuple(label for label in trials.rows if label not in found.rows))


def _run(trials: Trials, wave: Sequence[Job], place: Place | None, out: Console) -> None:
    """One wave.  The weights of a row's best trial stay, for rows that learn from it; those of the others go."""
    from harness.learn.checkpoint import Checkpoints  # which imports torch

    store, todo = trials.store, trials.to_run(wave)
    if len(todo) < len(wave):
        _say(out, f"cached  {len(wave) - len(todo)} of {len(wave)} trials are recorded already")
    if not todo:
        return
    with console.run_view(out, len(todo)) as view:
        for job in todo if trials.force else ():
            Checkpoints(store.checkpoints(job.key)).discard()

        def finish(job: Job, record: Record, seconds: float) -> None:
            view.finish(console.job_line(job, record, best_rsum(record), seconds), job.name)
            for other in trials.outdone(job):
                Checkpoints(store.checkpoints(other.key)).discard()

        dispatch.run(todo, len(wave), (), store, view, finish, place, trials.force)


def _say(out: Console, *lines: str) -> None:
    for line in lines:
        out.print(line, highlight=False, soft_wrap=True, markup=False)
