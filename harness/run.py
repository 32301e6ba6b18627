"""Run a suite of image-text retrieval models under identical settings and print the comparison.

python -m harness.run --suite full                     the embedded scenes
python -m harness.run --suite full --data FOLDER       your own features (see harness.features)
python -m harness.run --only ablations/prototypes      one question (see ablations/), three seeds
python -m harness.run --suite full --workers 0         one job after the other, without Ray
python -m harness.run --list                           what there is
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import typer
from filelock import FileLock, Timeout
from rich.console import Console

from harness import console, doors, listing, report
from harness.choices import Afterwards, How, Once, What, Where
from harness.commands import HELP
from harness.data import sources
from harness.data.split import DataError
from harness.options import command, configured, written
from harness.phases.order import OptionalTrace, Phases, check_rerank, traces_folder
from harness.record import Record, Store, remove_leftovers, write_atomically
from harness.schedule import dispatch
from harness.schedule.division import Place
from harness.spec import ensembles, methods, needs, plugins, suites
from harness.spec.asked import Asked
from harness.spec.ensembles import Planned
from harness.spec.job import MOST_SEED, Job, SpecError, parse_value
from harness.spec.override import checked_settings

out = Console()
err = Console(stderr=True)
KEPT = "finished records are kept; the same command goes on from the last epoch"


def main(context: typer.Context, once: Once, what: What, how: How, where: Where, after: Afterwards) -> None:
    """What the command does with its options."""
    with doors.refusals(KEPT):
        if once.config is not None:
            what, how, where, after = configured(context, once.config, (what, how, where, after))
        for group in (what, how, where, after):
            doors.check(group)
        choose_plugins(what.plugin, what.no_plugins)
        if once.list_:
            _list(once.parameters)
            return
        asked = _asked(what, how, where)
        jobs = asked.jobs
        if after.rerank:
            check_rerank(jobs)
        store = Store(where.results / f"{asked.suite}-{jobs[0].data.name}")
        _check_device(where.device)
        planned = ensembles.plan(jobs if what.ensembles and suites.find(asked.suite).ensembles else [])
        place = _place(where, len(jobs))
        if once.save_config is not None:
            text = written((what, how, where, after))
            write_atomically(once.save_config, lambda file: file.write(text.encode()))
        if once.dry_run:
            rows = [*jobs, *planned.plans]
            cached = [not once.force and store.finished(row.key) is not None for row in rows]
            out.print(listing.plan_table(rows, cached), listing.plan_line(cached))
            return
        phases = _phases(after, store, average=bool(planned.plans or planned.short), force=once.force)
        with _exclusive(store.folder):
            store.save_asked(asked.record([plan.key for plan in planned.plans]))
            failed = _run(jobs, planned, store, once.force, phases, place)
    if failed:
        raise typer.Exit(1)


app = doors.Door()
app.command(cls=OptionalTrace, help=(__doc__ or "").partition("\n")[0], context_settings=HELP)(
    command(main, Once, What, How, Where, Afterwards)
)


def choose_plugins(files: Sequence[str], none_installed: bool) -> None:
    """Says what of the installed ones is left out.  Raises SpecError."""
    plugins.choose([Path(file) for file in files], installed=not none_installed)
    for line in methods.left_out():
        err.print(line, highlight=False, soft_wrap=True, markup=False)


def _list(parameters: bool) -> None:
    """What there is to run; with their parameters every row is built, which takes torch and seconds."""
    counts, note = None, ()
    if parameters:
        from harness.parameters import listed

        (counts, failures), note = listed(), (listing.PARAMETERS_NOTE,)
        for line in failures:
            err.print(doors.printable(line), highlight=False, soft_wrap=True, markup=False)
    out.print(*listing.methods_tables(counts), *note, listing.suites_table(), listing.questions_table())


def _asked(what: What, how: How, where: Where) -> Asked:
    """What the data can serve; a line for every row that is left out.  Raises SpecError and DataError."""
    only, threads = doors.words(what.only, "only"), where.threads or dispatch.available_cpus()
    place = {"device": where.device, "threads": threads, "score_memory_mib": where.score_memory}
    changes = _changes(how.set, how.epochs, how.train_images)
    data, offers = sources.described(what.data)
    asked = suites.asked(
        suites.named(what.suite, only),
        data,
        only=only,
        seeds=_seeds(what.seeds),
        changes=changes,
        settings=checked_settings(place),
        paper_of=what.paper_of,
    )
    asked, left_out = needs.served(asked, offers)
    for line in left_out:
        out.print(line, highlight=False, soft_wrap=True, markup=False)
    return asked


def _place(where: Where, jobs: int) -> Place | None:
    """Raises SpecError."""
    cuda = 1.0 if where.device.startswith("cuda") else 0.0
    gpus = cuda if where.gpus_per_job is None else where.gpus_per_job
    place = Place(
        where.workers or 0, where.threads, gpus, where.address, where.storage, where.dashboard, where.dashboard_port
    )
    return dispatch.placed(place, where.workers, jobs, where.device)


def _phases(after: Afterwards, store: Store, *, average: bool, force: bool) -> Phases:
    """Raises SpecError."""
    return Phases(
        after.timing_rounds,
        after.timing_budget,
        average=average,
        force=force,
        rerank=after.rerank,
        traces=None if after.trace is None else traces_folder(after.trace, store.folder),
    )


def _run(jobs: Sequence[Job], planned: Planned, store: Store, force: bool, phases: Phases, place: Place | None) -> int:
    """Runs what is not recorded, averages, then times, then reports.  Returns how many jobs failed."""
    from harness.learn.checkpoint import Checkpoints  # torch takes seconds to import; --list and --dry-run are at once
    from harness.precision import prepare_torch

    prepare_torch(jobs[0].settings)
    cached = [not force and store.finished(job.key) is not None for job in jobs]
    if any(cached):
        out.print(
            f"cached  {sum(cached)} of {len(jobs)} jobs are recorded already (--force runs them again)", highlight=False
        )
    todo = [job for job, known in zip(jobs, cached, strict=True) if not known]
    with console.run_view(out, len(todo)) as view:
        for job in todo if force else ():
            Checkpoints(store.checkpoints(job.key)).discard()

        def finish(job: Job, record: Record, seconds: float) -> None:
            view.finish(console.job_line(job, record, report.rsum(store, record), seconds), job.name)

        dispatch.run(todo, len(jobs), planned.member_keys, store, view, finish, place, force)
        for line in phases.lines(jobs, store, view.start):
            out.print(line, highlight=False, soft_wrap=True)
    report.write(store.folder)
    out.print(report.console_table(store.folder))
    out.print(f"tables: {_shown(store.folder / 'tables')}", highlight=False, soft_wrap=True)
    out.print(f"page: {_shown(store.folder / 'index.html')}", highlight=False, soft_wrap=True)
    return sum(record is None or record.status == "failed" for record in (store.record(job.key) for job in jobs))


def _check_device(name: str) -> None:
    """Before anything is written.  Raises SpecError; torch is asked only where it has to be."""
    if name != "cpu":
        from harness.precision import check_device

        check_device(name)


def _changes(settings: Sequence[str], epochs: int | None, train_images: int | None) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    for setting in settings:
        path, equals, value = setting.partition("=")
        if not equals:
            raise SpecError(f"--set takes path=value, got {setting!r}")
        changes[path] = parse_value(value)
    named = {"settings.epochs": epochs, "data.train_images": train_images}
    return changes | {path: value for path, value in named.items() if value is not None}


def _seeds(text: str) -> list[int] | None:
    first, dash, last = text.partition("-")
    if dash and first.isdecimal() and last.isdecimal() and len(text) < 20 and 0 < int(last) - int(first) < 100:
        meant = ",".join(map(str, range(int(first), int(last) + 1)))
        raise SpecError(f"--seeds takes whole numbers such as 0,1,2, got {text!r}; did you mean {meant}?")
    seeds = doors.whole_numbers(text, "seeds", "0,1,2", 0, MOST_SEED)
    if len(set(seeds)) != len(seeds):
        raise SpecError(f"--seeds must be different, got {doors.quoted(text)}")
    return seeds or None


@contextmanager
def _exclusive(folder: Path) -> Iterator[None]:
    """One run at a time writes to a results folder, which goes again where all was refused.

    Raises OSError where it cannot be written at all.
    """
    made_here = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".lock", timeout=0):
            remove_leftovers(folder, *(path for path in folder.rglob("*") if path.is_dir()))
            yield
    except Timeout:
        raise OSError(f"another run is writing to {folder}") from None
    except (SpecError, DataError):
        if made_here and not any((folder / name).exists() for name in ("records", "checkpoints")):
            shutil.rmtree(folder)  # nothing came of it
        raise


def _shown(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


class _Callable(ModuleType):
    """This module, which has the name that `from harness import run` promises a function."""

    def __call__(self, job: Job | str, folder: Path | str, **choices: Any) -> Record:
        """As `harness.api.run`."""
        from harness.api import run

        return run(job, folder, **choices)


sys.modules[__name__].__class__ = _Callable


if __name__ == "__main__":
    sys.exit(app())
