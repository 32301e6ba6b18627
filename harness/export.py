"""Write what a stored row knows to files: embeddings or scores, ids, ranks query by query.

python -m harness.export vsepp results/full-scenes                                 to results/full-scenes/exports
python -m harness.export vsepp results/full-mine --data features/mine --out DIR    the data one names

Needs the weights of the row, which a run keeps beside its records.  What is written comes back by `run --row`.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from harness import doors
from harness.commands import HELP
from harness.record import Record
from harness.spec.job import MOST_SEED, Job, SpecError
from harness.spec.names import nearest
from harness.spec.runs import run_of
from harness.store import Store

app = doors.Door()
out = Console(highlight=False, soft_wrap=True, markup=False)


@app.command(help=(__doc__ or "").partition("\n")[0], context_settings=HELP)
def main(
    row: Annotated[str, typer.Argument(help="Label of the row, such as vsepp+selfalign, or key of its record.")],
    folder: Annotated[Path, typer.Argument(help="A results folder with weights.")],
    to: Annotated[
        Path | None, typer.Option("--out", help="Where the files go; FOLDER/exports/ROW-SEED by default.")
    ] = None,
    data: Annotated[str, typer.Option(help="The folder its features lie in, unless the data are embedded.")] = "",
    seed: Annotated[int | None, typer.Option(min=0, max=MOST_SEED, help="Which run; the first by default.")] = None,
    form: Annotated[str, typer.Option("--format", help="Of the table of queries: csv or parquet.")] = "csv",
    threads: Annotated[
        int, typer.Option(min=0, max=1024, help="CPU threads; 0 = as the run had, for sums round by them.")
    ] = 0,
    no_plugins: doors.NoPlugins = False,
) -> None:
    with doors.refusals():
        doors.check_names(row=row, folder=str(folder), out=str(to or ""), data=data, format=form)
        doors.choose_plugins(none_installed=no_plugins)
        _check_format(form)
        store = Store(folder)
        record = _record(store, row, seed)
        from harness.phases import export  # torch takes seconds to import; bad input is told at once
        from harness.phases.placed import placed

        stored = Job.from_dict(record.job)
        job = placed(stored, data, threads or stored.settings.threads)
        place = to or folder / "exports" / f"{row.replace(':', '-')}-{job.settings.seed}"
        for line in export.write(job, store, place, form):
            out.print(line)


def _check_format(form: str) -> None:
    """Raises SpecError."""
    if form not in ("csv", "parquet"):
        raise SpecError(f"--format must be csv or parquet, got {doors.quoted(form)}")
    if form == "parquet" and not (find_spec("pyarrow") or find_spec("fastparquet")):
        raise SpecError("--format parquet needs pyarrow: pip install pyarrow, or take csv")


def _record(store: Store, row: str, seed: int | None) -> Record:
    """The run one asked for.  Raises SpecError where there is none that trained weights."""
    if not store.folder.is_dir():
        raise SpecError(f"{store.folder}: no such results folder")
    trained = [record for record in store.rows() if not record.job["model"].get("given")]
    labels = list(dict.fromkeys(record.label for record in trained))
    if not labels:
        raise SpecError(f"{store.folder} holds no records of trained rows")
    if row not in (*labels, *(record.key for record in trained)):
        raise SpecError(f"{store.folder.name} has no trained row {doors.quoted(row)}{nearest(row, labels)}")
    return run_of(trained, row, seed)


if __name__ == "__main__":
    sys.exit(app())
