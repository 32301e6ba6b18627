"""Rows that take the weights of another stored row: `distilled.teacher=scan:t2i-lse`.

A method or module names such options in its literal `ROWS`.  Before a job runs, the row named is looked up among the
records of its folder; its key and a hash of its weights become part of the identity of the job that takes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from harness import contents
from harness.record import Record
from harness.spec import registry
from harness.spec.asked import Asked, Posed
from harness.spec.job import Job, SpecError
from harness.spec.override import CONTROL
from harness.store import Store

WEIGHTS = "best.safetensors"  # beside the checkpoints of a job
SIZES = ("dim", "word_dim")  # settings by which a method and what it stands on are built alike
STOOD_ON = "model."  # begins the path of an option whose row is a part of the method, not its teacher
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
    found = {path: _found(job, path, row, store) for path, row in paths.items()}
    taken = {path: str(Taken(record.key, weights_hash(store, record.key))) for path, record in found.items()}
    stood_on = {path: record for path, record in found.items() if path.startswith(STOOD_ON)}
    stands_on = {path: told for path, record in stood_on.items() if (told := _untold(record))}
    return replace(job, model=replace(job.model, taken=taken, stands_on=stands_on))


def _untold(record: Record) -> dict[str, Any]:
    """What its label does not tell of a stored model, as `override` takes it."""
    own = Job.from_dict(record.job).model
    usual = {section: {**method.options, **told} for section, method, told in registry.parts(registry.model(own.label))}
    options = {
        f"{section}.{name}": value
        for section, method, told in registry.parts(own)
        for name, value in {**method.options, **told}.items()
        if value != usual[section][name]
    }
    return options | ({CONTROL: own.control} if own.control else {})


def weights_hash(store: Store, key: str) -> str:
    """12 hex digits of the stored weights of a job.  Raises SpecError where there are none."""
    path = store.checkpoints(key) / WEIGHTS
    try:
        return contents.digest(path)[:12]
    except OSError as error:
        raise SpecError(f"the weights of {key} cannot be read in {store.folder}: {error.strerror}") from None


def _found(job: Job, path: str, row: str, store: Store) -> Record:
    label, _, key = row.partition("@")
    records = [record for record in store.records() if record.label == label and record.key.startswith(key)]
    rows = {record.key for record in store.rows()}  # arms of questions share their labels
    able = [record for record in records if not _unfit(job, path, record, store)]
    fitting = [record for record in able if record.key in rows] or able
    whose = f"{path} takes the weights of {row}"
    if not fitting:
        why = "; ".join(dict.fromkeys(_unfit(job, path, record, store) for record in records)) or "it was not run there"
        raise SpecError(f"{whose}, of which {store.folder} has none that fits: {why}")
    if len(fitting) > 1:
        keys = ", ".join(f"{path}={label}@{record.key}" for record in fitting)
        raise SpecError(f"{whose}, of which {store.folder} has several: choose one by {keys}")
    return fitting[0]


def _unfit(job: Job, path: str, record: Record, store: Store) -> str:
    """Why a job cannot take the weights of a record for the option at `path`; "" where it can."""
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
    for name in (*VOCABULARY, "train_share", *(SIZES if path.startswith(STOOD_ON) else ())):
        if own.get(name) != its.get(name):
            return f"its settings.{name} is {its.get(name)!r}"
    return "" if (store.checkpoints(record.key) / WEIGHTS).is_file() else "its weights are gone (--force trains again)"


def _settings(job: Job) -> Mapping[str, object]:
    """As they are stored: a text model goes by what it holds."""
    return job.as_dict()["settings"]
