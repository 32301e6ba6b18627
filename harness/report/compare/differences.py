"""Two results folders side by side: what changed between them, and is it more than noise?

Rows of one name are compared where both folders have them, B minus A.  How sure a difference is, is told by the best
that the records allow: where both ran the same seeds on the same queries by the interval over seeds and images that
tables of one folder have, corrected for all rows; by Welch's where each ran several; where one of them ran one seed, by
where one further seed of the other would lie.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import pandas as pd

from harness.measure.intervals import Interval, mean_sd, next_mean_interval, welch_difference
from harness.report.formats import ABSENT, Sheet, decimals, markdown, shown, significant
from harness.report.read.contrasts import Contrast, compared
from harness.report.read.described import described
from harness.report.read.groups import Group
from harness.report.read.nested import differing, flatten
from harness.report.read.rows import Row
from harness.report.read.times import BATCHED, stage_ms
from harness.report.tables.comparison import left_out_lines
from harness.spec.job import Settings

OWN = ("provenance.finished", "provenance.members")  # times of day: never alike, and of no matter
COMMIT = 10  # digits of a commit that are shown
RECIPE = "recipe"
KERNELS = "provenance.kernels.instruction_set"
SAME, WITHIN, BEYOND = "same ranks", "within noise", "beyond noise"  # verdicts of rows that can be judged
AGREEING = (SAME, WITHIN)
QUERIES = ("name", "fingerprint", "ranked", "test_images", "dev_images")  # fields of the data that fix the queries


@dataclass(frozen=True)
class Pair:
    """Groups of A and B whose rows are compared."""

    a: Group
    b: Group

    @property
    def same_queries(self) -> bool:
        fields = [name for name in QUERIES if name != "dev_images" or self.a.data["ranked"] == "dev"]
        return all(self.a.data.get(name) == self.b.data.get(name) for name in fields)


@dataclass(frozen=True)
class Change:
    """One row in both folders."""

    name: str
    a: Row
    b: Row
    difference: float | None  # of Rsum, B minus A
    interval: Interval | None
    over: str  # what the interval is over
    verdict: str
    time_ratio: float | None  # score+rank per query, B over A
    time_note: str = ""  # why there is no ratio, where both were timed


def paired(a: Sequence[Group], b: Sequence[Group]) -> tuple[list[Pair], list[Group], list[Group]]:
    """Which groups belong together, and those that only A or only B has.

    A single group on either side is compared whatever differs; of several those with equal data and settings are,
    wherever they ran.
    """
    if len(a) == len(b) == 1:
        return [Pair(a[0], b[0])], [], []
    pairs = [Pair(one, other) for one in a for other in b if _identity(one) == _identity(other)]
    taken_a, taken_b = [id(pair.a) for pair in pairs], [id(pair.b) for pair in pairs]
    return pairs, [g for g in a if id(g) not in taken_a], [g for g in b if id(g) not in taken_b]


def _identity(group: Group) -> tuple[dict[str, Any], dict[str, Any]]:
    places = {f.name for f in fields(Settings) if not f.metadata.get("identity", True)}
    return dict(group.data), {name: value for name, value in group.settings.items() if name not in places}


def changes(pair: Pair) -> list[Change]:
    """Every row that both have, in the order of A."""
    others = {row.name: row for row in pair.b.rows}
    both = [(others[row.name], row) for row in pair.a.rows if row.name in others]
    alike = [(b, a) for b, a in both if pair.same_queries and _same_seeds(a, b)]
    contrasts = {found.row.name: found for found in compared(alike)}
    return [_change(a, b, pair.same_queries, contrasts.get(a.name)) for b, a in both]


def _change(a: Row, b: Row, same_queries: bool, contrast: Contrast | None) -> Change:
    ratio, why = _time_ratio(a, b)
    if not (a.runs and b.runs):
        return Change(a.name, a, b, None, None, ABSENT, "nothing to compare", ratio, why)
    difference, bounds, over = _difference(a, b, contrast)
    if _same_ranks(a, b):
        verdict = SAME
    elif not same_queries:
        verdict = "other data, no verdict"
    elif bounds is None:
        verdict = "not enough seeds"
    else:
        verdict = WITHIN if bounds[0] <= 0 <= bounds[1] else BEYOND
    return Change(a.name, a, b, difference, bounds, over, verdict, ratio, why)


def _difference(a: Row, b: Row, contrast: Contrast | None) -> tuple[float, Interval | None, str]:
    """Rsum of B minus that of A, its 95% interval and what that is over."""
    if contrast is not None and contrast.estimate is not None and contrast.interval is not None:
        return contrast.estimate.value, contrast.interval, "seeds and images"
    of_b, of_a = list(b.rsums.values()), list(a.rsums.values())
    found = welch_difference(of_b, of_a)
    if found.interval is not None:
        return found.mean, found.interval, "seeds (Welch)"
    many = max(of_a, of_b, key=len)
    if len(many) < 2:
        return found.mean, None, ABSENT
    low, high = next_mean_interval(found.mean, mean_sd(many)[1] or 0.0, len(many), further=1)
    return found.mean, (low, high), "one further seed"


def _same_seeds(a: Row, b: Row) -> bool:
    return a.rsums.keys() == b.rsums.keys()


def _same_ranks(a: Row, b: Row) -> bool:
    return _same_seeds(a, b) and all(
        np.array_equal(one, other) for one, other in zip(a.ranks(), b.ranks(), strict=True)
    )


def _time_ratio(a: Row, b: Row) -> tuple[float | None, str]:
    """B over A, and why there is none where both were timed: only equal machines and sizes make a ratio."""
    if a.cost is None or b.cost is None:
        return None, ""
    flats = [flatten({"machine": row.cost.machine, "sizes": row.cost.sizes}) for row in (a, b) if row.cost is not None]
    if told_by := differing(flats):
        return None, "; ".join(f"{name} {_shown(flats[0].get(name))}, {_shown(flats[1].get(name))}" for name in told_by)
    own, base = (stage_ms(row.cost, BATCHED, "queries") for row in (b, a))
    return (own / base if own and base else None), ""


LEGEND = (
    "Rsum is the mean over seeds (how many: A : B); the difference is B minus A with its 95% interval: over seeds and "
    "images at once where both ran the same seeds, corrected by Holm for all such rows; over seeds by Welch's t where "
    "both ran several others; where one of them ran one seed, by Student's t of where one further seed of the other "
    "would lie, which one in twenty misses. Beyond noise: that interval leaves zero out. The same seed gives other "
    "numbers on another processor or instruction set: see what differs. Time: scoring and ranking a query, B over A, "
    "only where both ran on the same machine with the same sizes."
)


def sheet(pair: Pair, names: tuple[str, str]) -> Sheet:
    """The comparison of a pair of groups.  `names`: how the folders are called."""
    found = changes(pair)
    text = [
        {
            "row": change.name,
            "seeds": f"{len(change.a.runs) or ABSENT} : {len(change.b.runs) or ABSENT}",
            "Rsum A": _rsum(change.a),
            "Rsum B": _rsum(change.b),
            "B - A": shown(change.difference, change.interval),
            "over": change.over,
            "verdict": change.verdict,
            "time": ABSENT if change.time_ratio is None else f"{significant(change.time_ratio)}×",
        }
        for change in found
    ]
    frame = pd.DataFrame(text, dtype=str)
    return Sheet(
        title="Side by side",
        text=frame,
        flat=frame,
        header=(f"A: `{names[0]}`, B: `{names[1]}`.",),
        notes=tuple([LEGEND] * bool(found) + _notes(pair, found)),
    )


def _notes(pair: Pair, found: Sequence[Change]) -> list[str]:
    notes = [] if found else ["No row is in both."]
    for letter, own, other in (("A", pair.a, pair.b), ("B", pair.b, pair.a)):
        known = {row.name for row in other.rows}
        if alone := [row.name for row in own.rows if row.name not in known]:
            notes.append(f"Only in {letter}: {', '.join(alone)}.")
    notes += _rounding(pair)
    by_reason: dict[str, list[str]] = {}
    for change in found:
        if change.time_note:
            by_reason.setdefault(change.time_note, []).append(change.name)
    notes += [f"No time ratio, A and B were not timed alike ({why}): {', '.join(n)}." for why, n in by_reason.items()]
    notes += [f"{letter}. {line}" for letter, group in (("A", pair.a), ("B", pair.b)) for line in left_out_lines(group)]
    return notes


def _rounding(pair: Pair) -> list[str]:
    """A line where the two are known to have been computed with other instructions: a reason for other numbers."""
    a, b = (_values(group).get(KERNELS, set()) for group in (pair.a, pair.b))
    if not a or not b or a == b:
        return []
    return [
        f"A was computed with the instruction set {_values_shown(a)}, B with {_values_shown(b)}: sums are rounded "
        "otherwise, training carries that on, and the same seed and code end at other numbers."
    ]


def _rsum(row: Row) -> str:
    if not row.runs:
        return ABSENT
    mean, sd = mean_sd(list(row.rsums.values()))
    return decimals(1)(mean) + ("" if sd is None else f" ± {decimals(1)(sd)}")


def conditions(pair: Pair) -> Sheet:
    """Data, settings, model options and provenance that are not the same in A and B; every value that occurs."""
    a, b = _values(pair.a), _values(pair.b)
    lines = [
        {"what": name, "A": _values_shown(a.get(name)), "B": _values_shown(b.get(name))}
        for name in sorted(a.keys() | b.keys())
        if a.get(name) != b.get(name) and (not name.startswith(RECIPE) or (name in a and name in b))
    ]
    text = pd.DataFrame(lines, columns=pd.Index(["what", "A", "B"]), dtype=str)
    same = () if lines else ("Data, settings and provenance are the same in A and B.",)
    return Sheet("What differs", text, text, notes=same, names=3)


def _values(group: Group) -> dict[str, set[str]]:
    """Name -> every value that a record of the group has of it."""
    found: dict[str, set[str]] = {}
    for name, value in flatten({"data": group.data, "settings": group.settings}).items():
        found.setdefault(name, set()).add(_shown(value))
    for run in [*group.runs, *group.left_out]:
        own = {"provenance": run.record.provenance, RECIPE: {run.job.model.label: run.job.model.recipes}}
        for name, value in flatten(own).items():
            if name not in OWN:
                found.setdefault(name, set()).add(_shown(value)[: COMMIT if name == "provenance.commit" else None])
    return found


def _values_shown(values: set[str] | None) -> str:
    return ", ".join(sorted(values)) if values else ABSENT


def _shown(value: Any) -> str:
    return ABSENT if value is None or value == "" else str(value)


def as_markdown(made: Sequence[Sheet]) -> str:
    """What `sheets` made, as one file."""
    return "\n".join(markdown(sheet, level=1 if place == 0 else 2) for place, sheet in enumerate(made))


def sheets(a: Sequence[Group], b: Sequence[Group], names: tuple[str, str]) -> list[Sheet]:
    """All there is to say of two folders: a table for each pair of groups, what differs below it.

    `names`: how the folders are called.
    """
    pairs, only_a, only_b = paired(a, b)
    made = []
    for pair in pairs:
        settings = (f"Only records with {described(pair.a.differs)}.",) if len(pairs) > 1 else ()
        one = sheet(pair, names)
        made += [replace(one, header=(*one.header, *settings)), conditions(pair)]
    alone = [
        f"Only in {letter}: settings {described(group.differs) or 'of its one group'}, "
        f"rows {', '.join(row.name for row in group.rows)}."
        for letter, groups in (("A", only_a), ("B", only_b))
        for group in groups
    ]
    if alone:
        empty = pd.DataFrame()
        made.append(Sheet("Settings that only one has", empty, empty, notes=tuple(alone)))
    return made
