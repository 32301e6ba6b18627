"""The figures of a results folder, from its records: which can be drawn, of what, under which words.

Nothing is left out in silence: a method that has no place in a figure is named in its caption, a figure that cannot be
drawn is named with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.measure.intervals import mean_sd, t_interval
from harness.record import RerankRecord
from harness.report.figures.sketch import Sketch
from harness.report.figures.values import Curves, Picture, Point, Share, Shortlist, front
from harness.report.read.contrasts import Contrast
from harness.report.read.described import data_line, described, settings_line, timing_line
from harness.report.read.groups import Group
from harness.report.read.rows import Row
from harness.report.read.served import among
from harness.report.read.times import STAGES as QUERY_STAGES
from harness.report.read.times import QueryTime, query_times, stage_ms, time_axis, timing_conflict, without_time
from harness.report.tables import gap, reranking
from harness.report.tables.ablations import by_question, named
from harness.report.tables.claims import against_hosts
from harness.spec import registry

if TYPE_CHECKING:
    import numpy as np

    from harness.report.figures.bars import ForestRow

SELFALIGN = "independent + SelfAlign"
STAGES = {  # stage -> its column heading, what its time is of, what of `sizes` that is
    "encode_images": ("encode image", "ms per image", "images"),
    "encode_texts": ("encode caption", "ms per caption", "captions"),
    "score": ("score", "ms per query", "queries"),
    "rank": ("rank", "ms per query", "queries"),
}
FIGURES = "figures"  # their folder within one of results
MOST = 3  # groups of settings that get figures of their own; a sweep gets one for all of it


class Undrawn(Exception):
    """Why there is no such figure."""


class Unasked(Exception):
    """There is nothing that such a figure would be of, and nothing to say about it."""


@dataclass(frozen=True)
class Drawn:
    """What was drawn of a folder."""

    pictures: Mapping[str, Picture]  # file name without its ending -> picture, group by group
    absent: tuple[str, ...]  # figures that are not there, and why


def draw(groups: Sequence[Group], folder: Path | None = None, *, png: bool = True) -> Drawn:
    """All figures of a folder; without one, and where its `figures` are not of the same, drawn anew.  Raises OSError.

    Those of several groups are numbered as its tables are.  png: whether PNGs are wanted.
    """
    sketches, absent = sketched(groups)
    if folder is None:
        return Drawn({name: sketch.draw() for name, sketch in sketches.items()}, absent)
    place = folder / FIGURES
    return Drawn({name: sketch.drawn(place / name, png=png) for name, sketch in sketches.items()}, absent)


def sketched(groups: Sequence[Group]) -> tuple[Mapping[str, Sketch], tuple[str, ...]]:
    """What the figures of a folder are drawn of, by their file names, and which cannot be drawn and why."""
    sketches: dict[str, Sketch] = {}
    reasons: dict[tuple[str, str], list[str]] = {}
    if len(groups) > 1:
        try:
            sketches["sweep"] = _sweep(groups)
        except Undrawn as why:
            reasons["sweep", str(why)] = ["sweep"]
    sketches |= _ablations(groups)
    if len(groups) > MOST:
        why = f"{len(groups)} combinations of settings, more than {MOST}"
        return sketches, (*_absent(reasons), f"No figures of each combination of settings: {why}.")
    for place, group in enumerate(groups, start=1):
        number = f"-{place}" if len(groups) > 1 else ""
        for kind, make in KINDS.items():
            try:
                sketches[f"{kind}{number}"] = make(group)
            except Unasked:
                continue
            except Undrawn as why:
                reasons.setdefault((kind, str(why)), []).append(f"{kind}{number}")
    return sketches, _absent(reasons)


def _absent(reasons: Mapping[tuple[str, str], Sequence[str]]) -> tuple[str, ...]:
    """A line for every reason, keyed by the kind of figure and the reason, with the names of its figures."""
    return tuple(f"No figure {', '.join(names)}: {why}." for (_, why), names in reasons.items())


def family(row: Row) -> str:
    """As the figures tell them apart."""
    if row.is_pretrained:
        return "pretrained"
    return "chance" if row.is_floor else SELFALIGN if row.model.selfalign is not None else row.family


def points(group: Group) -> list[Point]:
    """Every row that has both an Rsum and a time on the group's axis; none where times must not share an axis."""
    axis, found = time_axis(group.rows), []
    for row in group.rows:
        if row.runs and row.name in axis.ms and not row.is_scale:
            ms, rsums = axis.ms[row.name], list(row.rsums.values())
            found.append(Point(row.name, family(row), ms, mean_sd(rsums)[0], t_interval(rsums), row.is_ensemble))
    return [*found, *_served(group)]


