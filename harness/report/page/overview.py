"""One page a results folder: the answer in words, the chart, the table, then all else with a list of contents.

Everything is escaped where it enters the page (Jinja2's autoescape); the page asks for nothing but files beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from harness.report.figures import gather
from harness.report.figures.gather import Drawn
from harness.report.formats import Sheet, decimals, interval
from harness.report.page import scripts
from harness.report.page.answer import answer
from harness.report.page.chart import chart
from harness.report.page.choice import wizard
from harness.report.page.table import Published, Table, state_of, table
from harness.report.read.described import data_line, described, settings_line
from harness.report.read.groups import Group
from harness.report.read.runs import Run
from harness.report.read.times import time_axis, timing_conflict, without_time
from harness.report.tables.candidates import candidates
from harness.report.tables.comparison import comparison, conditions, left_out_lines, provenance
from harness.report.tables.headline import headline

TEMPLATES = Path(__file__).parent / "templates"
RETRIEVED = "retrieved.html"
MAIN = "accuracy-time"  # the figure that stands for the chart on paper and without scripts
TOLD = ("seeds", "Rsum", "i2t R@1", "t2i R@1", "encode ms/image", "encode ms/caption", "index bytes/image")
PARTS = {  # heading -> the kinds of figures below it; those that are in none stand under MORE
    "What SelfAlign adds": ("claims",),
    "Training and tuning": ("training", "tuning"),
    "Time and memory": ("stages", "gallery"),
    "Retrieve, then rerank": ("rerank",),
    "Recall at every K": ("ranks",),
}
MORE = "More figures"


def has_chart(groups: Sequence[Group]) -> bool:
    """Whether the page needs the chart's script."""
    return any(gather.points(group) for group in groups)


def html(
    name: str,
    command: str,
    groups: Sequence[Group],
    drawn: Drawn,
    tables: Sequence[str],
    scripts_at: str = "page",
    published: Published | None = None,
    retrieved: bool = False,
) -> str:
    """The page of a folder, the same text for the same records.

    name: of the folder.  command: what makes the page.  tables: file names in tables/.  scripts_at: the folder that the
    scripts lie in, from the page.  published: name of a row -> mappings with a number or None for `rsum`, `i2t_r1`,
    `t2i_r1`, and with `dataset`, `source`, `runs` (single, ensemble, ...) and `image_features` as text; nothing where
    None.  retrieved: whether RETRIEVED lies beside the page.
    """
    sources: list[str] = []
    sections = [
        _section(f"-{place}" if len(groups) > 1 else "", group, drawn, published, sources)
        for place, group in enumerate(groups, start=1)
    ]
    rows = [row for section in sections for row in section["table"].rows]
    shown = {figure["name"] for section in sections for part in section["parts"] for figure in part["figures"]}
    shown |= {section["still"]["name"] for section in sections if section["still"]}
    overview = [name for name in drawn.pictures if name not in shown]
    return (
        _environment()
        .get_template("page.html")
        .render(
            title=name,
            command=command,
            sections=sections,
            families=sorted({row["family"] for row in rows}),
            seeds=sorted({row["seeds"] for row in rows if row["seeds"]}),
            aligned=any(row["aligned"] for row in rows),
            settings_figures=[_figure(name, drawn) for name in overview if not name.startswith("ablation")],
            ablation_figures=[_figure(name, drawn) for name in overview if name.startswith("ablation")],
            absent=drawn.absent,
            sources=sources,
            ablations=[name for name in tables if name.startswith("ablation")],
            tables=list(tables),
            scripts=scripts,
            scripts_at=scripts_at,
            charted=has_chart(groups),
            retrieved=RETRIEVED if retrieved else "",
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
    found = table(group, sheet, published, sources)
    still = f"{MAIN}{number}"
    return {
        "id": f"data{number}",
        "name": f"{group.data['name']}, {group.data['ranked']}" + (f", {told}" if told else ""),
        "about": f"{data_line(group)} {settings_line(group)}",
        "answer": answer(headline(group)),
        "choice": wizard(candidates(group)),
        "chart": _chart(group, sheet, found),
        "chart_words": _chart_words(group),
        "still": _figure(still, drawn) if still in drawn.pictures else None,
        "table": found,
        "notes": [note for note in sheet.notes if note not in left_out_lines(group)],
        "left_out": [_left_out(run) for run in group.left_out],
        "parts": _parts(number, drawn),
        "sheets": [_plain(conditions(group)), _plain(provenance(group))],
    }


def _figure(name: str, drawn: Drawn) -> dict[str, str]:
    return {"name": name, "title": drawn.pictures[name].title, "caption": drawn.pictures[name].caption}


def _parts(number: str, drawn: Drawn) -> list[dict[str, Any]]:
    """The figures of a group under their headings; headings without any are left out."""
    other = tuple(kind for kind in gather.KINDS if kind != MAIN and not any(kind in kinds for kinds in PARTS.values()))
    found = []
    for place, (title, kinds) in enumerate({**PARTS, MORE: other}.items(), start=1):
        figures = [_figure(name, drawn) for kind in kinds if (name := f"{kind}{number}") in drawn.pictures]
        if figures:
            found.append({"id": f"part{number}-{place}", "title": title, "figures": figures})
    return found


def _chart(group: Group, sheet: Sheet, found: Table) -> dict[str, Any] | None:
    """The chart as plotly takes it; None where there is nothing to draw."""
    if not (points := gather.points(group)):
        return None
    numbers = {str(cells["method"]): cells for cells in sheet.text.to_dict("records")}
    told = {point.name: _told(point, numbers[point.row]) for point in points}
    rows = {row["name"]: row for row in found.rows}
    return chart(points, told, gather.chance(group), rows, time_axis(group.rows))


def _told(point: Any, cells: Mapping[Any, Any]) -> dict[str, str]:
    """What the hover of a point says of its row."""
    if point.serves:
        return {"Rsum, derived": decimals(1)(point.rsum), "of exact scores": str(cells["Rsum"])}
    lines = {name: str(cells[name]) for name in TOLD if name in cells}
    return lines | {"95% interval of Rsum": interval(point.interval)} if point.interval else lines


def _chart_words(group: Group) -> str:
    drawn = {point.name for point in gather.points(group)}
    if conflict := timing_conflict(group.rows):
        return f"No chart. {conflict}"
    if not drawn:
        return "No chart: no method has both ranks and times."
    missing = [row.name for row in group.rows if row.name not in drawn and not row.is_scale]
    bars = "Bars: 95% interval of the mean over seeds, where there are several. Hollow: two models together."
    lost = f"Not drawn, without ranks or times: {', '.join(missing)}." if missing else ""
    return " ".join(part for part in (bars, lost, without_time(group.rows)) if part)


def _left_out(run: Run) -> dict[str, str]:
    return {"state": state_of(run), "text": f"{run.job.name} ({run.record.key}): {run.problem}"}


def _plain(sheet: Sheet) -> dict[str, Any]:
    lines = [[str(cell) for cell in line] for line in sheet.text.itertuples(index=False)]
    return {"title": sheet.title, "columns": sheet.columns, "lines": lines}
