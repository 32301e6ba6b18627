"""Door: run a suite of image-text retrieval models under identical settings and print the comparison.

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
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from filelock import FileLock, Timeout
from rich.console import Console

from harness import ROOT, console, doors, listing, report
from harness.data.split import DataError
from harness.phases.order import OptionalTrace, Phases, check_rerank, traces_folder
from harness.record import Record, Store, remove_leftovers
from harness.schedule import dispatch
from harness.schedule.division import Place
from harness.spec import ensembles, suites
from harness.spec.ensembles import Plan, Planned
from harness.spec.job import MOST_IMAGES, MOST_SEED, Data, Job, SpecError, parse_value
from harness.spec.override import checked_settings

app = doors.Door()
out = Console()
KEPT = "finished records are kept; the same command goes on from the last epoch"


@app.command(cls=OptionalTrace, help=(__doc__ or "").partition("\n")[0])
def main(
    suite: Annotated[
        str,
        typer.Option(
            help="Which list of jobs; --list shows them.  [default: full; ablations for --only ablations/...]"
        ),
    ] = "",
    data: Annotated[str, typer.Option(help="`scenes` (embedded) or a folder in the precomp layout.")] = "scenes",
    only: Annotated[
        str,
        typer.Option(
            help="Rows to run, comma-separated; `*` matches any text, a bare name all its variants; "
            "or questions, as in `ablations/prototypes`."
        ),
    ] = "",
    seeds: Annotated[str, typer.Option(help="Seeds in place of the suite's, such as 0,1,2.")] = "",
    epochs: Annotated[int | None, typer.Option(min=1, help="Epochs for every row.")] = None,
    train_images: Annotated[
        int | None, typer.Option(min=0, max=MOST_IMAGES, help="Train on the first so many images only; 0 = all.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N; the same for every row.")] = "cpu",
    threads: Annotated[
        int, typer.Option(min=0, help="CPU threads of torch, of each worker; 0 = all there are, shared out.")
    ] = 0,
    score_memory: Annotated[int, typer.Option(min=1, help="MiB for the blocks in which all pairs are scored.")] = 1024,
    workers: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=1024,
            envvar="HARNESS_WORKERS",
            help="Jobs at a time, scheduled by Ray; 0 = one after the other in this process.  "
            "[default: as many as fit where Ray is installed, else 0]",
            show_default=False,
        ),
    ] = None,
    gpus_per_job: Annotated[
        float | None,
        typer.Option(min=0, help="Share of a GPU for each worker; 1 with --device cuda."),
    ] = None,
    address: Annotated[str, typer.Option(help="Use the Ray cluster there: `auto` or HOST:PORT.")] = "",
    storage: Annotated[
        str, typer.Option(help="URI that every node of that cluster reaches, for checkpoints and results.")
    ] = "",
    dashboard: Annotated[bool, typer.Option(help="Serve Ray's dashboard on this machine while jobs run.")] = True,
    dashboard_port: Annotated[int, typer.Option(min=1024, max=65535, help="Its port, or the next free one.")] = 8265,
    timing_rounds: Annotated[
        int, typer.Option(min=0, max=10_000, help="Timing samples per stage after training; 0 = no timing phase.")
    ] = 7,
    timing_budget: Annotated[
        float,
        typer.Option(min=0.1, help="Seconds a row's timing should take; what is larger is extrapolated."),
    ] = 10.0,
    rerank: Annotated[
        bool,
        typer.Option("--rerank", help="After training, shortlists of independent rows reranked by interactive ones."),
    ] = False,
    trace: Annotated[
        str | None,
        typer.Option(metavar="[DIR]", help="After training, profiler traces for TensorBoard; DIR or <results>/traces."),
    ] = None,
    results: Annotated[Path, typer.Option(help="Where results go, in a folder named <suite>-<data>.")] = ROOT
    / "results",
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Any other setting, as in `--set settings.lr=2e-4`; repeatable.")
    ] = None,
    paper_of: Annotated[
        str, typer.Option(help="Suite paper: whose published hyper-parameters, f30k or coco; else by the data's name.")
    ] = "",
    averaged: Annotated[
        bool,
        typer.Option(
            "--ensembles/--no-ensembles",
            help="Rows that average the scores of others, in suites that have them; keeps a score matrix per member.",
        ),
    ] = True,
    force: Annotated[bool, typer.Option("--force", help="Run again what is already recorded.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would run, and stop.")] = False,
    list_: Annotated[bool, typer.Option("--list", help="Show all methods and suites, and stop.")] = False,
) -> None:
    with doors.refusals(KEPT):
        if list_:
            out.print(*listing.methods_tables(), listing.LIST_NOTE, listing.suites_table(), listing.questions_table())
            return
        doors.check_names(
            suite=suite,
            data=data,
            only=only,
            seeds=seeds,
            device=device,
            address=address,
            storage=storage,
            trace=trace,
            results=str(results),
            set="".join(settings or []),
            paper_of=paper_of,
        )
        doors.check_finite(timing_budget=timing_budget, gpus_per_job=gpus_per_job)
        rows = doors.words(only, "only")
        suite = suites.named(suite, rows)
        changes = _changes(settings or [], epochs, train_images)
        asked = suites.asked(
            suite,
            _data(data),
            only=rows,
            seeds=_seeds(seeds),
            changes=changes,
            settings=checked_settings(
                {"device": device, "threads": threads or dispatch.available_cpus(), "score_memory_mib": score_memory}
            ),
            paper_of=paper_of,
        )
        jobs = asked.jobs
        if rerank:
            check_rerank(jobs)
        store = Store(results / f"{suite}-{jobs[0].data.name}")
        _check_device(device)
        planned = ensembles.plan(jobs if averaged and suites.find(suite).ensembles else [])
        gpus = (1.0 if device.startswith("cuda") else 0.0) if gpus_per_job is None else gpus_per_job
        place = Place(workers or 0, threads, gpus, address, storage, dashboard, dashboard_port)
        where = dispatch.placed(place, workers, len(jobs), device)
        if dry_run:
            known = [*jobs, *planned.plans]
            out.print(listing.plan_table(known, [not force and _cached(store, row) for row in known]))
            return
        phases = Phases(
            timing_rounds,
            timing_budget,
            average=bool(planned.plans or planned.short),
            force=force,
            rerank=rerank,
            traces=None if trace is None else traces_folder(trace, store.folder),
        )
        with _exclusive(store.folder):
            store.save_asked(asked.record([plan.key for plan in planned.plans]))
            failed = _run(jobs, planned, store, force, phases, where)
    if failed:
        raise typer.Exit(1)


def _run(jobs: Sequence[Job], planned: Planned, store: Store, force: bool, phases: Phases, place: Place | None) -> int:
    """Runs what is not recorded, averages, then times, then reports.  Returns how many jobs failed."""
    from harness.learn.checkpoint import Checkpoints  # torch takes seconds to import; --list and --dry-run are at once
    from harness.precision import prepare_torch

    prepare_torch(jobs[0].settings)
    cached = [not force and _cached(store, job) for job in jobs]
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


def _cached(store: Store, job: Job | Plan) -> bool:
    """A job that failed, or whose ranks are gone, runs again."""
    record = store.record(job.key)
    return record is not None and record.status == "ok" and store.ranks_path(job.key).exists()


def _data(name: str) -> Data:
    """Opens the data far enough to know what they are."""
    from harness.data import sources

    path = "" if name in sources.EMBEDDED else name
    opened = sources.find(name)
    return replace(Data(), name=opened.name, path=path, fingerprint=opened.fingerprint)


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


if __name__ == "__main__":
    sys.exit(app())
