"""How much of the way from an independent host to an interactive teacher does what is put on the host go, at what time?

Every row with SelfAlign or a module stands beside its host alone and a teacher: the row it was distilled from, else the
best interactive row.  Beside them, what reranking the host's own shortlist by that teacher closes, at its known cost.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from harness.measure.estimates import Estimate, closed
from harness.report.formats import ABSENT, Sheet, decimals, significant
from harness.report.read.contrasts import between
from harness.report.read.groups import Group
from harness.report.read.rows import Row, owners
from harness.report.read.times import query_times
from harness.report.tables import reranking
from harness.report.tables.comparison import END_TO_END, left_out_lines
from harness.report.tables.headline import mean_rsum
from harness.spec import registry

TEACHER = "distilled.teacher"
MOST_K = 100  # shortlists longer than this are nearly the teacher itself

MEANING = (
    "Gap closed: (row − student) / (teacher − student) in Rsum; the student is the host alone, the teacher the row "
    "named, 0% is the student and 100% the teacher."
)
SURE = (
    "Its interval (95%) adds the variance over seeds to that of a bootstrap of images, by the delta method. Where the "
    "student is not below the teacher by its own interval there is no gap to close, and where one seed was run there "
    "is no interval."
)
SHORTLISTS = (
    "Shortlists: the student's first k put in order by the teacher, which is no training at all; of the first seed, "
    "and without an interval."
)
TIMED = (
    "Times: one caption, encoded, searched among the images of the data and ranked; of a shortlist that of the "
    "student, then the caption encoded by the teacher and k candidates put in order."
)


@dataclass(frozen=True)
class Gap:
    """One row between its host and a teacher."""

    row: Row
    student: Row
    teacher: Row
    estimate: Estimate | None  # of the share; None where there is no gap or nothing to compare
    ms: float | None  # of one query, end to end

    @property
    def name(self) -> str:
        """As tables have it: modules by what they are."""
        return titled(self.row)

    @property
    def value(self) -> float | None:
        return self.estimate.value if self.estimate else None

    @property
    def percent(self) -> tuple[float, float] | None:
        """The interval of the share in percent."""
        interval = self.estimate.interval() if self.estimate else None
        return None if interval is None else (100 * interval[0], 100 * interval[1])


def titled(row: Row) -> str:
    """The row's name, then what its modules are called where their short names would claim too much."""
    titles = [registry.modules()[name].title for name in row.model.modules if name in registry.modules()]
    return row.name + "".join(f" [{title}]" for title in titles if title)


Trio = tuple[Row, Row, Row]  # a row, its student and its teacher


def gaps(group: Group) -> list[Gap]:
    """Every row with something on its host, modules beside SelfAlign first asked for: none where no row has any."""
    return _measured(group, _trios(group))


def of_taught(group: Group) -> list[Gap]:
    """Rows, no arms of a question, on the hosts that have modules: what the figure and the sentences are of."""
    found = _trios(group)
    hosts = {id(student) for row, student, _ in found if row.model.modules}
    rows = {id(row) for row in group.rows}
    return _measured(group, [trio for trio in found if id(trio[0]) in rows and id(trio[1]) in hosts])


def _rows(group: Group) -> list[Row]:
    return [row for row in (*group.rows, *group.arms) if row.runs and not row.is_ensemble]


def _trios(group: Group) -> list[Trio]:
    rows = _rows(group)
    if not any(row.model.modules for row in rows):
        return []
    put_on = [row for row in rows if row.model.modules or row.model.selfalign is not None]
    found = [(row, _student(row, rows), _teacher(row, rows)) for row in put_on]
    return [(row, student, teacher) for row, student, teacher in found if student is not None and teacher is not None]


def _measured(group: Group, trios: Sequence[Trio]) -> list[Gap]:
    ms = _times(group)
    return [Gap(*trio, _share(*trio), ms.get(trio[0].name)) for trio in trios]


def _times(group: Group) -> Mapping[str, float]:
    """Name of a row -> milliseconds of one query; nothing where rows were not timed alike."""
    return {name: time.ms for name, time in query_times(_rows(group)).items()}


def _student(row: Row, rows: Sequence[Row]) -> Row | None:
    """The same host with nothing on it."""
    return next((other for other in rows if _is_bare(other) and _same_host(other, row)), None)


def _is_bare(row: Row) -> bool:
    return row.model.selfalign is None and not row.model.modules and not row.model.control


def _same_host(one: Row, other: Row) -> bool:
    return one.model.host == other.model.host and one.model.options == other.model.options


def _teacher(row: Row, rows: Sequence[Row]) -> Row | None:
    """Whose scores it learned, where that is a row here; else the best interactive one."""
    label = registry.wanted(row.model).get(TEACHER, "").partition("@")[0]
    interactive = [other for other in rows if other.family == "interactive"]
    if label:
        return next((other for other in rows if other.model.label == label), None)
    return max(interactive, key=mean_rsum, default=None)


