"""Run a suite of image-text retrieval models under identical settings and print the comparison.

python -m harness.run --suite full                     the embedded scenes
python -m harness.run --suite full --data FOLDER       your own features (see harness.features)
python -m harness.run --only ablations/prototypes      one question (see ablations/), three seeds
python -m harness.run --evaluate RESULTS --data FOLDER stored weights on other data: its test split is enough
python -m harness.run --row mine=FILE.npz --data FOLDER  embeddings or scores made elsewhere
python -m harness.run --row clip=FOLDER                a pretrained model of transformers beside the suite's rows
python -m harness.run --suite full --workers 0         one job after the other, without Ray
python -m harness.run --list                           what there is
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console

from harness import ROOT, console, doors, expected, listing, report, results, settled
from harness.atomic import write_atomically
from harness.choices import Afterwards, How, Once, What, Where
from harness.commands import HELP
from harness.data import sources
from harness.options import command, configured, on_command_line, written
from harness.phases.order import OptionalTrace, Phases, check_rerank, traces_folder
from harness.record import Record
from harness.schedule import dispatch, loggers
from harness.schedule.division import Place
from harness.spec import ensembles, given, needs, pretrained, registry, suites, taken
from harness.spec.asked import Asked
from harness.spec.ensembles import Planned
from harness.spec.given import Request
from harness.spec.job import MOST_SEED, Data, Job, Settings, SpecError, parse_value
from harness.spec.override import checked_settings
from harness.spec.pretrained import Pretrained
from harness.store import Store
from harness.tuned import TunedRecord

if TYPE_CHECKING:
    from harness.data.judgements import Judgements

out = Console()
KEPT = "finished records are kept; the same command goes on from the last epoch"


def main(context: typer.Context, once: Once, what: What, how: How, where: Where, after: Afterwards) -> None:
    """What the command does with its options."""
    with doors.refusals(KEPT):
        for name in ("only", "seeds"):  # a variable of a script that is not set must not start everything
            if context.params.get(name) == "" and on_command_line(context, name):
                raise SpecError(f"--{name} is given, but empty")
        if once.config is not None:
            what, how, where, after = configured(context, once.config, (what, how, where, after))
        for group in (what, how, where, after):
            doors.check(group)
        doors.choose_plugins(what.plugin, none_installed=what.no_plugins)
        choose_models(what.row, where.device)
        if once.list_:
            _list(once.parameters)
            return
        if once.evaluate is not None:
            from harness import evaluation

            options = (what, how, where, after)
            if evaluation.evaluate(context, once.evaluate, *options, out, force=once.force, dry=once.dry_run):
                raise typer.Exit(1)
            return
        if where.shards > 1:
            raise SpecError("--shards is of --evaluate: jobs that train run side by side, --workers says how many")
        if where.processes > 1 and (where.workers or where.address):
            raise SpecError("--processes train one row after the other, --workers several at a time: choose one")
        asked, found = _asked(what, how, where)
        store = Store(where.results / f"{asked.suite}-{asked.jobs[0].data.name}")
        asked, left_out = taken.all_resolved(asked, store)
        for line in left_out:
            out.print(line, highlight=False, soft_wrap=True, markup=False)
        jobs = asked.jobs
        if after.rerank:
            check_rerank(jobs)
        if asked.design is not None and where.processes > 1:
            raise SpecError("suite tune runs its trials side by side: leave --processes out")
        if asked.design is not None and after.trace is not None:
            raise SpecError("--trace is of what was trained to be kept, suite tune keeps none but of winners")
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
            if asked.design is not None:
                settled.tune_rows(asked, store, where.results, place, out, force=once.force, dry=True)
                return
            todo = [job for job, known in zip(jobs, cached, strict=False) if not known]  # ensembles train nothing
            alike = (ROOT / "results" / "reference").glob(f"*-{jobs[0].data.name}")
            told = expected.records_of([store, *map(Store, sorted(alike))])
            out.print(expected.expected_line(todo, told), soft_wrap=True)
            return
        phases = _phases(after, store, average=bool(planned.plans or planned.short), force=once.force)
        with results.exclusive(store.folder):
            store.save_asked(asked.record([plan.key for plan in planned.plans]))
            settled.keep(asked, found, store.folder)
            if asked.design is not None:
                failed = settled.tune_rows(asked, store, where.results, place, out, force=once.force, dry=False)
            else:
                failed = _run(jobs, planned, store, once.force, phases, place, where.processes)
    if failed:
        raise typer.Exit(1)


app = doors.Door()
app.command(cls=OptionalTrace, help=(__doc__ or "").partition("\n")[0], context_settings=HELP)(
    command(main, Once, What, How, Where, Afterwards)
)


def _list(parameters: bool) -> None:
    """What there is to run; with their parameters every row is built, which takes torch and seconds."""
    counts, note = None, ()
    if parameters:
        from harness.parameters import listed

        (counts, failures), note = listed(), (listing.PARAMETERS_NOTE,)
        for line in failures:
            doors.say(doors.printable(line))
    out.print(*listing.methods_tables(counts), *note, listing.suites_table(), listing.questions_table())


def _asked(what: What, how: How, where: Where) -> tuple[Asked, tuple[Path, TunedRecord] | None]:
    """What the data can serve, with the tuned settings it reads; a line for every row that is left out.

    Raises SpecError, DataError and RecordError.
    """
    only, threads = (
        doors.words(what.only, "only"),
        where.threads or max(1, dispatch.available_cpus() // where.processes),
    )
    settings = checked_settings({"device": where.device, "threads": threads, "score_memory_mib": where.score_memory})
    changes, requests = _changes(how), given.all_parsed([row for row in what.row if not pretrained.is_model(row)])
    models = [model.name for model in pretrained.chosen()]
    if models and not (what.suite or only):
        only = models
    data, offers = sources.described(what.data)
    if requests and not (what.suite or only):
        asked = Asked(
            suites.named("", ()), published=False, rows=_from_files(requests, data, changes, settings), posed=()
        )
        return asked, None
    name = suites.named(what.suite, only)
    reads = suites.find(name).tuned and not how.untuned
    if not suites.find(name).tuning:
        changes = {**_looks(changes), **changes}
    found = settled.stored(where.results, data) if reads else None
    asked = suites.asked(
        name,
        data,
        only=only,
        seeds=_seeds(what.seeds),
        changes=changes,
        settings=settings,
        paper_of=what.paper_of,
        rows=models,
        tuned=found and found[1],
        trials=how.trials,
    )
    if requests and asked.design is not None:
        raise SpecError(f"suite tune tries rows that are trained here: leave --row {requests[0].name} out")
    asked, left_out = needs.served(asked, offers)
    if reads and not only:
        asked, untuned = settled.ranked(asked)
        left_out = [*left_out, *untuned]
    for line in (*left_out, *(settled.lines(asked, found) if reads else ())):
        out.print(line, highlight=False, soft_wrap=True, markup=False)
    return replace(asked, rows=(*asked.rows, *_from_files(requests, data, changes, settings))), found


def _from_files(
    requests: Sequence[Request], data: Data, changes: Mapping[str, Any], settings: Settings
) -> tuple[Job, ...]:
    """Raises SpecError and DataError."""
    if not requests:
        return ()
    from harness.phases.given import jobs  # torch takes seconds to import

    return tuple(jobs(requests, data, changes, settings))


def choose_models(rows: Sequence[str], device: str) -> None:
    """Makes the pretrained models of `--row` known as rows.  Raises SpecError and DataError."""
    pretrained.choose()  # none of an earlier call
    names = set(registry.methods())
    found: list[Pretrained] = []
    for request in map(pretrained.parsed, filter(pretrained.is_model, rows)):
        folder = Path(request.model)
        if not folder.exists():
            from harness.pretrained.loading import located  # transformers takes seconds to import

            folder = located(request.model)
        found.append(pretrained.pretrained(request, folder, names, device))
        names.add(request.name)
    pretrained.choose(found)


def _place(where: Where, jobs: int) -> Place | None:
    """Raises SpecError."""
    cuda = 1.0 if where.device.startswith("cuda") else 0.0
    gpus = cuda if where.gpus_per_job is None else where.gpus_per_job
    place = Place(
        where.workers or 0,
        where.threads,
        gpus,
        where.address,
        where.storage,
        where.dashboard,
        where.dashboard_port,
        loggers.parsed(doors.words(where.log, "log")),
    )
    workers = 0 if where.processes > 1 else where.workers
    return dispatch.placed(place, workers, jobs, where.device)


def _phases(after: Afterwards, store: Store, *, average: bool, force: bool) -> Phases:
    """Raises SpecError and DataError."""
    return Phases(
        after.timing_rounds,
        after.timing_budget,
        average=average,
        force=force,
        rerank=after.rerank,
        truths=doors.words(after.truths, "truths"),
        judgements=_judgements(after.judgements),
        traces=None if after.trace is None else traces_folder(after.trace, store.folder),
    )


def _judgements(path: str) -> Judgements | None:
    """Raises DataError."""
    if not path:
        return None
    from harness.data import judgements  # with the libraries of pictures

    return judgements.read(Path(path))


def _run(
    jobs: Sequence[Job],
    planned: Planned,
    store: Store,
    force: bool,
    phases: Phases,
    place: Place | None,
    processes: int,
) -> int:
    """Runs what is not recorded, averages, then times, then reports.  Returns how many jobs failed."""
    cached = [not force and store.finished(job.key) is not None for job in jobs]
    if any(cached):
        out.print(
            f"cached  {sum(cached)} of {len(jobs)} jobs are recorded already (--force runs them again)", highlight=False
        )
    known = phases.recorded(jobs, store) if all(cached) else None
    for line in known or ():
        out.print(line, highlight=False, soft_wrap=True)
    if known is None:
        _work(jobs, cached, planned, store, force, phases, place, processes)
    results.show(store.folder, out)
    if known is None:
        results.agree(store.folder, out)
    return sum(record is None or record.status == "failed" for record in (store.record(job.key) for job in jobs))


def _work(
    jobs: Sequence[Job],
    cached: Sequence[bool],
    planned: Planned,
    store: Store,
    force: bool,
    phases: Phases,
    place: Place | None,
    processes: int,
) -> None:
    """Runs the jobs that are not cached, then the phases."""
    from harness.learn.checkpoint import Checkpoints  # torch takes seconds to import; what is recorded is told at once
    from harness.phases import given as from_files
    from harness.precision import prepare_torch

    prepare_torch(jobs[0].settings)
    todo = [job for job, known in zip(jobs, cached, strict=True) if not known and not job.model.given]
    with console.run_view(out, len(todo)) as view:
        for job in todo if force else ():
            Checkpoints(store.checkpoints(job.key)).discard()

        def finish(job: Job, record: Record, seconds: float) -> None:
            view.finish(console.job_line(job, record, report.rsum(store, record), seconds), job.name)

        for line in from_files.phase([job for job in jobs if job.model.given], store, view.start, force=force):
            out.print(line, highlight=False, soft_wrap=True, markup=False)
        dispatch.run(todo, len(jobs), planned.member_keys, store, view, finish, place, force, processes)
        for line in phases.lines(jobs, store, view.start):
            out.print(line, highlight=False, soft_wrap=True)


def _check_device(name: str) -> None:
    """Before anything is written.  Raises SpecError; torch is asked only where it has to be."""
    if name != "cpu":
        from harness.precision import check_device

        check_device(name)


def _changes(how: How) -> dict[str, Any]:
    """Raises SpecError."""
    if how.epochs is not None and how.updates is not None:
        raise SpecError("--epochs and --updates are two lengths of one training: choose one")
    changes: dict[str, Any] = {}
    for setting in how.set:
        path, equals, value = setting.partition("=")
        if not equals:
            raise SpecError(f"--set takes path=value, got {setting!r}")
        changes[path] = parse_value(value)
    named = {"settings.epochs": how.epochs, "settings.updates": how.updates, "data.train_images": how.train_images}
    return changes | {path: value for path, value in named.items() if value is not None}


def _looks(changes: Mapping[str, Any]) -> dict[str, Any]:
    """As many looks at dev as updates, where there are fewer updates than usual looks."""
    length = changes.get("settings.updates")
    return {"settings.parts": length} if isinstance(length, int) and 0 < length < Settings.parts else {}


def _seeds(text: str) -> list[int] | None:
    first, dash, last = text.partition("-")
    if dash and first.isdecimal() and last.isdecimal() and len(text) < 20 and 0 < int(last) - int(first) < 100:
        meant = ",".join(map(str, range(int(first), int(last) + 1)))
        raise SpecError(f"--seeds takes whole numbers such as 0,1,2, got {text!r}; did you mean {meant}?")
    seeds = doors.whole_numbers(text, "seeds", "0,1,2", 0, MOST_SEED)
    if len(set(seeds)) != len(seeds):
        raise SpecError(f"--seeds must be different, got {doors.quoted(text)}")
    return seeds or None


class _Callable(ModuleType):
    """This module, which has the name that `from harness import run` promises a function."""

    def __call__(self, job: Job | str, folder: Path | str, **choices: Any) -> Record:
        """As `harness.api.run`."""
        from harness.api import run

        return run(job, folder, **choices)


sys.modules[__name__].__class__ = _Callable


if __name__ == "__main__":
    sys.exit(app())
