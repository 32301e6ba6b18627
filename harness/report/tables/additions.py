"""What does each thing put on a host bring, and does a student learn what its teacher knows?

A row with modules stands beside the same row with one of them taken away, and a student of a stored row beside its
controls: the same lesson from the identity matrix, from another student, or from the teacher's scores in another order.
All are tested together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from harness.report.formats import ABSENT, Sheet
from harness.report.read.contrasts import DIFFERENCE, WORDS, Contrast, compared, detectable
from harness.report.read.groups import Group
from harness.report.read.rows import Row
from harness.report.tables.claims import said
from harness.report.tables.comparison import left_out_lines
from harness.report.tables.gap import TEACHER, titled
from harness.spec import registry
from harness.spec.job import Model
from harness.spec.methods import SELFALIGN

LESSON, TAUGHT_BY = TEACHER.split(".")
SHUFFLED = "shuffled"
CONTROLS = {"smoothed": "label smoothing", "peer": "another student as teacher", SHUFFLED: "its scores shuffled"}


@dataclass(frozen=True)
class Addition:
    """A row beside one that lacks a part of it, or learns the same from nothing."""

    contrast: Contrast
    beside: str  # what the other is: `without SelfAlign`, `label smoothing`

    @property
    def verdict(self) -> str:
        return said(self.contrast.word, self.contrast.row, self.contrast.other)


def additions(group: Group) -> list[Addition]:
    """Every row with a module beside SelfAlign, in the order of the rows: parts taken away, then controls."""
    rows = [row for row in (*group.rows, *group.arms) if row.runs and not row.is_ensemble]
    found = [(row, other, what) for row in rows if row.model.modules for other, what in _others(row, rows)]
    contrasts = compared([(row, other) for row, other, _ in found])
    return [Addition(contrast, what) for contrast, (*_, what) in zip(contrasts, found, strict=True)]


def _others(row: Row, rows: Sequence[Row]) -> Iterator[tuple[Row, str]]:
    known = [(other, what) for other in rows if (what := beside(row.model, other.model))]
    yield from sorted(known, key=lambda pair: not pair[1].startswith("without"))


def beside(model: Model, other: Model) -> str:
    """What another model is to a row with modules; "" where it is neither a part of it nor a control."""
    if (model.host, model.options, model.control) != (other.host, other.options, other.control):
        return ""
    own, its = _put_on(model), _put_on(other)
    absent = own.keys() - its.keys()
    if len(absent) == 1 and all(own.get(name) == options for name, options in its.items()):
        return f"without {registry.called(*absent)}"
    rest = [name for name in own if name != LESSON]
    if own.keys() == its.keys() and LESSON in own and all(own[name] == its[name] for name in rest):
        return _control(own[LESSON], its[LESSON]) if TEACHER in registry.wanted(model) else ""
    return ""


def _put_on(model: Model) -> Mapping[str, Mapping[str, Any]]:
    """SelfAlign and the modules of a model, with their options."""
    return {**({} if model.selfalign is None else {SELFALIGN: model.selfalign}), **model.modules}


def _control(own: Mapping[str, Any], its: Mapping[str, Any]) -> str:
    """Which control of one lesson another is; "" where it is a lesson of its own, or the first is a control itself."""
    if own[SHUFFLED]:
        return ""
    if its == {**own, SHUFFLED: True}:
        return CONTROLS[SHUFFLED]
    return CONTROLS.get(its[TAUGHT_BY], "") if its == {**own, TAUGHT_BY: its[TAUGHT_BY]} else ""


COLUMNS = ("row", "beside", "what that is", "Rsum difference", "P above zero", "seeds", "verdict")
FLAT = ("row", "beside", "what_that_is", "difference", "low", "high", "p_above_zero", "seeds", "verdict")


def additions_sheet(group: Group) -> Sheet | None:
    """None where no row has a module beside SelfAlign."""
    found = additions(group)
    if not found:
        return None
    text = [
        (
            titled(one.contrast.row),
            one.contrast.other.name,
            one.beside,
            one.contrast.shown,
            one.contrast.probability,
            str(one.contrast.seeds) if one.contrast.seeds else ABSENT,
            one.verdict,
        )
        for one in found
    ]
    flat = [(*cells[:3], *one.contrast.cells, *cells[4:]) for cells, one in zip(text, found, strict=True)]
    family = f"All {len(found)} differences are corrected together (Holm)."
    sizes = detectable([(f"{titled(one.contrast.row)} beside {one.beside}", one.contrast) for one in found])
    notes = (DIFFERENCE, family, WORDS, sizes, *left_out_lines(group))
    return Sheet(
        "What does each addition bring, and is it the teacher's knowledge?",
        pd.DataFrame(text, columns=pd.Index(COLUMNS), dtype=str),
        pd.DataFrame(flat, columns=pd.Index(FLAT), dtype=str),
        notes=tuple(note for note in notes if note),
        names=3,
    )


def lessons(group: Group) -> list[str]:
    """A sentence for every row with modules, for FINDINGS."""
    found = additions(group)
    told = []
    for row in dict.fromkeys(titled(one.contrast.row) for one in found):
        own = [one for one in found if titled(one.contrast.row) == row]
        told.append(f"`{row}` beside " + ", ".join(f"{o.beside} {o.contrast.shown} ({o.verdict})" for o in own) + ".")
    return told
