"""Tuned settings at the door: which stored ones a run reads, what it says of them, and the command that makes them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from harness import ROOT, tuned
from harness.phases.tune import Trials
from harness.schedule import tune
from harness.schedule.division import Place
from harness.spec import registry
from harness.spec.asked import Asked
from harness.spec.embedded import EMBEDDED
from harness.spec.job import Data, Job
from harness.spec.tuning import unfit
from harness.store import Store
from harness.tuned import TunedRecord

FOLDER = "tuned"  # within that of the results, and in the repository's


def stored(results: Path, data: Data) -> tuple[Path, TunedRecord] | None:
    """What is known of these data: of this results folder, else of the repository.  Raises RecordError."""
    folders = list(dict.fromkeys(folder.resolve() for folder in (results / FOLDER, ROOT / "results" / FOLDER)))
    return tuned.find(folders, data.name, data.fingerprint, data.own)


def ranked(asked: Asked) -> tuple[Asked, list[str]]:
    """On embedded data, the rows that can be ranked, and a line on those left out: this repository's without trials.

    They would take longer than all others together and never be ranked.  Where no row is tuned all of them stay.
    """
    data = asked.jobs[0].data
    if data.own or data.name not in EMBEDDED or not any(job.key in asked.tuning for job in asked.rows):
        return asked, []
    standing = tuple(job for job in asked.rows if _stands(job, asked))
    without = dict.fromkeys(job.model.label for job in asked.rows if job not in standing)
    line = f"left out   {', '.join(without)}: no trials of their own, so never ranked; --only '*' runs them too"
    return replace(asked, rows=standing), [line] * bool(without)


def _stands(job: Job, asked: Asked) -> bool:
    """Whether a row is tuned, shows the scale, or comes from elsewhere."""
    return job.key in asked.tuning or bool(job.model.origin or job.model.pretrained) or registry.scale(job.model.label)


def lines(asked: Asked, found: tuple[Path, TunedRecord] | None) -> Iterator[str]:
    """Where the rows' settings are from, and which rows have the defaults instead."""
    bases = [posed.base for posed in asked.posed]
    rows = {job.model.label: job for job in (*asked.rows, *bases) if not registry.scale(job.model.label)}
    without = [label for label, job in rows.items() if job.key not in asked.tuning]
    if found is None:
        yield f"untuned    no row has tuned settings on {asked.jobs[0].data.name}: --suite tune chooses them"
        return
    path, value = found
    name = "/".join(path.parts[-2:])
    if rows and len(without) == len(rows):
        why = unfit(value, next(iter(rows.values()))) or "other rows, recipes or length"
        yield f"untuned    {name} says nothing of these rows: {why}"
        return
    tuned_rows, length = len(rows) - len(without), f"{value.design['updates']:,} updates long"
    yield f"tuned      {tuned_rows} of {len(rows)} rows have the settings of {name} ({value.key}), {length}"
    if without:
        yield f"untuned    {', '.join(without)}"


def keep(asked: Asked, found: tuple[Path, TunedRecord] | None, folder: Path) -> None:
    """A copy of the value beside the records that rest on it."""
    if found is not None and asked.tuning:
        tuned.keep(folder, found[1])


def tune_rows(
    asked: Asked, store: Store, results: Path, place: Place | None, out: Console, *, force: bool, dry: bool
) -> int:
    """Suite `tune`, or with `dry` its estimate alone.  Returns how many rows could not be tuned."""
    from harness.report.tables.tuning import terminal  # pandas takes a second to import

    path, trials = tune.value_path(results / FOLDER, asked.jobs[0]), Trials.of(asked, store, force)
    tune.check(trials, path)
    trials = tune.measured(trials, place, out)
    if dry or not trials.rows:
        return 0
    outcome = tune.run(trials, path, place, out)
    out.print(terminal(outcome.value))
    for label in outcome.untuned:
        out.print(f"not tuned: {label}, a trial failed or none has a score; the same command tries again", markup=False)
    out.print(f"tuned settings: {path} ({len(outcome.value.rows)} rows of this run)", highlight=False, soft_wrap=True)
    return len(outcome.untuned)