def _served(group: Group) -> list[Point]:
    """What a shortlist makes of rows, among the images of the data; none where no row has an end-to-end time."""
    if not query_times(group.rows):
        return []
    return [
        Point(
            f"{way.name}, {entry['recall']:.0%} of exact {way.neighbours}",
            family(way.row),
            way.ms(entry),
            way.mean("rsum", entry["recall"]),
            serves=way.row.name,
        )
        for row in group.rows
        if row.runs and row.cost is not None and not row.is_scale
        for way, entry in among([row], row.cost.sizes.get("gallery"))
    ]


def chance(group: Group) -> float | None:
    """Mean Rsum of the chance row."""
    return next((mean_sd(list(row.rsums.values()))[0] for row in group.rows if row.is_floor and row.runs), None)


def _accuracy_time(group: Group) -> Sketch:
    _refuse_untimed(group)
    found = points(group)
    if not found:
        raise Undrawn("no method has both ranks and times")
    lone = [point.name for point in found if point.interval is None and not point.serves]
    words = [
        "Vertical bars: 95% interval of the mean over seeds (Student's t)."
        + (f" One seed, no bar: {', '.join(lone)}." if lone else ""),
        f"Pareto front (bold): {', '.join(point.name for point in front(found))}.",
        "Named besides: the highest and the lowest of each family.",
        SERVED if any(point.serves for point in found) else "",
        _not_drawn([r for r in group.rows if not r.is_scale], {point.name for point in found}),
        _guessed(group),
        without_time(group.rows),
        timing_line(group),
    ]
    label = time_axis(group.rows).label
    return _sketch(
        group, "Accuracy against retrieval time", words, "scatter.accuracy_time", found, chance(group), axis=label
    )


def _guessed(group: Group) -> str:
    names = [name for name, time in query_times(group.rows).items() if not time.measured]
    return f"Time extrapolated from smaller galleries: {', '.join(names)}." if names else ""


def _query_parts(group: Group) -> Sketch:
    _refuse_untimed(group)
    times = query_times(group.rows)
    rows = [(row.name, family(row), times[row.name].parts) for row in group.rows if row.name in times]
    if not rows:
        raise Undrawn("no row was timed end to end")
    words = [
        "One caption alone: read and encoded, scored against the encoded images, the best put in order. "
        "Shares of the medians of each part; right of them their sum.",
        _not_drawn(group.rows, {name for name, _, _ in rows}),
        _guessed(group),
        without_time(group.rows),
        timing_line(group),
    ]
    return _sketch(group, "Where the time of one query goes", words, "bars.divided", rows, QUERY_STAGES)


def _stages(group: Group) -> Sketch:
    _refuse_untimed(group)
    rows = [
        (row.name, family(row), {STAGES[stage][0]: stage_ms(row.cost, [stage], STAGES[stage][2]) for stage in STAGES})
        for row in group.rows
        if row.cost is not None
    ]
    units = {title: unit for title, unit, _ in STAGES.values()}
    words = ["Each panel has a scale of its own.", _not_drawn(group.rows, {n for n, _, _ in rows}), timing_line(group)]
    return _sketch(group, "Time of every stage in batches", words, "bars.stages", rows, units)


def _gallery(group: Group) -> Sketch:
    conflict = timing_conflict(group.rows)
    if conflict:
        raise Undrawn(conflict.rstrip("."))
    sizes = {entry["items"] for row in group.rows if row.cost for entry in row.cost.galleries}
    times = {size: query_times(group.rows, size) for size in sizes}
    rows = [(row.name, family(row), points) for row in group.rows if (points := gallery_sizes(row, times))]
    if not rows:
        raise Undrawn("no record holds end-to-end times by gallery size")
    words = [
        "One caption end to end: read, encoded, scored and ranked, alone.",
        "Vertical bars: up to the 95th percentile; hollow and dashed: extrapolated.",
        _not_drawn(group.rows, {name for name, _, _ in rows}),
        timing_line(group).partition(";")[0] + ".",
    ]
    return _sketch(group, "Time and memory as the gallery grows", words, "gallery.gallery", rows)


