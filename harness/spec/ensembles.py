"""Which rows average the scores of others: two models trained apart, their score matrices added before ranking.

Nothing here executes or reads.  An ensemble is marked `*`: `sgraf*`, `vsrn*+selfalign`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.spec import registry
from harness.spec.job import Job, Model


@dataclass(frozen=True)
class Ensemble:
    """Rows that are averaged; a single row is averaged over its first `seeds` seeds."""

    name: str  # the row's label
    members: tuple[str, ...]  # labels of single rows
    seeds: int = 1
    source: str = ""  # who publishes a row of this kind

    @property
    def method(self) -> str:
        """The label without SelfAlign."""
        return self.name.partition("+")[0]


ENSEMBLES = (
    Ensemble("vsrn*", ("vsrn",), 2, "VSRN's evaluation script averages two runs"),
    Ensemble("vsrn*+selfalign", ("vsrn+selfalign",), 2, "SelfAlign's evaluation script averages two runs"),
    Ensemble("camera*", ("camera",), 2, "CAMERA's evaluation script averages two runs"),
    Ensemble("camera*+selfalign", ("camera+selfalign",), 2, "as CAMERA"),
    Ensemble("bfan*", ("bfan:equal", "bfan:prob"), source="BFAN prints equal, prob and both"),
    Ensemble("scan*", ("scan:t2i-avg", "scan:i2t-lse"), source="SCAN prints AVE + LSE, one model of each direction"),
    Ensemble("sgraf*", ("sgraf:sgr", "sgraf:saf"), source="SGRAF prints SGR, SAF and both"),
)


@dataclass(frozen=True)
class Plan:
    """One run of an ensemble: the jobs whose scores are averaged."""

    ensemble: Ensemble
    jobs: tuple[Job, ...]

    @property
    def name(self) -> str:
        """For people: `sgraf* seed 2`."""
        return self.job.name

    @property
    def members(self) -> list[str]:
        """Keys of the jobs."""
        return [job.key for job in self.jobs]

    @property
    def key(self) -> str:
        """Identity: a hash of the members' keys, the first 16 hex digits."""
        identity = json.dumps({"ensemble": self.ensemble.name, "members": self.members})
        return hashlib.sha256(identity.encode()).hexdigest()[:16]

    @property
    def family(self) -> str:
        return registry.methods()[self.jobs[0].model.method].family

    @property
    def job(self) -> Job:
        """As a record tells it: data and settings of the first member, the options of all by their hosts' labels."""
        models = [job.model for job in self.jobs]
        options: dict[str, Any] = {model.host: dict(model.options) for model in models}
        recipes = {name: recipe for model in models for name, recipe in model.recipes.items()}
        whole = Model(self.ensemble.method, options=options, selfalign=models[0].selfalign, recipes=recipes)
        return Job(self.jobs[0].data, whole, self.jobs[0].settings)


@dataclass(frozen=True)
class Planned:
    """What can be averaged once the jobs are run, and a line for each ensemble of which too little is asked for."""

    plans: tuple[Plan, ...]
    short: tuple[str, ...]

    @property
    def member_keys(self) -> frozenset[str]:
        """Jobs whose scores have to be kept."""
        return frozenset(key for plan in self.plans for key in plan.members)


def plan(jobs: Sequence[Job]) -> Planned:
    """The ensembles of these jobs: those whose rows are all among them, seed by seed.  Arms do not count."""
    rows: dict[str, dict[int, Job]] = {}
    for job in (job for job in jobs if not job.arm):
        rows.setdefault(job.model.label, {})[job.settings.seed] = job
    plans: list[Plan] = []
    short: list[str] = []
    for ensemble in ENSEMBLES:
        members = [rows[label] for label in ensemble.members if label in rows]
        if len(members) < len(ensemble.members):
            continue
        found = _runs(ensemble, members)
        plans += [Plan(ensemble, run) for run in found]
        if not found:
            short.append(f"{ensemble.name}: {_too_few(ensemble, members)}")
    return Planned(tuple(plans), tuple(short))


def _runs(ensemble: Ensemble, members: Sequence[Mapping[int, Job]]) -> list[tuple[Job, ...]]:
    """Jobs to average: one per row for every seed that all rows have, or several seeds of the one row."""
    if ensemble.seeds == 1:
        shared = [seed for seed in members[0] if all(seed in row for row in members)]
        return [tuple(row[seed] for row in members) for seed in shared]
    first = tuple(members[0].values())[: ensemble.seeds]
    return [first] if len(first) == ensemble.seeds else []


def _too_few(ensemble: Ensemble, members: Sequence[Mapping[int, Job]]) -> str:
    if ensemble.seeds > 1:
        return f"needs {ensemble.seeds} seeds of {ensemble.members[0]}, {len(members[0])} asked for"
    return f"{' and '.join(ensemble.members)} share no seed"


def chosen(labels: Sequence[str]) -> tuple[Ensemble, ...]:
    """Those whose rows are all among these labels."""
    return tuple(ensemble for ensemble in ENSEMBLES if set(ensemble.members) <= set(labels))
