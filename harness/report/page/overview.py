"""One page a results folder: the chart, the table to sort and filter, the figures, what failed, how it was made.

Everything is escaped where it enters the page (Jinja2's autoescape); the page asks for nothing but files beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.resources import files as resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from harness.report.figures import gather
from harness.report.figures.gather import Drawn
from harness.report.formats import ABSENT, Sheet, interval
from harness.report.page.chart import chart
from harness.report.read.described import data_line, described, settings_line
from harness.report.read.groups import Group
from harness.report.read.rows import Row
from harness.report.read.runs import Run
from harness.report.tables.comparison import comparison, conditions, left_out_lines, provenance, timing_conflict

TEMPLATES = Path(__file__).parent / "templates"
SCRIPT = "plotly.min.js"
TOLD = ("seeds", "Rsum", "i2t R@1", "t2i R@1", "encode ms/image", "encode ms/caption", "index bytes/image")
CLAIMED = {"rsum": "Rsum", "i2t_r1": "i2t R@1", "t2i_r1": "t2i R@1"}  # figure as published -> the column it is beside
Published = Callable[[str], Sequence[Mapping[str, Any]]]  # name of a row -> what papers say of it


def script() -> bytes:
    """The charting library, as its package ships it."""
    return (resources("plotly") / "package_data" / SCRIPT).read_bytes()


def has_chart(groups: Sequence[Group]) -> bool:
    """Whether the page needs the script."""
    return any(gather.points(group) for group in groups)


def html(
    name: str,
    command: str,
    groups: Sequence[Group],
    drawn: Drawn,
    tables: Sequence[str],
    script_at: str = SCRIPT,
    published: Published | None = None,
) -> str:
    """The page of a folder, the same text for the same records.

    name: of the folder.  command: what makes the page.  tables: file names in tables/.  script_at: where the script
    lies, from the page.  published: name of a row -> mappings with a number or None for `rsum`, `i2t_r1`, `t2i_r1`, and
    with `dataset`, `source`, `runs` (single, ensemble, ...) and `image_features` as text; nothing where None.
    """
    sources: list[str] = []
    sections = [
        _section(f"-{place}" if len(groups) > 1 else "", group, drawn, published, sources)
        for place, group in enumerate(groups, start=1)
    ]
    rows = [row for section in sections for row in section["rows"]]
    shown = {figure["name"] for section in sections for figure in section["figures"]}
    return (
        _environment()
        .get_template("page.html")
        .render(
            title=name,
            command=command,
            sections=sections,
            families=sorted({row["family"] for row in rows}),
            seeds=sorted({row["seeds"] for row in rows if row["seeds"]}),
            overview=[_figure(name, drawn) for name in drawn.pictures if name not in shown],
            absent=drawn.absent,
            sources=sources,
            ablations=[table for table in tables if table.startswith("ablation")],
            tables=list(tables),
            script=script_at,
            charted=has_chart(groups),
        )
    )


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )


def _section(
    number: str, group: Group, drawn: Drawn, published: Published | None, sources: list[str]
) -> dict[str, Any]:
    """Everything the template says of one group."""
    sheet = comparison(group)
    told = described(group.differs).replace("`", "")
    points = gather.points(group)
    columns, rows = _table(group, sheet, published, sources)
    numbers = {str(cells["method"]): dict(cells) for cells in sheet.text.to_dict("records")}
    return {
        "id": f"data{number}",
        "name": f"{group.data['name']}, {group.data['ranked']}" + (f", {told}" if told else ""),
        "about": f"{data_line(group)} {settings_line(group)}",
        "chart": chart(points, {p.name: _told(p, numbers[p.name]) for p in points}, gather.chance(group))
        if points
        else None,
        "chart_words": _chart_words(group, {p.name for p in points}),
        "columns": columns,
        "rows": rows,
        "notes": [note for note in sheet.notes if note not in left_out_lines(group)],
        "left_out": [_left_out(run) for run in group.left_out],
        "figures": [_figure(f"{kind}{number}", drawn) for kind in gather.KINDS if f"{kind}{number}" in drawn.pictures],
        "sheets": [_plain(conditions(group)), _plain(provenance(group))],
    }


def _figure(name: str, drawn: Drawn) -> dict[str, str]:
    return {"name": name, "title": drawn.pictures[name].title, "caption": drawn.pictures[name].caption}


def _told(point: Any, cells: Mapping[Any, Any]) -> dict[str, str]:
    """What the hover of a point says of its row."""
    lines = {name: str(cells[name]) for name in TOLD if name in cells}
    return lines | {"95% interval of Rsum": interval(point.interval)} if point.interval else lines


def _chart_words(group: Group, drawn: set[str]) -> str:
    if conflict := timing_conflict(group.rows):
        return f"No chart. {conflict}"
    if not drawn:
        return "No chart: no method has both ranks and times."
    missing = [row.name for row in group.rows if row.name not in drawn and not row.is_floor]
    bars = "Bars: 95% interval of the mean over seeds, where there are several."
    return f"{bars} Not drawn, without ranks or times: {', '.join(missing)}." if missing else bars


def _table(
    group: Group, sheet: Sheet, published: Published | None, sources: list[str]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Columns and rows of the comparison, with the state of every row and what is published of it."""
    by_name = {row.name: row for row in group.rows}
    states = _states(group)
    claims = {name: published(name) if published is not None else () for name in by_name}
    claimed = [f for f in CLAIMED if any(line.get(f) is not None for lines in claims.values() for line in lines)]
    columns = [
        {"title": "state" if title == STATE else title, "number": title != STATE and place >= sheet.names - 1}
        for place, title in enumerate(_titles(sheet))
    ]
    columns += [{"title": f"published {CLAIMED[figure]}", "number": True} for figure in claimed]
    rows = []
    for place, cells in enumerate(sheet.text.to_dict("records")):
        name = str(cells["method"])
        row, (state, words) = by_name.get(name), states.get(name, ("ok", "ok"))
        shown = [
            _cell(words, "", "status")
            if title == STATE
            else _cell(
                str(cells[title]),
                _sort_value(sheet, place, title),
                f"{'' if column < sheet.names - 1 else 'number '}{sheet.marks.get((place, title), '')}".strip(),
            )
            for column, title in enumerate(_titles(sheet))
        ]
        lines = sorted(claims.get(name, ()), key=lambda line: line.get("dataset") != group.data["name"])
        shown += [_claims(lines, figure, sources) for figure in claimed]
        rows.append(
            {
                "name": name,
                "family": gather.family(row) if row else str(cells["family"]),
                "seeds": len(row.runs) if row else 0,
                "state": state,
                "cells": shown,
            }
        )
    return columns, rows


