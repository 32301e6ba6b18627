"""A results folder as comparable groups of rows: which records may stand in one table, and which in none.

Records share a table only where their data and settings are equal but for the seed (in a folder of suite `paper`, whose
rows have the settings they were published with, where their data are).  Runs of one model that differ in
the seed alone make a row.  What failed, is stale or lacks its ranks is kept apart with the reason.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from harness.jobs import registry
from harness.jobs.spec import Job, Model
from harness.measure import metrics
from harness.record import CostRecord, Ranks, Record, RecordError, RerankRecord, Store

OWN_SETTINGS = "paper-"  # folders of suite `paper` begin so: their rows do not share settings


@dataclass(frozen=True)
class Run:
    """One record with what is stored beside it."""

    record: Record
    job: Job
    ranks: Ranks | None
    cost: CostRecord | None
    problem: str = ""  # why no table averages it in; "" = one may

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


@dataclass(frozen=True)
class Row:
    """One line of a table: runs of one model, by seed; none where every run is left out."""

    name: str  # the label, with the options that tell it from another row of that label
    model: Model
    family: str
    runs: tuple[Run, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)  # its own, where rows do not share all settings

    @property
    def is_chance(self) -> bool:
        return self.model.method == "chance"

    @property
    def is_ensemble(self) -> bool:
        """Whether its scores are the mean of those of several models: never ranked among single ones."""
        return any(run.record.members for run in self.runs)

    @property
    def rsums(self) -> Mapping[int, float]:
        """Seed -> Rsum."""
        return {run.seed: run.accuracy["rsum"] for run in self.runs}

    @property
    def cost(self) -> CostRecord | None:
        """Of the first seed that was timed."""
        return next((run.cost for run in self.runs if run.cost is not None), None)

    def ranks(self, seeds: Sequence[int] | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Ranks of both directions, (S, N) and (S, M), of all seeds or of some."""
        chosen = [run.usable_ranks for run in self.runs if seeds is None or run.seed in seeds]
        return np.stack([r.i2t for r in chosen]), np.stack([r.t2i for r in chosen])


@dataclass(frozen=True)
class Group:
    """Records that one table may hold."""

    data: Mapping[str, Any]
    settings: Mapping[str, Any]  # those that all rows share, without the seed
    rows: tuple[Row, ...]  # chance, then independent hosts each followed by its SelfAlign row, then interactive
    left_out: tuple[Run, ...]
    differs: Mapping[str, Any]  # the settings that tell this group from the others of its folder
    own_settings: bool = False  # every row as its paper has it: not one shared setting
    arms: tuple[Row, ...] = ()  # rows that only answer an ablation, shown there and not in the comparison
    reranks: tuple[RerankRecord, ...] = ()  # pairs of runs of this group, in the order of its rows, by their names

    @property
    def runs(self) -> list[Run]:
        return [run for row in (*self.rows, *self.arms) for run in row.runs]


def collect(folder: Path) -> list[Group]:
    """Everything stored in a folder.  Raises RecordError where it holds no records or one that cannot be trusted."""
    runs = read(folder)
    own = folder.resolve().name.startswith(OWN_SETTINGS)
    by_group: dict[str, list[Run]] = {}
    for run in runs:
        by_group.setdefault(json.dumps(_conditions(run, own), sort_keys=True), []).append(run)
    conditions = [flatten(_conditions(members[0], own)) for members in by_group.values()]
    told_by = differing(conditions)
    pairs = Store(folder).reranks()
    groups = [
        _with_reranks(_group(members, {name: flat.get(name) for name in told_by}, own), pairs)
        for members, flat in zip(by_group.values(), conditions, strict=True)
    ]
    return sorted(groups, key=lambda group: [_order(value) for value in group.differs.values()])


def read(folder: Path) -> list[Run]:
    """Every record of a folder, ordered by label and seed.  Raises RecordError."""
    if not folder.is_dir():
        raise RecordError(f"{folder} is not a folder")
    store = Store(folder)
    runs = [_run(store, path.stem) for path in sorted((folder / "records").glob("*.json"))]
    if not runs:
        raise RecordError(f"{folder} holds no records (records/*.json)")
    runs = [replace(run, cost=ensemble_cost(run, runs)) if run.record.members else run for run in runs]
    return sorted(runs, key=lambda run: (run.record.label, run.seed, run.record.key))


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
    )


def _cost_of_row(member: Run, runs: Sequence[Run]) -> CostRecord | None:
    """Its own samples, else those of a run that differs in the seed alone."""
    if member.cost is not None:
        return member.cost
    alike = [run for run in runs if run.job.model == member.job.model and _conditions(run) == _conditions(member)]
    return next((run.cost for run in alike if run.cost is not None), None)


def ranks_of(store: Store, key: str) -> Ranks | None:
    """The stored ranks, None where there are none.  Raises RecordError also where the file is damaged inside."""
    path, where = store.ranks_path(key), f"{store.folder.name}/ranks/{key}.npz"
    if path.exists() and not zipfile.is_zipfile(path):  # numpy would leave such a file open
        raise RecordError(f"{where} is cut short or no npz file")
    with _trusted(where):
        return store.ranks(key)


def flatten(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}"""
    flat: dict[str, Any] = {}
    for name, value in nested.items():
        flat |= flatten(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat


def differing(flats: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names whose values are not the same everywhere, sorted."""
    names = sorted({name for flat in flats for name in flat})
    return [name for name in names if any(name not in flat or flat[name] != flats[0].get(name) for flat in flats)]


