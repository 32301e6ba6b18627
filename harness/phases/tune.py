"""The trials of suite `tune`, wave by wave, and the value that comes of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from harness import tuned
from harness.record import Record
from harness.spec.asked import Asked
from harness.spec.job import Job
from harness.spec.tuning import Design, Trial, conditions, data_of, winner
from harness.store import Store
from harness.tuned import TunedRecord, TunedRow, TunedTrial

if TYPE_CHECKING:
    from harness.phases.pace import Pace  # which imports torch

DIVERGED = "NonFiniteLoss: "  # how a record tells of a rate that was too high: an outcome, not a fault


@dataclass(frozen=True)
class Trials:
    """Rows under one design, with what a results folder holds of their trials."""

    rows: Mapping[str, Job]  # by the names that their trials have
    design: Design
    store: Store
    force: bool = False  # whether what has an outcome runs again

    @classmethod
    def of(cls, asked: Asked, store: Store, force: bool = False) -> Trials:
        """Raises ValueError where nothing was to be tuned."""
        if asked.design is None:
            raise ValueError(f"suite {asked.suite} has no trials")
        rows, trials = {}, asked.jobs
        for name, job in asked.tried.items():  # with whatever weights its trials take
            if of := [trial for trial in trials if replace(trial.model, stands_on=job.model.stands_on) == job.model]:
                rows[name] = replace(of[0], arm=job.arm)
        return cls(rows, asked.design, store, force)

    def without(self, labels: Sequence[str]) -> Trials:
        return replace(self, rows={name: row for name, row in self.rows.items() if name not in labels})

    def known(self, job: Job) -> Record | None:
        """The record of a trial that need not run again: one that diverged will again."""
        if (found := self.store.finished(job.key)) is not None:
            return found
        record = self.store.record(job.key)
        return record if record is not None and (record.error or "").startswith(DIVERGED) else None

    def waves(self) -> Iterator[list[Job]]:
        """The first trials of all rows, steps outward, runs of twice the length: each to be run before the next."""
        yield _once(job for row in self.rows.values() for job in self._first(row).values())
        yield _once(job for row in self.rows.values() for job in self._outward(row).values())
        yield _once(job for row in self.rows.values() for job in self._doubled(row))

    def value(self, rows: Mapping[str, TunedRow] | None = None) -> TunedRecord:
        """Of the rows that are through, every trial with its outcome, or of these.  Raises RecordError."""
        if rows is None:
            rows = {label: row for label, job in self.rows.items() if (row := self._row(job)) is not None}
        some = next(iter(self.rows.values()))
        return tuned.made(data_of(some.data), conditions(some), self.design.as_stored(), rows)

    def left(self, label: str) -> list[int]:
        """Lengths in updates of what is to run of a row, as far as can be told: not whether a step outward follows."""
        row, length = self.rows[label], self.design.updates
        if first := self.to_run(list(self._first(row).values())):
            return [*(length for _ in first), 2 * length]
        outward = self.to_run(list(self._outward(row).values()))
        double = outward or self.to_run(self._doubled(row))
        return [*(length for _ in outward), *(2 * length for _ in double)]

    def estimate(self, paces: Mapping[str, Pace], workers: int) -> list[str]:
        """How long what is left will take, row by row and in all.  workers: jobs at a time."""
        lines, whole = [], 0.0
        for label, pace in paces.items():
            lengths = self.left(label)
            seconds = sum(pace.seconds(length, self.design.parts) for length in lengths)
            whole += seconds
            lines.append(
                f"{label}: {len(lengths)} runs of {sum(lengths)} updates in all, {1000 * pace.update_s:.0f} ms an "
                f"update, {pace.look_s:.1f} s a look at dev: {duration(seconds)}"
            )
        once = max(pace.once_s for pace in paces.values())
        states = [f"states of the text model, once for all rows: {duration(once)}"] if once >= 1 else []
        side_by_side = f", {duration(whole / workers)} with {workers} at a time" if workers > 1 else ""
        return [*lines, *states, f"all rows: {duration(whole)}{side_by_side}; steps outward, a trial each, come on top"]

    def to_run(self, jobs: Sequence[Job]) -> list[Job]:
        return [job for job in jobs if self.force or self.known(job) is None]

    def outdone(self, job: Job) -> list[Job]:
        """Of a trial's row, what has an outcome and is not the best of the trials so far: weights nobody will take."""
        row = next(row for row in self.rows.values() if row.model == job.model)
        jobs = self._all(row)
        best = winner(self._scores(jobs))
        others = [own for trial, own in jobs.items() if trial != best]
        return [own for own in (*others, *self._doubled(row)) if self.known(own) is not None]

    def _first(self, row: Job) -> dict[Trial, Job]:
        return {trial: self.design.job(row, trial) for trial in self.design.first}

    def _outward(self, row: Job) -> dict[Trial, Job]:
        step = self.design.outward(self._scores(self._first(row)))
        return {} if step is None else {step: self.design.job(row, step)}

    def _all(self, row: Job) -> dict[Trial, Job]:
        return self._first(row) | self._outward(row)

    def _doubled(self, row: Job) -> list[Job]:
        best = winner(self._scores(self._all(row)))
        return [] if best is None else [self.design.job(row, best, doubled=True)]

    def _scores(self, jobs: Mapping[Trial, Job]) -> dict[Trial, float | None]:
        return {trial: best_rsum(self.known(job)) for trial, job in jobs.items()}

    def _row(self, row: Job) -> TunedRow | None:
        """None where a trial has no outcome, or none a score."""
        jobs, double = self._all(row), self._doubled(row)
        records = [(job, self.known(job)) for job in (*jobs.values(), *double)]
        trials = [_trial(job, record) for job, record in records if record is not None]
        if not double or len(trials) < len(records):
            return None
        scores = self._scores(jobs)
        best = winner(scores)
        assert best is not None
        return TunedRow(
            model=row.model.as_dict(),
            trials=trials[:-1],
            winner=list(scores).index(best),
            edge=tuned.edge([trial.lr for trial in scores], best.lr),
            outward=len(jobs) - len(self.design.first),
            doubled=None if trials[-1]["dev_rsum"] is None else trials[-1],
        )


def _once(jobs: Iterable[Job]) -> list[Job]:
    """Each job once: an arm of two questions is one."""
    return list({job.key: job for job in jobs}.values())


def best_rsum(record: Record | None) -> float | None:
    """The best dev Rsum of a trial; None where it has none."""
    if record is None or record.status == "failed" or record.best_epoch is None:
        return None
    return float(record.history[record.best_epoch]["dev_rsum"])


def _trial(job: Job, record: Record) -> TunedTrial:
    return TunedTrial(
        lr=job.settings.lr,
        warmup_updates=job.settings.warmup_updates,
        dev_rsum=best_rsum(record),
        best_part=None if record.best_epoch is None else record.best_epoch + 1,
        parts=len(record.history),
        stopped=bool(record.history) and "stopped" in record.history[-1],
        key=job.key,
        seconds=record.seconds.get("train", 0.0),
    )


def duration(seconds: float) -> str:
    """`40 s`, `12 min`, `3 h 20 min`"""
    if seconds < 100:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