def gallery_sizes(row: Row, times: Mapping[int, Mapping[str, QueryTime]]) -> list[Mapping[str, Any]]:
    """What one query of a row takes end to end as galleries grow, and their bytes.  Empty where nothing was recorded.

    times: items -> row -> time.
    """
    return [
        {
            "items": entry["items"],
            "p50_ms": time.ms,
            "p95_ms": time.p95_ms,
            "measured": time.measured,
            "bytes": entry.get("bytes"),
        }
        for entry in (row.cost.galleries if row.cost else ())
        if (time := times[entry["items"]].get(row.name)) is not None
    ]


def _claims(group: Group) -> Sketch:
    rows = forest_rows([(f"{found.row.name} − {found.other.name}", found) for found in against_hosts(group)])
    if not rows:
        raise Undrawn("no SelfAlign row stands beside its host")
    title = "What SelfAlign adds to its host"
    return _sketch(group, title, [FOREST], "bars.forest", rows, axis="Rsum, SelfAlign minus host")


SERVED = (
    "Small and hollow: an index names a shortlist that the row's own scores order, among as many images; the share of "
    "the exact first images that it finds is named, and text-to-image recalls are taken times that share."
)
FOREST = (
    "Mean difference over the seeds both ran, with its 95% interval over seeds and images at once, corrected for all "
    "that are tested together (Holm); filled where zero lies outside."
)


def forest_rows(named: Sequence[tuple[str, Contrast]]) -> list[ForestRow]:
    """Those of which there is a difference; no bounds where too few seeds were run."""
    rows = []
    for name, found in named:
        low, high = found.interval or (None, None)
        rows += [(name, found.value, low, high)] if found.value is not None else []
    return rows


def _gap(group: Group) -> Sketch:
    found = gap.of_taught(group)
    if not found:
        raise Unasked
    _refuse_untimed(group)
    shares = [
        Share(
            registry.named(each.row.model), each.student.name, family(each.row), each.ms, 100 * each.value, each.percent
        )
        for each in found
        if each.value is not None and each.ms
    ]
    if not shares:
        raise Undrawn("no row that is taught has both ranks and times, and a teacher above it")
    words = [gap.MEANING, _not_drawn([each.row for each in found], {each.row.name for each in found if each.ms})]
    return _sketch(group, "How much of the gap to its teacher a row closes", words, "gap.gap_time", shares)


def _training(group: Group) -> Sketch:
    rows = [
        (row.name, family(row), runs)
        for row in group.rows
        if (runs := [rsums for run in row.runs if (rsums := [epoch.get("dev_rsum") for epoch in run.record.history])])
    ]
    if not any(value is not None for _, _, runs in rows for run in runs for value in run):
        raise Undrawn("no record holds a dev Rsum by epoch")
    trained = [row for row in group.rows if not (row.is_scale or row.is_elsewhere)]
    words = ["One line a seed; all other methods in grey.", _not_drawn(trained, {name for name, _, _ in rows})]
    return _sketch(group, "Training", words, "panels.curves", rows, axis="Rsum on the dev split")


def _tuning(group: Group) -> Sketch:
    plain = {row.model.label: row for row in group.rows if not row.model.modules and _trials(row)}
    rows = [(row.model.host, family(row), _trials(row)) for row in plain.values()]
    if not rows:
        raise Undrawn("no row has trials of its own")
    words = [
        "Expected best dev Rsum of n trials drawn from a row's own without replacement (Tang et al. 2020); a host and "
        "its row with SelfAlign in one panel, steps outward left out; a trial that failed counts as 0. Rows with "
        "other modules: see the table of trials."
    ]
    return _sketch(group, "What tuning is worth", words, "tuning.tuning_curves", rows)


def _trials(row: Row) -> list[float]:
    """Dev Rsum of a row's trials, 0 of one that failed, without a step outward, which not every row has."""
    if row.tuning.row is None:
        return []
    trials = row.tuning.row["trials"]
    return [trial["dev_rsum"] or 0.0 for trial in trials[: len(trials) - row.tuning.row["outward"]]]


