"""Exact search with trained or given rows beside FAISS's indexes, or with late interaction beside a shortlist's.

python -m harness.search_index results/full-scenes                          every row of the folder that can be indexed
python -m harness.search_index results/full-mine --data FOLDER --only vsepp the rows and the data one names
python -m harness.search_index results/full-mine --data FOLDER --row mine=FILE.npz  a row from files, named once more
python -m harness.search_index --row mine=images.npy,captions.npy           files alone: the table is printed

Needs the weights of the rows, which a run keeps beside its records, and `pip install 'selfalign-harness[index]'`.
Files alone are one gallery, all of their images: nothing is made up, and nothing is stored.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from harness import console, doors, report
from harness.commands import HELP
from harness.data.given import files
from harness.phases.placed import placed
from harness.progress import Progress
from harness.record import IndexRecord, Record, Searched
from harness.report.formats import markdown
from harness.report.tables.search_index import sheet_of
from harness.spec import given, registry, suites
from harness.spec.given import Request
from harness.spec.job import Job, Settings, SpecError
from harness.spec.override import checked_settings
from harness.store import Store

app = doors.Door()
SIZES = (1_000, 10_000, 100_000, 1_000_000)
LARGEST = 10**9  # items of a gallery
out = Console(highlight=False, soft_wrap=True, markup=False)


@app.command(help=(__doc__ or "").partition("\n")[0], context_settings=HELP)
def main(
    folder: Annotated[
        Path | None, typer.Argument(help="A results folder with weights, such as results/full-scenes.")
    ] = None,
    data: Annotated[str, typer.Option(help="The folder its features lie in, unless the data are embedded.")] = "",
    only: Annotated[
        str, typer.Option(help="Rows, comma-separated; `*` matches any text.  By default all, or those of --row.")
    ] = "",
    row: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=FILE", help="Embeddings from files, as `run --row` takes them; repeatable."),
    ] = None,
    sizes: Annotated[
        str, typer.Option(help="Galleries, in items; 1000,10000,100000,1000000 by default, of files alone all images.")
    ] = "",
    build_budget: Annotated[float, typer.Option(min=0.1, help="Seconds until an index is given up.")] = 60.0,
    threads: Annotated[int, typer.Option(min=1, max=1024, help="CPU threads.")] = 1,
    no_plugins: doors.NoPlugins = False,
) -> None:
    with doors.refusals():
        doors.check_names(folder=str(folder or ""), data=data, only=only, row="".join(row or ()))
        doors.check_finite(build_budget=build_budget)
        doors.choose_plugins(none_installed=no_plugins)
        requests, wanted = given.all_parsed(row or ()), _sizes(sizes)
        if folder is None:
            _alone(requests, data, wanted, build_budget, threads)
            return
        store = Store(folder)
        jobs = [placed(job, data, threads) for job in _rows(store, only, requests)]
        from harness.measure.index import library  # torch takes seconds to import; bad input is told at once

        library()
        with console.run_view(out, len(jobs)) as view:
            made = [_index(job, store, wanted or list(SIZES), build_budget, view) for job in jobs]
        if not any(made):
            raise SpecError("no row could be indexed")
        report.write(folder)
        out.print(f"tables: {folder / 'tables'}/approximate-search*.md")


def _rows(store: Store, only: str, requests: Sequence[Request]) -> list[Job]:
    """The first well-ended job of every row one asked for.  Raises SpecError where there is none, and DataError."""
    records = store.rows()
    known = list(dict.fromkeys(record.label for record in records))
    if not known:
        raise SpecError(f"{store.folder} holds no records of trained rows")
    named = [_named(request, records, store) for request in requests]
    if requests and not only:
        return named
    chosen = suites.select(doors.words(only, "only") or ["*"], known)
    first = {record.label: record for record in reversed(records) if record.label in chosen}
    trained = [record for record in first.values() if _can_be_indexed(record)]
    if not trained and not named:
        others = [record.label for record in records if record.family == given.FAMILY and record.label in chosen]
        hint = f"; name files once more by --row {others[0]}=FILE" if others else ""
        raise SpecError(f"{', '.join(chosen)}: only trained rows keep what can be indexed{hint}")
    return [*(Job.from_dict(record.job) for record in sorted(trained, key=lambda record: record.label)), *named]


def _named(request: Request, records: Sequence[Record], store: Store) -> Job:
    """The recorded job of a row from these files.  Raises SpecError where they were not run, and DataError."""
    from harness.phases.given import room

    kind, digest = files.opened(request, room())[0], files.digest(request)
    for record in records:
        if record.label == request.name and record.job["model"].get("given") == digest:
            job = Job.from_dict(record.job)
            found = replace(job, model=given.model(request, kind, digest))
            if found.key == record.key:
                return found
    raise SpecError(f"{store.folder} has no row {request.name} of these files and options: `run` it first, by --row")


def _alone(requests: Sequence[Request], data: str, sizes: Sequence[int], build_s: float, threads: int) -> None:
    """Prints what becomes of embeddings from files, where no results folder is told.  Raises SpecError, DataError."""
    if not requests:
        raise SpecError("need a results folder, or --row NAME=FILE")
    from harness.measure import index
    from harness.searching_given import opened

    index.library()
    settings = checked_settings({"threads": threads})
    for request in requests:
        searcher = opened(request, data, settings)
        real, queries = searcher.matrices(request.name, index.QUERIES)
        galleries = sizes or [len(real)]
        with console.run_view(out, 1) as view:
            entries = index.measure(real, queries, galleries, threads, build_s, view.start(request.name))
        whole = f"{len(real):,} images of the files, in their order"
        gallery = index.described(len(real)) if max(galleries) > len(real) else whole
        record = _record("", request.name, gallery, settings, entries)
        out.print(markdown(sheet_of([(f"{request.name} (given)", record)])))


def _can_be_indexed(record: Record) -> bool:
    """Maybe: an interactive model has yet to say whether its score is a late interaction; the floor is noise."""
    return record.family in ("independent", "interactive") and not registry.floor(record.job["model"]["method"])


def _index(job: Job, store: Store, sizes: Sequence[int], build_s: float, view: console.RunView) -> bool:
    """Measures one row and stores what it found; one line where that cannot be."""
    from harness.measure import index, late
    from harness.phases.given import prepared as prepared_for
    from harness.phases.time import contender
    from harness.precision import prepare_torch

    label = job.model.label
    prepare_torch(job.settings)
    data = prepared_for([job])
    watch = view.start(label)
    try:
        row = contender(job, data, store)
        if row is None:
            why = "scores, not embeddings" if job.model.given else "no weights here (--force of a run trains again)"
            raise SpecError(f"{label} has {why}")
        if row.model.family == "interactive" and row.model.late_interaction is None:
            raise SpecError(f"{label} has neither embeddings nor a late interaction: there is nothing to index")
        watch(Progress("encode", 0, 1))
        kind = index if row.model.family == "independent" else late
        real, measure = kind.contender(row.model, data, job.settings, label)
    except SpecError as error:
        view.finish(f"left out  {escape(str(error))}", label)
        return False
    entries = measure(sizes, build_s, watch)
    store.save_index(_record(job.key, label, index.described(real), job.settings, entries))
    view.finish(f"indexed   {escape(label)}: {len(entries)} searches of up to {max(sizes):,} items", label)
    return True


def _record(key: str, label: str, gallery: str, settings: Settings, entries: Sequence[Searched]) -> IndexRecord:
    from harness.measure import index
    from harness.measure.provenance import machine

    return IndexRecord(
        key=key,
        label=label,
        machine=machine(settings),
        gallery=gallery,
        neighbours=index.NEIGHBOURS,
        entries=entries,
        versions=index.versions(),
    )


def _sizes(text: str) -> list[int]:
    """Ascending; [] where not told."""
    return sorted(set(doors.whole_numbers(text, "sizes", "1000,100000", 1, LARGEST)))


if __name__ == "__main__":
    sys.exit(app())
