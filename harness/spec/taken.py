"""Rows that take the weights of another stored row: `distilled.teacher=scan:t2i-lse`.

A method or module names such options in its literal `ROWS`.  Before a job runs, the row named is looked up among the
records of its folder; its key and a hash of its weights become part of the identity of the job that takes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from harness import contents
from harness.record import Record
from harness.spec import registry
from harness.spec.asked import Asked, Posed
from harness.spec.job import Job, SpecError
from harness.store import Store

WEIGHTS = "best.safetensors"  # beside the checkpoints of a job
VOCABULARY = ("min_count", "max_words", "text_model")  # settings by which captions become numbers


@dataclass(frozen=True)
class Taken:
    """One stored row, as it is part of another's identity: `KEY.HASH`."""

    key: str
    weights: str  # hash of the file

    @classmethod
    def read(cls, written: str) -> Taken:
        return cls(*written.split("."))

    def __str__(self) -> str:
        return f"{self.key}.{self.weights}"


def all_resolved(asked: Asked, store: Store) -> tuple[Asked, list[str]]:
    """What is asked for, every row that is taken looked up, and a line for every arm that goes without.

    Raises SpecError where a row itself cannot be, and RecordError.
    """
    lines, tuning = dict[str, None](), dict(asked.tuning)

    def of(job: Job) -> Job:
        found = resolved(job, store)
        if job.key in asked.tuning:
            tuning[found.key] = asked.tuning[job.key]
        return found

    def arms(posed: Posed) -> dict[str, Job]:
        found = {}
        for name, arm in posed.arms.items():
            try:
                found[name] = of(arm)
            except SpecError as error:
                lines[f"Left out: {arm.model.host} {arm.arm}: {error}"] = None
        return found

    posed = tuple(replace(each, base=of(each.base), arms=arms(each)) for each in asked.posed)
    return replace(asked, rows=tuple(map(of, asked.rows)), posed=posed, tuning=tuning), list(lines)


def resolved(job: Job, store: Store) -> Job:
    """The job, with keys and weights of the rows that it takes.  Raises SpecError where there is not exactly one."""
    paths = registry.wanted(job.model)
    if not paths:
        return job
    taken = {path: str(_found(job, path, row, store)) for path, row in paths.items()}
    return replace(job, model=replace(job.model, taken=taken))


def weights_hash(store: Store, key: str) -> str:
    """12 hex digits of the stored weights of a job.  Raises SpecError where there are none."""
    path = store.checkpoints(key) / WEIGHTS
    try:
        return contents.digest(path)[:12]
    except OSError as error:
        raise SpecError(f"the weights of {key} cannot be read in {store.folder}: {error.strerror}") from None


def _found(job: Job, path: str, row: str, store: Store) -> Taken:
    label, _, key = row.partition("@")
    records = [record for record in store.records() if record.label == label and record.key.startswith(key)]
    rows = {record.key for record in store.rows()}  # arms of questions share their labels
    able = [record for record in records if not _unfit(job, record, store)]
    fitting = [record for record in able if record.key in rows] or able
    whose = f"{path} takes the weights of {row}"
    if not fitting:
        why = "; ".join(dict.fromkeys(_unfit(job, record, store) for record in records)) or "it was not run there"
        raise SpecError(f"{whose}, of which {store.folder} has none that fits: {why}")
    if len(fitting) > 1:
        keys = ", ".join(f"{path}={label}@{record.key}" for record in fitting)
        raise SpecError(f"{whose}, of which {store.folder} has several: choose one by {keys}")
    return Taken(fitting[0].key, weights_hash(store, fitting[0].key))


def _unfit(job: Job, record: Record, store: Store) -> str:
    """Why a job cannot take the weights of a record; "" where it can."""
    other = Job.from_dict(record.job)
    if record.status != "ok":
        return f"seed {other.settings.seed} failed"
    if other.settings.seed != job.settings.seed:
        return f"seed {other.settings.seed} is not {job.settings.seed}"
    if not registry.current(other.model):
        return "it was run by an older recipe"
    for name in ("name", "fingerprint", "train_images"):
        if getattr(other.data, name) != getattr(job.data, name):
            return f"its data.{name} is another"
    own, its = (_settings(each) for each in (job, other))
    for name in (*VOCABULARY, "train_share"):
        if own.get(name) != its.get(name):
            return f"its settings.{name} is {its.get(name)!r}"
    return "" if (store.checkpoints(record.key) / WEIGHTS).is_file() else "its weights are gone (--force trains again)"


def _settings(job: Job) -> Mapping[str, object]:
    """As they are stored: a text model goes by what it holds."""
    return job.as_dict()["settings"]
