"""The comparison as the page's table takes it: every row with its kind and state, every column with its best end.

Plain values, the same for the same records; the page shows them as text alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.report.formats import ABSENT, Sheet, significant, six_figures
from harness.report.read.groups import Group
from harness.report.read.rows import Row
from harness.report.read.runs import Run
from harness.report.read.times import GALLERY, QueryTime, index_mib, query_times, shown_ms
from harness.report.tables.comparison import timing_conflict

CLAIMED = {"rsum": "Rsum", "i2t_r1": "i2t R@1", "t2i_r1": "t2i R@1"}  # figure as published -> the column it is beside
TIME, INDEX = "ms per query", "index MiB"
FIRST = ("method", "Rsum", "i2t R@1", "t2i R@1", TIME, INDEX, "seeds")  # shown until others are chosen
ABOUT = {
    TIME: f"one caption, encoded and then searched among {GALLERY:,} encoded images, median",
    INDEX: f"kept for {GALLERY:,} images",
    "Rsum": "the six recalls added up, mean ± standard deviation over seeds; 600 is perfect",
    "seeds": "training runs behind the row",
}
Published = Callable[[str], Sequence[Mapping[str, Any]]]  # name of a row -> what papers say of it


@dataclass(frozen=True)
class Table:
    """What stands in one table."""

    columns: tuple[dict[str, Any], ...]  # title, number (is it one?), better ("higher", "lower", ""), first, about
    rows: tuple[dict[str, Any], ...]  # name, family, kind, aligned, seeds, state, words, cells: one a column

    @property
    def first(self) -> list[int]:
        """Places of the columns that are shown until others are chosen."""
        return [place for place, column in enumerate(self.columns) if column["first"]]

    @property
    def best_first(self) -> list[dict[str, Any]]:
        """Rows by Rsum, single models before ensembles, those without one last."""
        at = [column["title"] for column in self.columns].index("Rsum")
        return sorted(
            self.rows, key=lambda row: (row["kind"] == ENSEMBLE, -(row["cells"][at]["sort"] or 0.0), row["name"])
        )


SINGLE, ENSEMBLE = "one model", "several models together"


def table(group: Group, sheet: Sheet, published: Published | None, sources: list[str]) -> Table:
    """sheet: the comparison of the group.  sources: of what is published; those that are new are added."""
    by_name = {row.name: row for row in group.rows}
    states = _states(group)
    claims = {name: published(name) if published is not None else () for name in by_name}
    claimed = [f for f in CLAIMED if any(line.get(f) is not None for lines in claims.values() for line in lines)]
    times = query_times(group.rows, GALLERY)
    own = () if timing_conflict(group.rows) else (TIME, INDEX)
    titles = [
        *(title for title in FIRST if title in sheet.columns or title in own),
        *(title for title in sheet.columns if title not in (*FIRST, *own)),
    ]
    better = {**sheet.better, TIME: "lower", INDEX: "lower"}
    words = set(sheet.columns[: sheet.names]) - {"seeds"}
    columns = [
        {
            "title": title,
            "number": title not in words,
            "better": better.get(title, ""),
            "first": title in FIRST,
            "about": ABOUT.get(title, ""),
        }
        for title in titles
    ] + [
        {"title": f"published {CLAIMED[f]}", "number": True, "better": "higher", "first": False, "about": "as printed"}
        for f in claimed
    ]
    rows = []
    for place, cells in enumerate(sheet.text.to_dict("records")):
        name = str(cells["method"])
        row, (state, said) = by_name.get(name), states.get(name, ("ok", ""))
        lines = sorted(claims.get(name, ()), key=lambda line: line.get("dataset") != group.data["name"])
        rows.append(
            {
                "name": name,
                "family": str(cells["family"]),
                "kind": ENSEMBLE if row and row.is_ensemble else SINGLE,
                "aligned": bool(row and row.model.selfalign is not None),
                "seeds": len(row.runs) if row else 0,
                "state": state,
                "words": said,
                "cells": [
                    *(_own(row, title, times) if title in own else _cell(sheet, place, title) for title in titles),
                    *(_claims(lines, figure, sources) for figure in claimed),
                ],
            }
        )
    return Table(tuple(columns), tuple(rows))


def _cell(sheet: Sheet, place: int, title: str) -> dict[str, Any]:
    """A cell of the sheet: its text, its number (None where it has none), its mark and standard deviation."""
    sd = f"{title} sd"
    return {
        "text": str(sheet.text[title].iloc[place]),
        "sort": _number(sheet, place, title),
        "look": sheet.marks.get((place, title), ""),
    } | ({"sd": _number(sheet, place, sd)} if sd in sheet.flat else {})


def _number(sheet: Sheet, place: int, title: str) -> float | None:
    if title not in sheet.flat:
        return None
    try:
        return float(sheet.flat[title].iloc[place])
    except ValueError:
        return None


def _own(row: Row | None, title: str, times: Mapping[str, QueryTime]) -> dict[str, Any]:
    """A cell of a column that is the page's alone.  times: of single queries, by the name of the row."""
    text, sort = ABSENT, None
    if row is not None and title == INDEX and (mib := index_mib(row.cost)) is not None:
        text, sort = significant(mib), six_figures(mib)
    if row is not None and title == TIME and row.name in times:
        text, sort = shown_ms(times[row.name]), six_figures(times[row.name].ms)
    return {"text": text, "sort": sort, "look": ""}


def _claims(lines: Sequence[Mapping[str, Any]], figure: str, sources: list[str]) -> dict[str, Any]:
    """A cell of published numbers, each with what it rests on and the number of its source."""
    found = []
    for line in lines:
        if line.get(figure) is not None:
            source = str(line.get("source") or "no source stated")
            if source not in sources:
                sources.append(source)
            features = line.get("image_features")
            words = (
                line.get("dataset"),
                line.get("runs"),
                f"other features: {features}" if features else "",
                line.get("fit"),
            )
            told = ", ".join(str(word) for word in words if word)
            found.append({"value": line[figure], "words": told, "source": sources.index(source) + 1})
    text = "; ".join(f"{claim['value']} ({claim['words']}, source {claim['source']})" for claim in found)
    first = float(found[0]["value"]) if found else None
    return {"text": text or ABSENT, "sort": first, "look": "published", "claims": found}


def _states(group: Group) -> dict[str, tuple[str, str]]:
    """Row -> its state and the same in words: runs that failed, are stale or lack ranks are told, not hidden."""
    found = {}
    for row in group.rows:
        mine = [run for run in group.left_out if _row_of(run, group.rows) is row]
        kinds = [state_of(run) for run in mine]
        counts = [f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds)]
        if not mine:
            continue
        if row.runs:
            found[row.name] = ("partly", ", ".join([f"{len(row.runs)} ok", *counts]))
        else:
            why = mine[0].problem.partition(": ")[2] or mine[0].problem
            found[row.name] = (kinds[0], f"{', '.join(counts)}: {why}")
    return found


def _row_of(run: Run, rows: Sequence[Row]) -> Row | None:
    same = [row for row in rows if row.model == run.job.model]
    return next(iter(same or [row for row in rows if row.model.label == run.job.model.label]), None)


def state_of(run: Run) -> str:
    """Why a run is left out, in one word: failed, stale, missing (its ranks are) or double."""
    word = run.problem.partition(":")[0]
    return word if word in ("failed", "stale") else "double" if run.ranks is not None else "missing"
