"""How long would a run take?  By what stored runs of the same rows on the same data took, by the pairs trained on.

A guess for planning: of one worker, on machines like those that ran them, without timing, reranking and reports.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median

from harness.record import Record, RecordError
from harness.spec.job import Job, SpecError
from harness.store import Store


def expected_seconds(jobs: Sequence[Job], stored: Sequence[Record]) -> list[float | None]:
    """Of each job, the median over stored runs of its row; None where no stored run tells."""
    rates: dict[tuple[str, str], list[float]] = {}
    images: dict[str, int] = {}  # of the largest training split known
    each: dict[str, float] = {}  # captions of an image
    for record in stored:
        if record.status != "ok" or record.members or "train" not in record.data:
            continue
        try:
            job = Job.from_dict(record.job)
        except (SpecError, KeyError, TypeError):  # of a version that knew other settings
            continue
        train = record.data["train"]
        images[job.data.name] = max(images.get(job.data.name, 0), train["images"])
        each[job.data.name] = train["captions"] / train["images"]
        if pairs := trained_pairs(job, train["captions"]):
            rates.setdefault((record.label, job.data.name), []).append(sum(record.seconds.values()) / pairs)
    found: list[float | None] = []
    for job in jobs:
        own, name = rates.get((job.model.label, job.data.name)), job.data.name
        if own:
            captions = (job.data.train_images or images[name]) * each[name]
            found.append(median(own) * trained_pairs(job, captions))
        else:
            found.append(None)
    return found


def trained_pairs(job: Job, captions: float) -> float:
    """Image-caption pairs that pass through training.  captions: of the training split."""
    own = job.settings
    return float(own.updates * own.batch) if own.updates else own.epochs * captions * own.train_share


def expected_line(jobs: Sequence[Job], stored: Sequence[Record]) -> str:
    """`--dry-run`: minutes, and of how many jobs they are; "" where there is nothing to run."""
    told = [seconds for seconds in expected_seconds(jobs, stored) if seconds is not None]
    if not jobs:
        return ""
    if not told:
        return "how long: no stored run of these rows on these data tells"
    minutes = sum(told) / 60
    shown = "under a minute" if minutes < 1 else f"about {minutes:,.0f} minute{'s' * (round(minutes) != 1)}"
    missing = len(jobs) - len(told)
    unknown = f"; {missing} of {len(jobs)} jobs were never run on these data" if missing else ""
    return f"{shown} of one worker, by stored runs of the same rows{unknown}; timing and reports come on top"


def records_of(stores: Iterable[Store]) -> list[Record]:
    """All that can be read; folders that cannot be trusted tell nothing here."""
    found: list[Record] = []
    for store in stores:
        try:
            found += store.records()
        except RecordError:
            continue
    return found
