"""A results folder as comparable groups of rows: which records may stand in one table, and which in none.

Records share a table only where their data and settings are equal but for the seed; settings that were tuned, or in a
folder of suite `paper` published, for each row may differ too.  Runs of one model that differ in the seed alone make a
row.  What failed, is stale or lacks its ranks is kept apart with the reason.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.record import RecordError, RerankRecord
from harness.report.read.answers import Answer, answers
from harness.report.read.asked import Asked, asked, by_key
from harness.report.read.nested import differing, flatten
from harness.report.read.rows import Row, rows_of
from harness.report.read.runs import Run, conditions, read, shared_settings
from harness.spec.given import same_split
from harness.store import Store
from harness.tuned import TunedRecord


@dataclass(frozen=True)
class Group:
    """Records that one table may hold."""

    data: Mapping[str, Any]
    settings: Mapping[str, Any]  # those that all rows share, without the seed
    rows: tuple[Row, ...]  # chance, independent hosts each followed by its SelfAlign row, interactive, from files
    left_out: tuple[Run, ...]
    differs: Mapping[str, Any]  # the settings that tell this group from the others of its folder
    own_settings: bool = False  # every row as its paper has it: not one shared setting
    tuning: tuple[TunedRecord, ...] = ()  # what the settings of its rows are from, where they were tuned
    arms: tuple[Row, ...] = ()  # rows that only answer an ablation, shown there and not in the comparison
    answers: tuple[Answer, ...] = ()  # whose base is a row of this group
    reranks: tuple[RerankRecord, ...] = ()  # pairs of runs of this group, in the order of its rows, by their names

    @property
    def is_tuned(self) -> bool:
        """Whether any of its rows has settings from trials."""
        return not self.own_settings and any(row.tuning.how != "untuned" for row in self.rows)

    @property
    def runs(self) -> list[Run]:
        return [run for row in (*self.rows, *self.arms) for run in row.runs]


def collect(folder: Path) -> list[Group]:
    """Everything stored in a folder.  Raises RecordError where it holds no records or one that cannot be trusted."""
    runs, store = read(folder), Store(folder)
    wanted = asked(store, runs)
    by_group: dict[str, list[Run]] = {}
    for run in (run for run in runs if not run.job.model.given):
        by_group.setdefault(json.dumps(conditions(run, wanted.own), sort_keys=True), []).append(run)
    _join(by_group, [run for run in runs if run.job.model.given], wanted.own)
    apart = _arms_apart(by_group, wanted)
    flats = [flatten(conditions(members[0], wanted.own)) for members in by_group.values()]
    told_by = differing(flats)
    pairs, known = store.reranks(), by_key(runs)
    groups = [
        _group(members, {name: flat.get(name) for name in told_by}, wanted)
        for members, flat in zip(by_group.values(), flats, strict=True)
    ]
    told = [_with_answers(_with_reranks(group, pairs), wanted, known, apart) for group in groups]
    return sorted(told, key=lambda group: [_order(value) for value in group.differs.values()])


def _join(by_group: dict[str, list[Run]], given: Sequence[Run], own: Collection[str]) -> None:
    """Rows from files have no settings: they stand in every group that ranks their queries, else by themselves."""
    before = list(by_group.values())
    for run in given:
        groups = [members for members in before if same_split(members[0].job.data, run.job.data)]
        for members in groups:
            members.append(run)
        if not groups:
            by_group.setdefault(json.dumps(conditions(run, own), sort_keys=True), []).append(run)


def _arms_apart(by_group: dict[str, list[Run]], wanted: Asked) -> list[Run]:
    """Takes groups out that are nothing but arms, under settings of their own, unless there is no other group."""
    alone = [text for text, runs in by_group.items() if all(run.record.key in wanted.arms_alone for run in runs)]
    if len(alone) == len(by_group):
        return []
    return [run for text in alone for run in by_group.pop(text)]


def _with_answers(group: Group, wanted: Asked, known: Mapping[str, Run], apart: Sequence[Run]) -> Group:
    """With what the questions asked of its rows found, and rows that are arms alone put aside: they have tables of
    their own, and would be taken for methods in a comparison.  A group of arms alone stays as it is.

    apart: arms under settings of their own, which are in no group.
    """
    found = answers(wanted.posed, group.rows, group.left_out, known, wanted.tuning)
    aside = [row for row in group.rows if row.runs and all(r.record.key in wanted.arms_alone for r in row.runs)]
    rows = tuple(row for row in group.rows if row not in aside)
    if not rows:
        return replace(group, answers=found)
    reached = {run.record.key for answer in found for row in answer.arms.values() for run in row.runs}
    further = rows_of([run for run in apart if run.record.key in reached], tuning=wanted.tuning)
    return replace(group, rows=rows, arms=(*aside, *further), answers=found)


def _group(runs: Sequence[Run], differs: Mapping[str, Any], wanted: Asked) -> Group:
    runs = _without_twins(runs)
    _check_lengths([run for run in runs if not run.problem])
    trained = [run for run in runs if not run.job.model.given] or runs
    told_by = differing([shared_settings(run) for run in trained])  # nothing, but where rows have settings of their own
    return Group(
        data=conditions(trained[0])["data"],
        settings={
            name: value
            for name, value in shared_settings(trained[0]).items()
            if name not in told_by and not trained[0].job.model.given
        },
        rows=tuple(rows_of(runs, told_by, wanted.tuning)),
        left_out=tuple(run for run in runs if run.problem),
        differs=differs,
        own_settings=wanted.published,
        tuning=tuple(wanted.values.values()) if any(run.record.key in wanted.tuning for run in runs) else (),
    )


def _with_reranks(group: Group, pairs: Sequence[RerankRecord]) -> Group:
    """The group with the pairs whose two runs it has; of two rows the pair of the lowest seeds."""
    place = {run.record.key: (number, run.seed) for number, row in enumerate(group.rows) for run in row.runs}
    found = []
    for pair in pairs:
        first, _, second = pair.key.partition("-")
        if first in place and second in place:
            names = [group.rows[place[key][0]].name for key in (first, second)]
            found.append((place[first], place[second], replace(pair, retriever=names[0], reranker=names[1])))
    first_of: dict[tuple[int, int], RerankRecord] = {}
    for (retriever, _), (reranker, _), pair in sorted(found, key=lambda item: item[:2]):
        first_of.setdefault((retriever, reranker), pair)
    return replace(group, reranks=tuple(first_of.values()))


def _without_twins(runs: Sequence[Run]) -> list[Run]:
    """Only one of several may count: a job under today's key and under one from before a setting was added, or weights
    of a job that was trained anew."""
    kept: list[Run] = []
    for run in sorted(runs, key=lambda r: r.record.key != r.job.key):
        job = replace(run.job, weights="")
        twin = any(job == replace(other.job, weights="") and not other.problem for other in kept)
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


def _order(value: Any) -> tuple:
    """Numbers by size, anything else after them by its text."""
    return (0, value, "") if isinstance(value, int | float) else (1, 0, str(value))
