"""What the rows of a group come to: the comparison, the same over folds, and the settings they share.

Pure: a group in, sheets out.  All rounding happens where a cell becomes text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from harness.measure.intervals import Interval, mean_sd, t_interval
from harness.measure.metrics import RECALL_AT
from harness.report.formats import ABOUT, ABSENT, Sheet, decimals, interval, significant, stored, whole
from harness.report.read import of_others
from harness.report.read.described import evaluated_lines
from harness.report.read.groups import Group
from harness.report.read.nested import differing, flatten
from harness.report.read.of_others import Metric
from harness.report.read.protocols import PROTOCOLS, elsewhere_notes, ensemble_note, folds, protocol
from harness.report.read.rows import Row
from harness.report.read.runs import Run
from harness.report.read.times import (
    BATCHED,
    batch_rate,
    query_times,
    stage_ms,
    timing_conflict,
    timing_note,
    without_time,
)
from harness.report.tables import effort
from harness.report.tables.published_order import order_note

Estimate = tuple[float, float | None]  # mean and standard deviation over seeds, None where there is but one value


@dataclass(frozen=True)
class Column:
    """One figure of a row."""

    title: str
    of: Callable[[Row], Estimate | None]
    show: Callable[[float], str]
    better: Literal["higher", "lower"] | None = None  # None where more is neither
    seeded: bool = True  # a mean over seeds, not a figure of the row
    values: Callable[[Row], list[float]] | None = None  # of each seed, where their 95% interval is to be shown
    own_interval: bool = False  # in a column of the table itself, not in the CSV alone
    guessed: Callable[[Row], bool] = lambda _: False  # whether the figure of a row is extrapolated, and marked so


def comparison(group: Group) -> Sheet:
    """Accuracy over the whole gallery beside time, memory and parameters, one line a row."""
    by_others, broken = of_others.metrics(group.rows)
    accuracy = [*accuracy_columns(_accuracy), *_group_columns(group.rows), *map(_column, by_others)]
    columns = [*accuracy, *_cost_columns(group.rows), *_pretraining_columns(group.rows)]
    notes = [
        LEGEND,
        *broken,
        ensemble_note(group.rows),
        *elsewhere_notes(group.rows),
        *effort.notes(group),
        timing_conflict(group.rows) or timing_note(group.rows),
        without_time(group.rows),
        arms_note(group),
        *evaluated_lines(group),
        order_note(group),
        *left_out_lines(group),
    ]
    name = protocol(group)
    title = f"Comparison, {name}" if name in PROTOCOLS.values() or folds(group) else "Comparison"
    return _sheet(title, group, columns, [note for note in notes if note])


def summary(group: Group) -> Sheet:
    """The few columns of the comparison that answer: how accurate, how sure, how fast, how large."""
    whole_sheet = comparison(group)
    shown = [name for name in SUMMARY if name in whole_sheet.text]
    return replace(
        whole_sheet,
        title="Summary",
        text=whole_sheet.text[shown],
        flat=whole_sheet.flat[shown],
        notes=tuple(note for note in (*effort.notes(group)[-1:], arms_note(group), *left_out_lines(group)) if note),
    )


END_TO_END = "end-to-end ms/query"
RATE = "queries/s in batches"
SUMMARY = (
    "method",
    "family",
    "seeds",
    "tuning",
    "Rsum",
    "i2t R@1",
    "t2i R@1",
    END_TO_END,
    RATE,
    "encode ms/image",
    "index bytes/image",
)


def fold_comparison(group: Group) -> Sheet | None:
    """Accuracy averaged over folds of the gallery (COCO 1K); None where no record has folds."""
    if folds(group) is None:
        return None
    beside = (ensemble_note(group.rows), *elsewhere_notes(group.rows))
    notes = [LEGEND, *beside, *effort.notes(group), *left_out_lines(group)]
    title = f"Comparison, {protocol(group, folded=True)}"
    return _sheet(title, group, accuracy_columns(_fold_accuracy), [note for note in notes if note])


def sweep(groups: Sequence[Group]) -> Sheet | None:
    """Rsum of every row under every combination of settings, and its mean over rows; None for a single group.

    The mean is of the rows that all groups have, so that no combination gains by a row it alone has.
    """
    if len(groups) < 2:
        return None
    by_group = [{row.name: float(np.mean(list(row.rsums.values()))) for row in g.rows if row.runs} for g in groups]
    names = list(dict.fromkeys(name for rsums in by_group for name in rsums))
    shared = [name for name in names if all(name in rsums for rsums in by_group)]
    lines = []
    for group, rsums in zip(groups, by_group, strict=True):
        mean = float(np.mean([rsums[name] for name in shared])) if shared else None
        cells = {name: _plain(rsums.get(name), decimals(1)) for name in names} | {MEAN: _plain(mean, decimals(1))}
        lines.append({name: stored(value) for name, value in group.differs.items()} | cells)
    text = pd.DataFrame(lines, dtype=str)
    means = [float(line[MEAN]) if line[MEAN] != ABSENT else -np.inf for line in lines]
    marks = {(int(np.argmax(means)), MEAN): "best"} if shared else {}
    note = f"The mean is over the rows that every line has ({len(shared)}); one line per combination of settings."
    return Sheet("Rsum by settings", text, text, notes=(note,), marks=marks, names=len(groups[0].differs))


MEAN = "mean"


def conditions(group: Group) -> Sheet:
    """Settings, data and provenance that all records of a group share, as stored."""
    shared, _ = _records(group)
    text = pd.DataFrame({"what": list(shared), "value": [stored(value) for value in shared.values()]}, dtype=str)
    return Sheet("Shared by all records", text, text, names=2)


def provenance(group: Group) -> Sheet:
    """What differs from record to record: key, outcome, when and from what it was made."""
    _, own = _records(group)
    text = pd.DataFrame(own, dtype=str)
    return Sheet("Record by record", text, text, names=text.shape[1])


LEGEND = (
    "Recall at K and Rsum (the sum of the six recalls) in percent, median and mean rank from 1; "
    "mean ± standard deviation (n - 1) over seeds, 95% interval of the mean by Student's t over seeds. "
    f"The best and the second best of a column are marked, chance aside; {ABSENT} is a figure that is not there."
)


def accuracy_columns(values: Callable[[str], Callable[[Row], list[float]]]) -> list[Column]:
    """Both directions of recall, Rsum, median and mean rank.  `values`: name of a metric -> its value of each seed."""

    def of(metric: str) -> Callable[[Row], Estimate | None]:
        return lambda row: mean_sd(found) if (found := values(metric)(row)) else None

    recalls = [
        Column(f"{way} R@{k}", of(f"{way}_r{k}"), decimals(1), "higher", values=values(f"{way}_r{k}"))
        for way in ("i2t", "t2i")
        for k in RECALL_AT
    ]
    places = [
        Column(f"{way} {title}", of(f"{way}_{title.lower()}"), decimals(1), "lower")
        for way in ("i2t", "t2i")
        for title in ("MedR", "MeanR")
    ]
    rsum = Column("Rsum", of("rsum"), decimals(1), "higher", values=values("rsum"), own_interval=True)
    return [*recalls, rsum, *places]


def _accuracy(metric: str) -> Callable[[Row], list[float]]:
    return lambda row: [run.accuracy[metric] for run in row.runs if metric in run.accuracy]


def _fold_accuracy(metric: str) -> Callable[[Row], list[float]]:
    return lambda row: [run.fold_accuracy[metric] for run in row.runs if metric in run.fold_accuracy]


def _group_columns(rows: Sequence[Row]) -> list[Column]:
    """t2i R@1 of every named subset of caption queries."""
    names = sorted({name for row in rows for run in row.runs if run.ranks for name in run.ranks.groups})

    def of(name: str) -> Callable[[Row], Estimate | None]:
        return lambda row: mean_sd(found) if (found := _accuracy(f"{name}_r1")(row)) else None

    return [Column(f"{name} R@1", of(name), decimals(1), "higher") for name in names]


def _column(metric: Metric) -> Column:
    """A metric of an installed package."""

    def of(row: Row) -> Estimate | None:
        return mean_sd(found) if (found := metric.values(row)) else None

    return Column(metric.name, of, significant, metric.better)


def _cost_columns(rows: Sequence[Row]) -> list[Column]:
    """The time of a query first, as its user waits for it; then in batches, and stage by stage."""
    ends, timed = query_times(rows), not timing_conflict(rows)

    def end_to_end(row: Row) -> Estimate | None:
        return _figure(ends[row.name].ms if row.name in ends else None)

    def guessed(row: Row) -> bool:
        return row.name in ends and not ends[row.name].measured

    def rate(row: Row) -> Estimate | None:
        return _figure(batch_rate(row.cost) if timed else None)

    def time(title: str, stages: Sequence[str], per: str) -> Column:
        def figure(row: Row) -> Estimate | None:
            return _figure(stage_ms(row.cost, stages, per) if timed else None)

        return Column(title, figure, significant, "lower", seeded=False)

    def index_bytes(row: Row) -> Estimate | None:
        return _figure(row.cost and row.cost.index_bytes_per_image)

    def parameters(row: Row) -> Estimate | None:
        record = row.runs[0].record if row.runs else None
        frozen = record.pretraining["parameters"] if record and record.pretraining else 0
        return _figure(None if record is None or record.parameters is None else record.parameters + frozen)

    return [
        Column(END_TO_END, end_to_end, significant, "lower", seeded=False, guessed=guessed),
        Column(RATE, rate, significant, "higher", seeded=False),
        time("encode ms/image", ["encode_images"], "images"),
        time("encode ms/caption", ["encode_texts"], "captions"),
        time("score+rank ms/query", BATCHED, "queries"),
        Column("index bytes/image", index_bytes, whole, "lower", seeded=False),
        Column("parameters", parameters, whole, seeded=False),
    ]


def _pretraining_columns(rows: Sequence[Row]) -> list[Column]:
    """On how many pairs of image and text a row was trained before it came here, where any row was."""
    if not any(row.is_pretrained for row in rows):
        return []

    def pairs(row: Row) -> Estimate | None:
        if not row.is_pretrained:
            return None if row.is_floor or row.model.origin else (0, None)  # a plugin's nobody knows
        told = next((run.record.pretraining for run in row.runs if run.record.pretraining), None)
        return _figure(told and told["pairs"])

    return [Column("pre-training pairs", pairs, whole, seeded=False)]


def _figure(value: float | None) -> Estimate | None:
    return None if value is None else (value, None)


def arms_note(group: Group) -> str:
    names = ", ".join(row.name for row in group.arms)
    return f"In the tables of ablations alone: {names}." if names else ""


def left_out_lines(group: Group) -> list[str]:
    """What no table averages in, and why."""
    return [f"Left out: {run.job.name} ({run.record.key}), {run.problem}" for run in group.left_out]


def _sheet(title: str, group: Group, columns: Sequence[Column], notes: Sequence[str]) -> Sheet:
    names = {
        "method": [row.name for row in group.rows],
        "family": [row.family for row in group.rows],
        "seeds": [str(len(row.runs) or ABSENT) for row in group.rows],
    }
    if group.own_settings:
        names["settings"] = [_own_settings(row) for row in group.rows]
    names |= effort.columns(group)
    estimates = {column.title: [column.of(row) for row in group.rows] for column in columns}
    text: dict[str, list[str]] = {}
    for column in columns:
        text[column.title] = [
            (ABOUT if column.guessed(row) else "") + _text(estimate, column.show)
            for row, estimate in zip(group.rows, estimates[column.title], strict=True)
        ]
        if column.own_interval:
            text[f"{column.title} 95%"] = [interval(_interval(column, row)) for row in group.rows]
    flat: dict[str, list[str]] = {
        name: [stored(value)] * len(group.rows) for name, value in group.differs.items()
    } | names
    for column in columns:
        means, sds = zip(*(estimate or (None, None) for estimate in estimates[column.title]), strict=True)
        flat[column.title] = [_plain(mean, column.show) for mean in means]
        if column.seeded:
            flat[f"{column.title} sd"] = [_plain(sd, column.show) for sd in sds]
        if column.values is not None:
            bounds = [_interval(column, row) or (None, None) for row in group.rows]
            for place, end in enumerate(("low", "high")):
                flat[f"{column.title} {end}"] = [_plain(pair[place], column.show) for pair in bounds]
    return Sheet(
        title=title,
        text=pd.DataFrame(names | text, dtype=str),
        flat=pd.DataFrame(flat, dtype=str),
        notes=tuple(notes),
        marks=best_marks(group.rows, columns, estimates),
        names=len(names),
        better={column.title: column.better for column in columns if column.better},
    )


def _interval(column: Column, row: Row) -> Interval | None:
    return t_interval(column.values(row)) if column.values is not None else None


def _own_settings(row: Row) -> str:
    """`lr 0.0002; epochs 30` of the settings in which rows differ."""
    if row.is_ensemble:
        return "as its members"
    if row.is_given:
        return ABSENT
    return "; ".join(f"{name} {stored(value)}" for name, value in row.settings.items()) or ABSENT


def _text(estimate: Estimate | None, show: Callable[[float], str]) -> str:
    """`29.3 ± 0.4`, `29.3` for one seed."""
    if estimate is None:
        return ABSENT
    mean, sd = estimate
    return show(mean) if sd is None else f"{show(mean)} ± {show(sd)}"


def _plain(value: float | None, show: Callable[[float], str]) -> str:
    return ABSENT if value is None else show(value).replace(",", "")


def best_marks(
    rows: Sequence[Row], columns: Sequence[Column], estimates: Mapping[str, Sequence[Estimate | None]]
) -> dict[tuple[int, str], str]:
    """Best and second best of a column as shown: what reads the same is marked the same, and nothing where all do.

    Single runs and ensembles are never in one ranking, nor is the accuracy of tuned rows and of untuned ones;
    pretrained rows have one of their own, rows from files none.
    """
    marks = {}
    for column, ranking in ((column, kind) for column in columns for kind in {_ranking(row, column) for row in rows}):
        found = {
            place: float(_plain(estimate[0], column.show))
            for place, (row, estimate) in enumerate(zip(rows, estimates[column.title], strict=True))
            if estimate is not None and not (row.is_scale or row.is_given) and _ranking(row, column) == ranking
        }
        ordered = sorted(set(found.values()), reverse=column.better == "higher")
        if column.better is None or len(ordered) < 2:
            continue
        rank = {ordered[0]: "best", ordered[1]: "second"}
        marks |= {(place, column.title): rank[value] for place, value in found.items() if value in rank}
    return marks


def _ranking(row: Row, column: Column) -> tuple[bool, ...]:
    """In which ranking of a column a row is."""
    return row.is_ensemble, row.is_pretrained, row.is_settled or not column.seeded


def _records(group: Group) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """What all records of a group say alike, and one line a record of what they do not."""
    runs = sorted([*group.runs, *group.left_out], key=lambda run: (run.record.label, run.seed, run.record.key))
    flats = [flatten({"data": run.record.data, "provenance": run.record.provenance}) for run in runs]
    told_by = differing(flats)
    shared = flatten({"settings": group.settings, "job.data": group.data}) | {
        name: value for name, value in sorted(flats[0].items()) if name not in told_by
    }
    own = [
        _identity(run) | {name: stored(flat.get(name)) for name in told_by}
        for run, flat in zip(runs, flats, strict=True)
    ]
    return shared, own


def _identity(run: Run) -> dict[str, str]:
    best = run.record.best_epoch
    return {
        "method": run.job.model.label,
        "seed": str(run.seed),
        "key": run.record.key,
        "outcome": run.problem or "ok",
        "best look at dev": ABSENT if best is None else f"{best + 1} of {len(run.record.history)}",
        "tied queries": stored(run.record.tied_queries),
    }
