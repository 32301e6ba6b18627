"""Published beside measured: for every method of a group what was found here, then what papers say of it.

Nothing is marked as best and nothing is averaged: published numbers come from other features, splits and machines.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd

from harness.measure.intervals import mean_sd
from harness.progress import counted
from harness.record import RECALLS
from harness.report.formats import ABSENT, Sheet, decimals
from harness.report.read.groups import Group
from harness.report.read.protocols import folds, protocol
from harness.report.read.published import Published, about
from harness.report.read.rows import Row
from harness.report.read.runs import Run
from harness.spec import registry

TITLES = {name: f"{name[:3]} R@{name[5:]}" for name in RECALLS} | {"rsum": "Rsum"}
LEGEND = (
    "Measured rows are those of these records, mean ± standard deviation over seeds. Published ones are quoted as "
    "printed in the source named: other image features, splits and training than here, so none is ranked or averaged "
    "with a measured one, and a difference between the two says nothing about either. "
    f"* marks an ensemble of several trained models; {ABSENT} is a figure that was not printed."
)


@dataclass(frozen=True)
class Line:
    """One row of the table."""

    method: str
    found: str  # measured | published
    data: str
    features: str
    runs: str
    figures: dict[str, tuple[str, str]]  # column of the file -> number and its deviation, or ABSENT
    source: str
    note: str = ""


def beside(group: Group) -> Sheet | None:
    """The table of a group; None where nothing is published of its methods, or ranks are not of a test split.

    Raises RecordError and OSError.
    """
    if group.data["ranked"] != "test":
        return None
    lines: list[Line] = []
    any_published = False
    for rows in _by_method(group.rows):
        lines += [line for row in rows for line in _measured(group, row)]
        published = _published(rows)
        any_published |= bool(published)
        lines += published
    return _sheet(lines) if any_published else None


def _by_method(rows: Sequence[Row]) -> list[list[Row]]:
    """Rows that the same published lines are about, in the order of the table; every SelfAlign row is one method."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        if not (row.is_scale or row.is_elsewhere):
            method = registry.SELFALIGN if row.model.selfalign is not None else row.model.method
            found.setdefault(method, []).append(row)
    return list(found.values())


def _measured(group: Group, row: Row) -> list[Line]:
    """The row over the whole gallery, then over folds where there are any."""
    ways: list[tuple[str, Callable[[Run], dict[str, float]]]] = [(protocol(group), lambda run: dict(run.accuracy))]
    if folds(group) is not None:
        ways.append((protocol(group, folded=True), lambda run: dict(run.fold_accuracy)))
    seeds = counted(len(row.runs), "seed") if row.runs else ABSENT
    return [
        Line(
            method=row.name,
            found="measured",
            data=f"{group.data['name']}, {group.data['ranked']}, {name}",
            features=_features(group, row),
            runs=f"ensemble*, {seeds}" if row.is_ensemble else seeds,
            figures={column: _over_seeds([of(run).get(column) for run in row.runs]) for column in TITLES},
            source="these records",
        )
        for name, of in ways
    ]


def _features(group: Group, row: Row) -> str:
    """`36 x 1280`, as the record has it."""
    sides = [run.record.data.get(group.data["ranked"], {}) for run in row.runs]
    side = next((side for side in sides if "regions" in side and "dim" in side), None)
    return ABSENT if side is None else f"{side['regions']} × {side['dim']}"


def _over_seeds(values: Sequence[float | None]) -> tuple[str, str]:
    present = [value for value in values if value is not None]
    if not present:
        return ABSENT, ABSENT
    mean, sd = mean_sd(present)
    return decimals(1)(mean), ABSENT if sd is None else decimals(1)(sd)


def _published(rows: Sequence[Row]) -> list[Line]:
    """What papers say of any of the rows, each line once, in the order of the file."""
    found: dict[int, Published] = {}
    fits: dict[int, str] = {}
    for row in rows:
        for line, fit in about(row.name):
            found[line.line] = line
            if fits.get(line.line) != "this variant":
                fits[line.line] = fit
    return [_quoted(found[number], fits[number]) for number in sorted(found)]


def _quoted(row: Published, fit: str) -> Line:
    name = row["method"] + (f" ({row['variant']})" if row["variant"] else "") + ("*" if row.ensemble else "")
    says = fit if fit in ("variant not stated", "host not stated") else ""
    return Line(
        method=name,
        found="published",
        data=row["dataset"],
        features=", ".join(part for part in (row["image_features"], row["text_encoder"]) if part) or ABSENT,
        runs="ensemble*" if row.ensemble else row.runs,
        figures={name: (row[name] or ABSENT, (name == "rsum" and row["rsum_sd"]) or ABSENT) for name in TITLES},
        source=row["source"],
        note="; ".join(part for part in (says, row["note"]) if part),
    )


def _sheet(lines: Sequence[Line]) -> Sheet:
    notes = list(dict.fromkeys(line.note for line in lines if line.note))
    text, flat = [], []
    for line in lines:
        words = {
            "method": line.method,
            "found": line.found,
            "data": line.data,
            "features": line.features,
            "runs": line.runs,
        }
        shown = {title: _with_sd(line.figures[name]) for name, title in TITLES.items()}
        number = str(notes.index(line.note) + 1) if line.note else ""
        text.append(words | shown | {"source": line.source, "note": number})
        plain = {TITLES[name]: figure for name, (figure, _) in line.figures.items()}
        flat.append(words | plain | {"Rsum sd": line.figures["rsum"][1], "source": line.source, "note": line.note})
    numbered = [f"Note {number}: {note}." for number, note in enumerate(notes, start=1)]
    return Sheet(
        title="Published beside measured",
        text=pd.DataFrame(text, dtype=str),
        flat=pd.DataFrame(flat, dtype=str),
        notes=(LEGEND, *numbered),
        names=5,
    )


def _with_sd(figure: tuple[str, str]) -> str:
    number, sd = figure
    return number if sd == ABSENT else f"{number} ± {sd}"
