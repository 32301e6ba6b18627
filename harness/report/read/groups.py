"""A results folder as comparable groups of rows: which records may stand in one table, and which in none.

Records share a table only where their data and settings are equal but for the seed (in a folder of suite `paper`, whose
rows have the settings they were published with, where their data are).  Runs of one model that differ in
the seed alone make a row.  What failed, is stale or lacks its ranks is kept apart with the reason.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from harness.record import CostRecord, RecordError, RerankRecord, Store
from harness.report.read.nested import differing, flatten
from harness.report.read.runs import Run, conditions, read, shared_settings
from harness.spec import registry
from harness.spec.job import Model

OWN_SETTINGS = "paper-"  # folders of suite `paper` begin so: their rows do not share settings


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
        by_group.setdefault(json.dumps(conditions(run, own), sort_keys=True), []).append(run)
    flats = [flatten(conditions(members[0], own)) for members in by_group.values()]
    told_by = differing(flats)
    pairs = Store(folder).reranks()
    groups = [
        _with_reranks(_group(members, {name: flat.get(name) for name in told_by}, own), pairs)
        for members, flat in zip(by_group.values(), flats, strict=True)
    ]
    return sorted(groups, key=lambda group: [_order(value) for value in group.differs.values()])


def _group(runs: Sequence[Run], differs: Mapping[str, Any], own_settings: bool) -> Group:
    runs = _without_twins(runs)
    usable = [run for run in runs if not run.problem]
    _check_lengths(usable)
    told_by = differing([shared_settings(run) for run in runs])  # nothing, but where rows have settings of their own
    models = {json.dumps([asdict(run.job.model), shared_settings(run)], sort_keys=True): run for run in usable}
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
                {name: shared_settings(run)[name] for name in told_by},
            )
            for run in models.values()
        ),
        *(Row(label, run.job.model, run.record.family, ()) for label, run in hollow.items()),
    ]
    return Group(
        data=conditions(runs[0])["data"],
        settings={name: value for name, value in shared_settings(runs[0]).items() if name not in told_by},
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
    return tuple(
        other for other in runs if other.job.model == run.job.model and shared_settings(other) == shared_settings(run)
    )


def _name(run: Run, models: Sequence[Run]) -> str:
    """The label; where several rows of a group share it, with the options and settings in which they differ.

    What an option or a setting usually is goes without saying.
    """
    label = run.job.model.label
    same = [other for other in models if other.job.model.label == label]
    flats = {id(other): flatten(asdict(other.job.model) | {"settings": shared_settings(other)}) for other in same}
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