STATE = "\0state"  # no column of a sheet is called so


def _titles(sheet: Sheet) -> list[str]:
    """The columns of the sheet, the state of a row after those that name it."""
    return [*sheet.columns[: sheet.names], STATE, *sheet.columns[sheet.names :]]


def _cell(text: str, sort: str, look: str) -> dict[str, Any]:
    return {"text": text, "sort": sort or text, "look": look, "claims": []} | ({"sort": ""} if text == ABSENT else {})


def _sort_value(sheet: Sheet, place: int, title: str) -> str:
    """The number of a cell where it has one alone, else its text."""
    value = str(sheet.flat[title].iloc[place]) if title in sheet.flat else str(sheet.text[title].iloc[place])
    return "" if value == ABSENT else value


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
            words_said = ", ".join(str(word) for word in words if word)
            found.append({"value": line[figure], "words": words_said, "source": sources.index(source) + 1})
    first = str(found[0]["value"]) if found else ""
    return {"text": ABSENT, "sort": first, "look": "number published", "claims": found}


def _states(group: Group) -> dict[str, tuple[str, str]]:
    """Row -> its state and the same in words: runs that failed, are stale or lack ranks are told, not hidden."""
    found = {}
    for row in group.rows:
        mine = [run for run in group.left_out if _row_of(run, group.rows) is row]
        kinds = [state_of(run) for run in mine]
        counts = [f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds)]
        if not mine:
            found[row.name] = ("ok", "ok")
        elif row.runs:
            found[row.name] = ("partly", ", ".join([f"{len(row.runs)} ok", *counts]))
        else:
            found[row.name] = (
                kinds[0],
                ", ".join(counts) + f": {mine[0].problem.partition(': ')[2] or mine[0].problem}",
            )
    return found


def _row_of(run: Run, rows: Sequence[Row]) -> Row | None:
    same = [row for row in rows if row.model == run.job.model]
    return next(iter(same or [row for row in rows if row.model.label == run.job.model.label]), None)


def state_of(run: Run) -> str:
    """Why a run is left out, in one word: failed, stale, missing (its ranks are) or double."""
    word = run.problem.partition(":")[0]
    return word if word in ("failed", "stale") else "double" if run.ranks is not None else "missing"


def _left_out(run: Run) -> dict[str, str]:
    return {"state": state_of(run), "text": f"{run.job.name} ({run.record.key}): {run.problem}"}


def _plain(sheet: Sheet) -> dict[str, Any]:
    lines = [[str(cell) for cell in line] for line in sheet.text.itertuples(index=False)]
    return {"title": sheet.title, "columns": sheet.columns, "lines": lines}
