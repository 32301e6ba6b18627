"""Rows of a table: the runs of one model under one set of settings, by seed, and what tells them from one another."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from harness.measure.estimates import even_owners
from harness.record import CostRecord
from harness.report.read.nested import differing, flatten
from harness.report.read.runs import Run, shared_settings
from harness.report.read.tuning import UNTUNED, Tuning
from harness.spec import registry
from harness.spec.given import FAMILY
from harness.spec.job import Model


@dataclass(frozen=True)
class Row:
    """One line of a table: runs of one model, by seed; none where every run is left out."""

    name: str  # the label, with the options that tell it from another row of that label
    model: Model
    family: str
    runs: tuple[Run, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)  # its own, where rows do not share all settings
    tuning: Tuning = UNTUNED  # whose settings it has

    @property
    def is_floor(self) -> bool:
        """Whether it is the floor that the others must beat: beside them, never ranked among them."""
        return registry.floor(self.model.method)

    @property
    def is_scale(self) -> bool:
        """Whether it only shows what is little and what is much, the floor included: never ranked among the others."""
        return self.is_floor or self.family == "scale"

    @property
    def is_ensemble(self) -> bool:
        """Whether its scores are the mean of those of several models: never ranked among single ones."""
        return any(run.record.members for run in self.runs)

    @property
    def is_settled(self) -> bool:
        """Whether it has the settings its own trials chose, or trains nothing: ranked among others of that kind."""
        return self.tuning.settled or (bool(self.runs) and all(run.record.parameters == 0 for run in self.runs))

    @property
    def is_given(self) -> bool:
        """Whether it came as files (`harness.spec.given`): beside the others, never ranked as trained like them."""
        return bool(self.model.given)

    @property
    def is_pretrained(self) -> bool:
        """Whether it stands on a model that nobody here trained: never ranked among those that start from nothing."""
        return bool(self.model.pretrained)

    @property
    def is_elsewhere(self) -> bool:
        """Whether it was trained elsewhere, from files or a pretrained model: no claim is made of it."""
        return self.is_given or self.is_pretrained

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


def owners(runs: Sequence[Run]) -> np.ndarray | None:
    """(M,) the image of each caption that runs on the same queries rank, by the first that tells.

    Older ones do not: then every image has equally many captions, or None where that cannot be.
    """
    stored = (run.usable_ranks.caption_to_image for run in runs)
    if (found := next((each for each in stored if each is not None), None)) is not None or not runs:
        return found
    images, captions = (len(ranks) for ranks in (runs[0].usable_ranks.i2t, runs[0].usable_ranks.t2i))
    return None if captions % images else even_owners(images, captions)


def rows_of(runs: Sequence[Run], told_by: Sequence[str] = (), tuning: Mapping[str, Tuning] | None = None) -> list[Row]:
    """Runs that share a table as its rows: chance, then independent hosts each followed by its SelfAlign row, then
    interactive ones, then those from files.

    told_by: names of settings that are not shared.  tuning: key of a run -> whose settings it has.
    """
    usable = [run for run in runs if not run.problem]
    models = {json.dumps([_written(run.job.model), shared_settings(run)], sort_keys=True): run for run in usable}
    shown = {run.job.model.label for run in usable}
    # a label of which nothing can be used keeps a line of dashes
    hollow = {run.job.model.label: run for run in runs if run.job.model.label not in shown}
    rows = [
        *(
            Row(
                _name(run, list(models.values()), tuning or {}),
                run.job.model,
                run.record.family,
                _members(run, usable),
                {} if run.job.model.given else {name: shared_settings(run).get(name) for name in told_by},
                (tuning or {}).get(run.record.key, UNTUNED),
            )
            for run in models.values()
        ),
        *(Row(label, run.job.model, run.record.family, ()) for label, run in hollow.items()),
    ]
    return sorted(rows, key=_place)


def _members(run: Run, runs: Sequence[Run]) -> tuple[Run, ...]:
    return tuple(
        other for other in runs if other.job.model == run.job.model and shared_settings(other) == shared_settings(run)
    )


def _name(run: Run, models: Sequence[Run], tuning: Mapping[str, Tuning]) -> str:
    """The label; where several rows of a group share it, with the options and settings in which they differ.

    What an option usually is goes without saying, but for one that names another row, as a teacher does; so does all
    of the one row whose settings its own trials chose.
    """
    label = run.job.model.label
    same = [other for other in models if other.job.model.label == label]
    told = [(other, tuning.get(other.record.key, UNTUNED)) for other in same]
    if [id(other) for other, whose in told if whose.how == "own" and not whose.is_arm] == [id(run)]:
        return label
    flats = {id(other): flatten(_written(other.job.model) | {"settings": shared_settings(other)}) for other in same}
    own = flats[id(run)]
    usual = flatten(_written(registry.model(label))) if registry.is_row(label) else {}  # none of an ensemble
    naming = {_flattened(path) for other in same for path in other.job.model.taken}
    names = [
        name
        for name in differing(list(flats.values()))
        if name in naming or name not in usual or own.get(name) != usual[name]
    ]
    told_by = [f"{name.partition('.')[2] or name}={own.get(name)}" for name in names]
    if run.job.model.given:  # the mark of such rows, wherever a name stands
        file = f"file={run.job.model.given[:8]}"
        told_by = [FAMILY, *(file if word.startswith("given=") else word for word in told_by)]
    return label + (f" ({', '.join(told_by)})" if told_by else "")


def _flattened(path: str) -> str:
    """What an option's path, as `taken` has it, is called in a flattened model."""
    section, _, name = path.partition(".")
    return f"options.{name}" if section == "model" else f"modules.{path}"


def _written(model: Model) -> dict[str, Any]:
    """Without whose weights it takes, which differ from seed to seed."""
    return asdict(replace(model, taken={}))


def _place(row: Row) -> tuple:
    of_family = (row.is_given, row.is_pretrained, row.family != "independent")
    host = (row.model.host, row.model.selfalign is not None)
    return (not row.is_floor, not row.is_scale, *of_family, *host, row.name)
