"""The runs of a results folder: every record with what is stored beside it, and why it may not count."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from harness import schema
from harness.measure import metrics
from harness.record import CostRecord, Gallery, IndexRecord, Ranks, Record, RecordError
from harness.spec import registry
from harness.spec.job import Data, Job, Model, Settings
from harness.store import Store


@dataclass(frozen=True)
class Run:
    """One record with what is stored beside it."""

    record: Record
    job: Job
    ranks: Ranks | None
    cost: CostRecord | None
    problem: str = ""  # why no table averages it in; "" = one may
    index: IndexRecord | None = None  # approximate search over what it retrieves from

    @property
    def seed(self) -> int:
        return self.job.settings.seed

    @cached_property
    def accuracy(self) -> Mapping[str, float]:
        """`metrics.summary` of the whole gallery, and `<group>_r1` of each group of captions that is not empty."""
        ranks = self.usable_ranks
        groups = {
            f"{name}_r1": metrics.recall_at(ranks.t2i[mask], 1) for name, mask in ranks.groups.items() if mask.any()
        }
        return metrics.summary(ranks.i2t, ranks.t2i) | groups

    @cached_property
    def fold_accuracy(self) -> Mapping[str, float]:
        """`metrics.fold_summary`, empty where there are no folds."""
        ranks = self.usable_ranks
        if not len(ranks.fold_i2t):
            return {}
        return metrics.fold_summary(ranks.fold_i2t, ranks.fold_t2i, ranks.fold_of_image, ranks.fold_of_caption)

    @property
    def usable_ranks(self) -> Ranks:
        """Raises ValueError where there are none."""
        if self.ranks is None:
            raise ValueError(f"{self.job.name} has no ranks")
        return self.ranks


def read(folder: Path) -> list[Run]:
    """Every record of a folder, ordered by label and seed.  Raises RecordError."""
    if not folder.is_dir():
        raise RecordError(f"{folder} is not a folder")
    store = Store(folder)
    runs = [_run(store, path.stem) for path in sorted((folder / "records").glob("[!.]*.json"))]
    if not runs:
        raise RecordError(f"{folder} holds no records (records/*.json)")
    runs = [replace(run, cost=ensemble_cost(run, runs)) if run.record.members else run for run in runs]
    return sorted(runs, key=lambda run: (run.record.label, run.seed, run.record.key))


def _run(store: Store, key: str) -> Run:
    record, cost, ranks = store.record(key), store.cost(key), store.ranks(key)
    if record is None:
        raise RecordError(f"{store.folder.name}/records/{key}.json is gone")
    with _trusted(f"{store.folder.name}/records/{key}.json"):
        job = _job(record)
    if cost is not None and cost.label != record.label:
        raise RecordError(f"{store.folder.name}/costs/{key}.json: label must be {record.label}, got {cost.label}")
    index = store.index(key)
    if index is not None and index.label != record.label:
        raise RecordError(f"{store.folder.name}/indexes/{key}.json: label must be {record.label}, got {index.label}")
    if ranks is not None:
        _check_counts(record, job, ranks, f"{store.folder.name}/ranks/{key}.npz")
    return Run(record, job, ranks, cost, _problem(record, job, ranks), index)


def _job(record: Record) -> Job:
    """Raises ValueError naming a field, or SpecError, where the stored job cannot be, or the label is not its own."""
    for part, cls in (("data", Data), ("model", Model), ("settings", Settings)):
        if why := schema.problem(cls, record.job[part]):
            raise ValueError(f"job.{part}.{why}")
    if not isinstance(record.job.get("weights", ""), str):
        raise ValueError("job.weights must be a str")
    job = Job.from_dict(record.job)
    if not record.members and record.label != job.model.label:
        raise ValueError(f"label must be that of its job, {job.model.label}, got {record.label}")
    return job


def _check_counts(record: Record, job: Job, ranks: Ranks, where: str) -> None:
    """As many queries as the record counts in the ranked split, and some.  Raises RecordError."""
    if not (ranks.i2t.size and ranks.t2i.size):
        raise RecordError(f"{where} holds no ranks")
    counts = record.data.get(job.data.ranked, {})
    for name, found in (("images", len(ranks.i2t)), ("captions", len(ranks.t2i))):
        known = counts.get(name, found) if isinstance(counts, Mapping) else None
        if known != found:
            raise RecordError(f"{where} ranks {found} {name}, its record counts {known!a:.60}")


@contextmanager
def _trusted(where: str) -> Iterator[None]:
    try:
        yield
    except RecordError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RecordError(f"{where} cannot be read: {type(error).__name__}: {' '.join(str(error).split())}") from None


def _problem(record: Record, job: Job, ranks: Ranks | None) -> str:
    if record.status == "failed":
        return f"failed: {record.error or 'no reason stored'}"
    if not registry.current(job.model):
        made_by = ", ".join(f"{name} {recipe}" for name, recipe in sorted(job.model.recipes.items()))
        return f"stale: made by recipe {made_by}, which has changed since"
    return "" if ranks is not None else "its ranks are missing"


def conditions(run: Run, own: Collection[str] = ()) -> dict[str, dict[str, Any]]:
    """Data and settings of a run, without what may differ between the rows of a table.

    own: names of settings that rows have for themselves.
    """
    settings = {name: value for name, value in shared_settings(run).items() if name not in own}
    return {"data": run.job.as_dict()["data"], "settings": settings}


def shared_settings(run: Run) -> dict[str, Any]:
    """All but the seed, and the threads a job was given: those are told record by record."""
    settings = run.job.as_dict()["settings"]
    del settings["seed"], settings["threads"]
    return settings


def ensemble_cost(run: Run, runs: Sequence[Run]) -> CostRecord | None:
    """What an ensemble takes: every member encodes and scores, then their mean is ranked once.

    A member that was not timed itself takes what another seed of its row does.  Turns are added up as far as all of
    them go.  None where a member has no samples or members were not timed alike.
    """
    by_key = {other.record.key: other for other in runs}
    costs = [_cost_of_row(by_key[key], runs) if key in by_key else None for key in run.record.members]
    found = [cost for cost in costs if cost is not None]
    alike = {json.dumps([c.machine, c.sizes, sorted(c.samples_s)], sort_keys=True) for c in found}
    if len(found) < len(costs) or len(alike) != 1:
        return None
    samples = {
        stage: list(first)
        if stage == "rank"
        else [sum(turn) for turn in zip(*(c.samples_s[stage] for c in found), strict=False)]
        for stage, first in found[0].samples_s.items()
    }
    return replace(
        found[0],
        key=run.record.key,
        label=run.record.label,
        samples_s=samples,
        index_bytes_per_image=sum(c.index_bytes_per_image for c in found),
        index_bytes_per_caption=sum(c.index_bytes_per_caption for c in found),
        query_encode_ms=[sum(turn) for turn in zip(*(c.query_encode_ms for c in found), strict=False)],
        galleries=[
            _together(entries)
            for entries in zip(*(c.galleries for c in found), strict=False)
            if len({entry["items"] for entry in entries}) == 1
        ],
        law={},
        noise={},
        flops={
            what: sum(cost.flops[what] for cost in found)
            for what in found[0].flops
            if all(what in cost.flops for cost in found)
        },
        peak_memory_mib=None,  # of one process, in which members follow one another
    )


def _together(entries: Sequence[Gallery]) -> Gallery:
    """One query of all members, query by query where each was timed: all encode and search, their mean is ranked."""
    first, stages = entries[0], [entry.get("stages_ms") for entry in entries]
    found: Gallery = {
        **first,
        **{f"p{p}_ms": sum(entry[f"p{p}_ms"] for entry in entries) for p in (50, 95, 99)},  # type: ignore[typeddict-item]
        "measured": all(entry["measured"] for entry in entries),
        "note": "; ".join(dict.fromkeys(entry["note"] for entry in entries if entry["note"])),
        "limit_ms": None,
        "bytes": sum(entry.get("bytes") or 0 for entry in entries) or None,
        "build_samples_s": [
            sum(turn) for turn in zip(*(entry.get("build_samples_s") or [] for entry in entries), strict=False)
        ],
    }
    if any(samples is None for samples in stages):
        found.pop("stages_ms", None)
        return found
    known = [samples for samples in stages if samples is not None]
    found["stages_ms"] = {
        stage: list(first_ms)
        if stage == "rank"
        else [sum(query) for query in zip(*(samples[stage] for samples in known), strict=False)]
        for stage, first_ms in known[0].items()
    }
    shortest = min(map(len, found["stages_ms"].values()), default=0)
    found["stages_ms"] = {stage: samples[:shortest] for stage, samples in found["stages_ms"].items()}
    return found


def _cost_of_row(member: Run, runs: Sequence[Run]) -> CostRecord | None:
    """Its own samples, else those of a run that differs in the seed alone."""
    if member.cost is not None:
        return member.cost
    alike = [run for run in runs if run.job.model == member.job.model and conditions(run) == conditions(member)]
    return next((run.cost for run in alike if run.cost is not None), None)
