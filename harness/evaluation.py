"""`harness.run --evaluate FOLDER`: weights that a run kept, scored on other data, of which a test split is enough."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console

from harness import doors, report, results
from harness.choices import Afterwards, How, What, Where
from harness.console import RunView, job_line, run_view
from harness.data import judgements, sources
from harness.data.split import DataError
from harness.options import on_command_line
from harness.phases.order import lines_of_others
from harness.record import Record, RecordError
from harness.schedule import dispatch
from harness.schedule.division import Place
from harness.spec import suites
from harness.spec.asked import Asked
from harness.spec.job import MOST_SEED, Job, SpecError
from harness.store import Store

if TYPE_CHECKING:
    from harness.learn.stored import Trained
    from harness.measure.ranking import Stream

SUITE = "evaluated"  # of the results folder: evaluated-<data>
TAKEN = {  # options that mean something where nothing is trained
    *("evaluate", "data", "only", "seeds", "set", "plugin", "no_plugins"),
    *("device", "threads", "score_memory", "shards", "address", "results", "force", "dry_run"),
    *("truths", "judgements"),
}


def check(context: typer.Context) -> None:
    """Raises SpecError for an option that is about training."""
    if wrong := [name for name in context.params if name not in TAKEN and on_command_line(context, name)]:
        raise SpecError(f"--evaluate trains nothing: leave --{wrong[0].replace('_', '-')} out")
    if context.params["address"] and context.params["shards"] == 1:
        raise SpecError("--address of --evaluate is for the workers of --shards: say how many")


def text_model(settings: Sequence[str]) -> str:
    """Where the text model of the weights lies, the one setting that may be told; "" = nowhere.  Raises SpecError."""
    found = ""
    for setting in settings:
        path, _, found = setting.partition("=")
        if path != "settings.text_model" or not found:
            raise SpecError(f"--evaluate takes settings as the weights were trained with: leave --set {setting} out")
    return found


def chosen(folder: Path, only: str, seeds: str) -> list[Record]:
    """Records of a results folder whose weights are asked for.  Raises SpecError where there is none."""
    if not folder.is_dir():
        raise SpecError(f"--evaluate {folder}: no such results folder")
    trained = [record for record in Store(folder).rows() if record.evaluated is None]
    labels = list(dict.fromkeys(record.label for record in trained))
    if not labels:
        raise SpecError(f"--evaluate {folder}: it holds no records of trained rows")
    rows = suites.select(doors.words(only, "only") or ["*"], labels)
    wanted = doors.whole_numbers(seeds, "seeds", "0,1,2", 0, MOST_SEED)
    found = [r for r in trained if r.label in rows and (not wanted or r.job["settings"]["seed"] in wanted)]
    if not found:
        raise SpecError(f"--seeds {seeds}: {', '.join(rows)} was not trained with any of them")
    return found


def evaluate(
    context: typer.Context,
    folder: Path,
    what: What,
    how: How,
    where: Where,
    after: Afterwards,
    out: Console,
    *,
    force: bool,
    dry: bool,
) -> int:
    """Evaluates the rows asked for, one after the other, and reports.  Returns how many could not be.

    Raises SpecError, DataError, RecordError and OSError; also where none could be.
    """
    check(context)
    text, records = text_model(how.set), chosen(folder, what.only, what.seeds)
    data, offers = sources.described(what.data)
    store = Store(where.results / f"{SUITE}-{data.name}")
    if dry:
        for record in records:
            seed = record.job["settings"]["seed"]
            out.print(f"to evaluate  {record.label} seed {seed} on {data.name}", highlight=False, soft_wrap=True)
        return 0
    from harness.learn.stored import load  # torch takes seconds to import; what cannot be is told at once
    from harness.phases.evaluate import evaluated_job
    from harness.phases.opened import evaluated

    shared = _shared(where)
    threads = shared.threads or 1 if shared else where.threads or dispatch.available_cpus()
    here: dict[str, Any] = {"device": where.device, "threads": threads, "score_memory_mib": where.score_memory}
    truths = doors.words(after.truths, "truths")
    people = judgements.read(Path(after.judgements)) if after.judgements else None
    done, rows, lines = [], [], []
    with results.exclusive(store.folder):
        with run_view(out, len(records)) as view, _workers(shared, view):
            for record in records:
                try:
                    trained = load(folder, record.key, text_model=text, **here)
                    job = evaluated_job(trained, data, offers)
                    _one(trained, job, store, force, view, shared)
                    done.append(job)
                    rows.append(evaluated(job, folder, record.key, text, here))
                except (SpecError, DataError, RecordError) as error:
                    lines.append(str(error))
            if not done:
                raise SpecError(lines[0] + (f" (and {len(lines) - 1} more)" if len(lines) > 1 else ""))
            store.save_asked(Asked(SUITE, False, tuple(done), ()).record())
            for line in lines_of_others(rows, store, view.start, truths, people):
                view.say(line)
        for line in lines:
            out.print(f"left out  {doors.printable(line)}", highlight=False, soft_wrap=True, markup=False)
        results.show(store.folder, out)
    return len(lines)


def _shared(where: Where) -> Place | None:
    """Where the workers are that share the pairs of a row; None where this process scores them.  Raises SpecError."""
    if where.shards == 1:
        return None
    gpus = 1.0 if where.device.startswith("cuda") else 0.0
    asked = Place(where.shards, where.threads, gpus, where.address, dashboard=False, holds_data=True)
    return dispatch.placed(asked, where.shards, where.shards, where.device)


@contextmanager
def _workers(shared: Place | None, view: RunView) -> Iterator[None]:
    """Ray, where workers share the pairs of a row.  Raises SpecError."""
    if shared is None:
        yield
        return
    from harness.schedule.cluster import cluster, on_cluster

    with cluster(shared, view.say):
        if shared.address:
            on_cluster(shared, shared.workers)
        view.say(
            f"shards     {shared.workers} workers share the pairs of a row, {shared.threads or 1} CPU threads each"
        )
        yield


def _streamed(job: Job, shared: Place | None) -> Stream:
    """What ranks: this process, or the workers."""
    if shared is None:
        from harness.measure.ranking import stream

        return stream
    from harness.schedule.shards import over

    return over(job.settings, shared.workers)


def _one(trained: Trained, job: Job, store: Store, force: bool, view: RunView, shared: Place | None) -> None:
    """Says what comes of one row, which is evaluated unless it is recorded."""
    from harness.phases.evaluate import execute

    if not force and store.finished(job.key) is not None:
        view.finish(f"cached  {job.name}", job.name)
        return
    started = time.perf_counter()
    record = execute(trained, job, store, view.start(job.name), _streamed(job, shared))
    seconds = time.perf_counter() - started
    of = f"; weights of {trained.run}, trained on {trained.job.data.name}"
    view.finish(job_line(job, record, report.rsum(store, record), seconds) + of, job.name)