def _ranks(group: Group) -> Sketch:
    rows: list[tuple[str, str, Mapping[str, np.ndarray]]] = []
    for row in (row for row in group.rows if row.runs):
        i2t, t2i = row.ranks()
        rows.append((row.name, family(row), {"i2t": i2t, "t2i": t2i}))
    if not rows:
        raise Undrawn("no record has ranks")
    words = ["All seeds together; ties count against the model.", _not_drawn(group.rows, {name for name, _, _ in rows})]
    return _sketch(group, "Recall among the first K answers", words, "panels.recalls", rows)


def _sweep(groups: Sequence[Group]) -> Sketch:
    names = list(dict.fromkeys(row.name for group in groups for row in group.rows if row.runs))
    if not names:
        raise Undrawn("no method has a result")
    rows = []
    for name in names:
        found = [next((row for row in group.rows if row.name == name and row.runs), None) for group in groups]
        means = [None if row is None else mean_sd(list(row.rsums.values()))[0] for row in found]
        rows.append((name, next(family(row) for row in found if row is not None), means))
    numbered = "; ".join(
        f"{place}: {described(group.differs).replace('`', '').replace('settings.', '')}"
        for place, group in enumerate(groups, start=1)
    )
    title = "Rsum by settings"
    caption = f"Mean over seeds; × where a method has no result. Settings {numbered}. {data_line(groups[0])}"
    return Sketch(title, caption, "panels.sweep", (rows,), {})


def _ablations(groups: Sequence[Group]) -> dict[str, Sketch]:
    """`ablation-<question>` of every question that the records answer."""
    sketches = {}
    for name, found in by_question(groups).items():
        rows = forest_rows(named(found))
        if rows:
            words = f"{FOREST} Base: {', '.join(dict.fromkeys(a.base.name for a in found))}."
            title, caption = found[0].question, f"{data_line(groups[0])} {words}"
            sketches[f"ablation-{name}"] = Sketch(title, caption, "bars.forest", (rows,), {})
    return sketches


def _rerank(group: Group) -> Sketch:
    curves = rerank_curves(group.reranks)
    return _sketch(group, "Retrieve, then rerank", (), "rerank.rerank", curves)


def rerank_curves(pairs: Sequence[RerankRecord]) -> Curves:
    """Every timed pair by its reranker and retriever; powers of ten among the shortlists are named.

    Raises Undrawn where nothing was timed or times must not share an axis.
    """
    if conflict := reranking.conflict(pairs):
        raise Undrawn(conflict.rstrip("."))
    curves: dict[str, dict[str, list[Shortlist]]] = {}
    for point in reranking.points(pairs):
        if point.t2i_ms is not None:
            label = f"k={point.k}" if reranking.is_power_of_ten(point.k) else ""
            shortlist = Shortlist(label, point.t2i_ms, point.accuracy["rsum"], point.accuracy["rsum_ceiling"])
            curves.setdefault(point.reranker, {}).setdefault(point.retriever, []).append(shortlist)
    if not curves:
        raise Undrawn("no pair of a retriever and a reranker was timed")
    return curves


KINDS: Mapping[str, Callable[[Group], Sketch]] = {
    "accuracy-time": _accuracy_time,
    "claims": _claims,
    "gap-closed": _gap,
    "query": _query_parts,
    "stages": _stages,
    "gallery": _gallery,
    "rerank": _rerank,
    "training": _training,
    "tuning": _tuning,
    "ranks": _ranks,
}


def _refuse_untimed(group: Group) -> None:
    conflict = timing_conflict(group.rows)
    if conflict:
        raise Undrawn(conflict.rstrip("."))
    if not any(row.cost for row in group.rows):
        raise Undrawn("nothing was timed")


def _not_drawn(rows: Sequence[Row], drawn: set[str]) -> str:
    """Rows that have no place in a figure, and in a word why."""
    missing = [row for row in rows if row.name not in drawn]
    return f"Not drawn, nothing to draw: {', '.join(row.name for row in missing)}." if missing else ""


def _sketch(group: Group, title: str, words: Sequence[str], by: str, *values: Any, **more: Any) -> Sketch:
    """The figure under its caption: data, settings, then words of its own.  The rest as `Sketch` has it."""
    told = f"Only records with {described(group.differs).replace('`', '')}." if group.differs else ""
    caption = " ".join(part for part in (data_line(group), told, settings_line(group), *words) if part)
    return Sketch(title, caption, by, values, more)