def _run(store: Store, key: str) -> Run:
    with _trusted(f"{store.folder.name}/records/{key}.json"):
        record = store.record(key)
        if record is None or record.key != key:
            raise ValueError(f"holds the record {record.key if record else None!r}")
        job = Job.from_dict(record.job)
    with _trusted(f"{store.folder.name}/costs/{key}.json"):
        cost = store.cost(key)
    ranks = ranks_of(store, key)
    if ranks is not None and not (ranks.i2t.size and ranks.t2i.size):
        raise RecordError(f"{store.folder.name}/ranks/{key}.npz holds no ranks")
    return Run(record, job, ranks, cost, _problem(record, job, ranks))


@contextmanager
def _trusted(where: str) -> Iterator[None]:
    try:
        yield
    except RecordError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        raise RecordError(f"{where} cannot be read: {type(error).__name__}: {' '.join(str(error).split())}") from None


def _problem(record: Record, job: Job, ranks: Ranks | None) -> str:
    if record.status == "failed":
        return f"failed: {record.error or 'no reason stored'}"
    if not registry.current(job.model):
        made_by = ", ".join(f"{name} {recipe}" for name, recipe in sorted(job.model.recipes.items()))
        return f"stale: made by recipe {made_by}, which has changed since"
    return "" if ranks is not None else "its ranks are missing"


def _conditions(run: Run, own_settings: bool = False) -> dict[str, dict[str, Any]]:
    """Data and settings of a run, without what may differ between the rows of a table."""
    return {"data": run.job.as_dict()["data"], "settings": {} if own_settings else _settings(run)}


def _settings(run: Run) -> dict[str, Any]:
    """All but the seed, and the threads a job was given: those are told record by record."""
    settings = run.job.as_dict()["settings"]
    del settings["seed"], settings["threads"]
    return settings


def _group(runs: Sequence[Run], differs: Mapping[str, Any], own_settings: bool) -> Group:
    runs = _without_twins(runs)
    usable = [run for run in runs if not run.problem]
    _check_lengths(usable)
    told_by = differing([_settings(run) for run in runs])  # nothing, but where rows have settings of their own
    models = {json.dumps([asdict(run.job.model), _settings(run)], sort_keys=True): run for run in usable}
    shown = {run.job.model.label for run in usable}
    # a label of which nothing can be used keeps a line of dashes
    hollow = {run.job.model.label: run for run in runs if run.job.model.label not in shown}
    rows = [
        *(
            Row(
                _name(run, list(models.values())),
                run.job.model,
                run.record.family,
                _members(run, usable),
                {name: _settings(run)[name] for name in told_by},
            )
            for run in models.values()
        ),
        *(Row(label, run.job.model, run.record.family, ()) for label, run in hollow.items()),
    ]
    return Group(
        data=_conditions(runs[0])["data"],
        settings={name: value for name, value in _settings(runs[0]).items() if name not in told_by},
        rows=tuple(sorted(rows, key=_place)),
        left_out=tuple(run for run in runs if run.problem),
        differs=differs,
        own_settings=own_settings,
    )


def _with_reranks(group: Group, pairs: Sequence[RerankRecord]) -> Group:
    """The group with the pairs whose two runs it has."""
    place = {run.record.key: (number, run.seed) for number, row in enumerate(group.rows) for run in row.runs}
    found = []
    for pair in pairs:
        first, _, second = pair.key.partition("-")
        if first in place and second in place:
            names = [group.rows[place[key][0]].name for key in (first, second)]
            found.append((place[first], place[second], replace(pair, retriever=names[0], reranker=names[1])))
    return replace(group, reranks=tuple(pair for *_, pair in sorted(found, key=lambda item: item[:2])))


def _without_twins(runs: Sequence[Run]) -> list[Run]:
    """A job may be stored under today's key and under one from before a setting was added: only one may count."""
    kept: list[Run] = []
    for run in sorted(runs, key=lambda r: r.record.key != r.job.key):
        twin = any(run.job == other.job and not other.problem for other in kept)
        kept.append(replace(run, problem="stored a second time under another key") if twin and not run.problem else run)
    return sorted(kept, key=lambda r: (r.record.label, r.seed, r.record.key))


def _check_lengths(runs: Sequence[Run]) -> None:
    """Equal data have equal queries.  Raises RecordError."""
    shapes = {run.record.key: (len(run.usable_ranks.i2t), len(run.usable_ranks.t2i)) for run in runs}
    for key, shape in shapes.items():
        if shape != (first := next(iter(shapes.values()))):
            raise RecordError(
                f"ranks/{key}.npz has {shape[0]} + {shape[1]} queries, other records {first[0]} + {first[1]}"
            )


def _members(run: Run, runs: Sequence[Run]) -> tuple[Run, ...]:
    return tuple(other for other in runs if other.job.model == run.job.model and _settings(other) == _settings(run))


def _name(run: Run, models: Sequence[Run]) -> str:
    """The label; where several rows of a group share it, with the options and settings in which they differ.

    What an option or a setting usually is goes without saying.
    """
    label = run.job.model.label
    same = [other for other in models if other.job.model.label == label]
    flats = {id(other): flatten(asdict(other.job.model) | {"settings": _settings(other)}) for other in same}
    own = flats[id(run)]
    usual = flatten(asdict(registry.model(label))) if label in registry.labels() else {}  # none of an ensemble
    names = [name for name in differing(list(flats.values())) if name not in usual or own.get(name) != usual[name]]
    told_by = [(name.partition(".")[2] or name, own.get(name)) for name in names]
    return label + (f" ({', '.join(f'{name}={value}' for name, value in told_by)})" if told_by else "")


def _place(row: Row) -> tuple:
    return (not row.is_chance, row.family != "independent", row.model.host, row.model.selfalign is not None, row.name)


def _order(value: Any) -> tuple:
    """Numbers by size, anything else after them by its text."""
    return (0, value, "") if isinstance(value, int | float) else (1, 0, str(value))
