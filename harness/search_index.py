"""Exact search with trained rows beside FAISS's Flat, HNSW and IVF indexes, or with late interaction a shortlist's.

python -m harness.search_index results/full-scenes                          every row of the folder that can be indexed
python -m harness.search_index results/full-mine --data FOLDER --only vsepp the rows and the data one names

Needs the weights of the rows, which a run keeps beside its records, and `pip install 'selfalign-harness[index]'`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from harness import console, doors, report
from harness.commands import HELP
from harness.phases.placed import placed
from harness.record import IndexRecord, Record, Store
from harness.spec import registry, suites
from harness.spec.job import Job, SpecError

app = doors.Door()
LARGEST = 10**9  # items of a gallery
out = Console(highlight=False, soft_wrap=True, markup=False)


@app.command(help=(__doc__ or "").partition("\n")[0], context_settings=HELP)
def main(
    folder: Annotated[Path, typer.Argument(help="A results folder with weights, such as results/full-scenes.")],
    data: Annotated[str, typer.Option(help="The folder its features lie in, unless the data are embedded.")] = "",
    only: Annotated[str, typer.Option(help="Rows, comma-separated; `*` matches any text.")] = "*",
    sizes: Annotated[str, typer.Option(help="Galleries, in items.")] = "1000,10000,100000,1000000",
    build_budget: Annotated[float, typer.Option(min=0.1, help="Seconds until an index is given up.")] = 60.0,
    threads: Annotated[int, typer.Option(min=1, max=1024, help="CPU threads.")] = 1,
    no_plugins: doors.NoPlugins = False,
) -> None:
    with doors.refusals():
        doors.check_names(folder=str(folder), data=data, only=only)
        doors.check_finite(build_budget=build_budget)
        doors.choose_plugins(none_installed=no_plugins)
        store, wanted = Store(folder), _sizes(sizes)
        jobs = [placed(job, data, threads) for job in _rows(store, only)]
        from harness.measure.index import library  # torch takes seconds to import; bad input is told at once

        library()
        with console.bars(out) as bars:
            made = [_index(job, store, wanted, build_budget, bars) for job in jobs]
        if not any(made):
            raise SpecError("no row could be indexed")
        report.write(folder)
        out.print(f"tables: {folder / 'tables'}/approximate-search*.md")


def _rows(store: Store, only: str) -> list[Job]:
    """The first well-ended job of every trained row one asked for.  Raises SpecError where there is none."""
    records = store.rows()
    known = list(dict.fromkeys(record.label for record in records))
    if not known:
        raise SpecError(f"{store.folder} holds no records of trained rows")
    chosen = suites.select(doors.words(only, "only"), known)
    first = {record.label: record for record in reversed(records) if record.label in chosen}
    trained = [record for record in first.values() if _can_be_indexed(record)]
    if not trained:
        raise SpecError(f"{', '.join(chosen)}: only trained rows keep what can be indexed")
    return [Job.from_dict(record.job) for record in sorted(trained, key=lambda record: record.label)]


def _can_be_indexed(record: Record) -> bool:
    """Maybe: an interactive model has yet to say whether its score is a late interaction; the floor is noise."""
    return record.family in ("independent", "interactive") and not registry.floor(record.job["model"]["method"])


def _index(job: Job, store: Store, sizes: Sequence[int], build_s: float, bars: console.Bars) -> bool:
    """Measures one row and stores what it found; one line where that cannot be."""
    from harness.data.prepared import prepare
    from harness.learn.checkpoint import CheckpointError, Checkpoints
    from harness.measure import index, late
    from harness.measure.provenance import machine
    from harness.phases.train import load_model
    from harness.precision import prepare_torch

    label = job.model.label
    prepare_torch(job.settings)
    prepared = prepare(job.data, job.settings)
    model = load_model(job, prepared)
    task = bars.add_task(f"{label} · encode", total=None)
    try:
        if model.family == "interactive" and model.late_interaction is None:
            raise SpecError(f"{label} has neither embeddings nor a late interaction: there is nothing to index")
        Checkpoints(store.checkpoints(job.key)).load_best(model)
        kind = index if model.family == "independent" else late
        real, measure = kind.contender(model, prepared, job.settings, label)
    except (SpecError, CheckpointError) as error:
        out.print(f"left out  {error if isinstance(error, SpecError) else f'{label} has no weights here: {error}'}")
        return False
    finally:
        bars.remove_task(task)
    task = bars.add_task(f"{label} · index")
    entries = measure(sizes, build_s, lambda progress: bars.update(task, completed=progress.done, total=progress.total))
    bars.remove_task(task)
    store.save_index(
        IndexRecord(
            key=job.key,
            label=label,
            machine=machine(job.settings),
            gallery=index.described(real),
            neighbours=index.NEIGHBOURS,
            entries=entries,
            versions=index.versions(),
        )
    )
    out.print(f"indexed   {label}: {len(entries)} searches of up to {max(sizes):,} items")
    return True


def _sizes(text: str) -> list[int]:
    sizes = doors.whole_numbers(text, "sizes", "1000,100000", 1, LARGEST)
    if not sizes:
        raise SpecError("--sizes takes whole numbers such as 1000,100000, got nothing")
    return sorted(set(sizes))


if __name__ == "__main__":
    sys.exit(app())