def _share(row: Row, student: Row, teacher: Row) -> Estimate | None:
    """Over the seeds all three ran; None where the teacher is not above the student, as far as its interval tells."""
    shared = sorted(row.rsums.keys() & student.rsums.keys() & teacher.rsums.keys())
    known = owners([*row.runs, *student.runs, *teacher.runs])
    gap = between(teacher, student)
    if not shared or known is None or gap is None:
        return None
    interval = gap.interval()
    if (interval[0] if interval else gap.value) <= 0:
        return None
    return closed(row.ranks(shared), student.ranks(shared), teacher.ranks(shared), known)


COLUMNS = ("student", "row", "teacher", "Rsum", "gap closed", "seeds", END_TO_END)
FLAT = ("student", "row", "teacher", "rsum", "gap_closed_percent", "low", "high", "seeds", "end_to_end_ms_per_query")


def gap_sheet(group: Group) -> Sheet | None:
    """None where no row has a module beside SelfAlign."""
    found = gaps(group)
    if not found:
        return None
    text, flat, ms = [], [], _times(group)
    for student, teacher in dict.fromkeys((each.student.name, each.teacher.name) for each in found):
        own = [each for each in found if (each.student.name, each.teacher.name) == (student, teacher)]
        for name, row in ((f"{student} alone", own[0].student), ("the teacher itself", own[0].teacher)):
            cells = (student, name, teacher, decimals(1)(mean_rsum(row)))
            seeds, time = str(len(row.runs)), _shown(ms.get(row.name))
            text.append((*cells, ABSENT, seeds, time))
            flat.append((*cells, *[ABSENT] * 3, seeds, time))
        for each in own:
            cells = (student, each.name, teacher, decimals(1)(mean_rsum(each.row)))
            text.append((*cells, *_cells(each)))
            flat.append((*cells, *_flat_cells(each)))
        for name, rsum, share, took in _shortlists(group, own[0], ms):
            cells = (student, name, teacher, decimals(1)(rsum))
            text.append((*cells, f"{decimals(0)(100 * share)}%", "1", _shown(took)))
            flat.append((*cells, decimals(1)(100 * share), ABSENT, ABSENT, "1", _shown(took)))
    notes = (MEANING, SURE, SHORTLISTS if len(text) > len(found) else "", TIMED if ms else "", *left_out_lines(group))
    return Sheet(
        "How much of an interactive teacher does an independent row take over?",
        pd.DataFrame(text, columns=pd.Index(COLUMNS), dtype=str),
        pd.DataFrame(flat, columns=pd.Index(FLAT), dtype=str),
        notes=tuple(note for note in notes if note),
        names=3,
    )


def _shortlists(group: Group, of: Gap, ms: Mapping[str, float]) -> Iterator[tuple[str, float, float, float | None]]:
    """What reranking the student's first k by the teacher comes to: name, Rsum, share closed, ms of one query."""
    pairs = [p for p in group.reranks if (p.retriever, p.reranker) == (of.student.name, of.teacher.name)]
    found = reranking.points(pairs)
    first, whole = ([p.accuracy["rsum"] for p in found][end] if found else 0.0 for end in (0, -1))
    student = ms.get(of.student.name)
    for place, point in enumerate(found):
        if 1 < point.k <= MOST_K and reranking.is_power_of_ten(point.k) and whole > first:
            share = (point.accuracy["rsum"] - first) / (whole - first)
            more = reranking.added_ms(pairs[0], place, of.student.cost, of.teacher.cost)
            took = None if student is None or more is None else student + more
            yield f"first {point.k} reranked by {of.teacher.name}", point.accuracy["rsum"], share, took


def _cells(each: Gap) -> tuple[str, str, str]:
    seeds = str(each.estimate.seeds) if each.estimate else ABSENT
    if each.value is None:
        return "no gap", seeds, _shown(each.ms)
    low, high = (f"{decimals(0)(end)}" for end in each.percent) if each.percent else ("", "")
    interval = f" [{low}, {high}]" if each.percent else ""
    return f"{decimals(0)(100 * each.value)}%{interval}", seeds, _shown(each.ms)


def _flat_cells(each: Gap) -> tuple[str, str, str, str, str]:
    seeds = str(each.estimate.seeds) if each.estimate else ABSENT
    ends = [decimals(1)(end) for end in each.percent] if each.percent else [ABSENT, ABSENT]
    value = ABSENT if each.value is None else decimals(1)(100 * each.value)
    return value, ends[0], ends[1], seeds, _shown(each.ms)


def _shown(ms: float | None) -> str:
    return ABSENT if ms is None else significant(ms)


def taken_over(group: Group) -> list[str]:
    """For FINDINGS, of hosts with modules: a sentence for every row that has a share, the largest first, then for what
    reranking the host's shortlist by a teacher closes.
    """
    asked, ms = of_taught(group), _times(group)
    named = [(each, each.value) for each in asked if each.value is not None]
    told = [
        f"`{each.name}` closes {_cells(each)[0]} of the gap from {each.student.name} to {each.teacher.name}"
        + (f", at {_shown(each.ms)} ms a query." if each.ms else ".")
        for each, _ in sorted(named, key=lambda pair: -np.float64(pair[1]))
    ]
    for each in {each.teacher.name: each for each in asked}.values():
        for name, _, share, took in _shortlists(group, each, ms):
            closes = f"`{each.student.name}`, its {name} without any training, closes {decimals(0)(100 * share)}%"
            told.append(closes + (f", at {_shown(took)} ms a query." if took else "."))
    return told
