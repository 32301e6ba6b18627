"""Rows from files: read, put in the order of the data, evaluated and recorded.  Nothing is trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from harness.data.given import files, places
from harness.data.given.places import Truth
from harness.data.given.read import Given, read
from harness.data.given.vectors import Embeddings
from harness.data.prepared import Prepared, prepare, prepare_ranked
from harness.data.split import DataError, Split
from harness.measure import given
from harness.measure.cost import Contender
from harness.measure.memory import available_bytes
from harness.measure.metrics import summary
from harness.measure.provenance import peak_memory_mib, provenance
from harness.progress import Start, Watch, unwatched
from harness.record import Record
from harness.spec.given import FAMILY, Request, request_of
from harness.spec.given import job as job_of
from harness.spec.job import Data, Job, Settings
from harness.store import Store

SHARE = 0.5  # of the memory there is
IN_PART = "all pairs are ranked in memory; `search` and `search_index` read such files through a memory map"


def jobs(requests: Sequence[Request], data: Data, changes: Mapping[str, Any], settings: Settings) -> list[Job]:
    """The rows on the data.  Opens the files far enough to know what they are.  Raises DataError and SpecError."""
    return [
        job_of(request, files.opened(request, room())[0], files.digest(request), data, changes, settings)
        for request in requests
    ]


def room() -> float:
    """Bytes that the arrays of one row may take."""
    return SHARE * available_bytes("cpu")


def phase(rows: Sequence[Job], store: Store, watch: Start, *, force: bool) -> Iterator[str]:
    """Evaluates every row that is not recorded (or all), a line each.  Raises DataError and SpecError."""
    for job in rows:
        if not force and store.finished(job.key) is not None:
            continue
        record, found = execute(job, store, watch(job.model.label))
        ranks = store.ranks(job.key)
        assert ranks is not None
        rsum = summary(ranks.i2t, ranks.t2i)["rsum"]
        ties = f", {record.tied_queries} queries tie (ties count against it)" if record.tied_queries else ""
        yield f"given   {job.model.label}: {job.data.ranked} Rsum {rsum:.1f}{ties}"
        yield from (f"        {note}" for note in found.notes)


def execute(job: Job, store: Store, watch: Watch = unwatched) -> tuple[Record, Given]:
    """Stores record and ranks.  Raises DataError and SpecError: bad input is the user's to mend, not an outcome."""
    side = prepare_ranked(job.data).ranked
    found = read_row(job, side.split)
    try:
        evaluation = given.evaluate(found, side, job.settings, watch)
    except DataError as error:
        raise DataError(f"{job.model.label}: {error}") from None
    record = Record(
        key=job.key,
        label=job.model.label,
        status="ok",
        job=job.as_dict(),
        family=FAMILY,
        data={job.data.ranked: _described(side.split, found)},
        seconds=evaluation.seconds,
        peak_memory_mib=peak_memory_mib(job.settings.device),
        tied_queries=evaluation.tied_queries,
        provenance=provenance(job.settings),
    )
    store.save(record, evaluation.ranks)
    return record, found


def read_row(job: Job, split: Split) -> Given:
    """The row in the order of the split.  Raises DataError, also where the files are no longer those of the job."""
    request = request_of(job.model)
    if files.digest(request) != job.model.given:
        raise DataError(f"{request.files[0]} changed since the row {request.name} was asked for")
    kind, arrays = files.opened(request, room())
    if kind == "embeddings":
        places.check_room(request.name, 4 * (arrays["images"].size + arrays["captions"].size), room(), IN_PART)
    found = read(request.name, kind, arrays, request.options, Truth.of(split), room())
    return replace(found, notes=(*found.notes, *files.ignored(request)))


def _described(split: Split, found: Given) -> dict[str, Any]:
    return {
        "images": len(split.images),
        "captions": len(split.captions),
        "fold_images": split.fold_images,
        "notes": [*split.notes, *found.notes],
    }


def contender(job: Job, split: Split) -> Contender | None:
    """The row as one that answers queries; None of scores, which tell no time.  Raises DataError."""
    found = read_row(job, split)
    return Contender(job, given.model_of(found, split, job.settings)) if isinstance(found, Embeddings) else None


def prepared(rows: Sequence[Job]) -> Prepared:
    """What rows on one ranked split read: as those that are trained need it, else the ranked split alone."""
    trained = next((job for job in rows if not job.model.given), None)
    return prepare_ranked(rows[0].data) if trained is None else prepare(trained.data, trained.settings)
