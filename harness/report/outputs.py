"""What is made of a results folder's records: tables, figures and the page; written, or compared with what lies there.

FOLDER/tables/*.md *.csv *.tex    FOLDER/figures/*.svg *.png    FOLDER/index.html    page/*, which the page loads
FOLDER/slides/*.png, where they are asked for

Tables and the page are the same bytes for the same records, and the figures look the same; the bytes of a PNG depend on
a compression library, so it is never compared.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness import ROOT
from harness.atomic import remove_leftovers, write_atomically
from harness.report.alike import alike
from harness.report.figures import gather
from harness.report.figures.gather import FIGURES, Drawn
from harness.report.figures.sketch import unsealed
from harness.report.formats import csv, latex, markdown
from harness.report.page import overview, scripts
from harness.report.read.described import header_lines, shown
from harness.report.read.groups import Group, collect
from harness.report.read.published import rows_for
from harness.report.tables import comparison, papers
from harness.report.tables.ablations import ablation_sheets
from harness.report.tables.additions import additions_sheet
from harness.report.tables.checklist import checklist
from harness.report.tables.extended import extended_sheet
from harness.report.tables.gap import gap_sheet
from harness.report.tables.judged import judged_sheet
from harness.report.tables.operators import operators_sheet
from harness.report.tables.precision import precision_sheet
from harness.report.tables.published_beside import beside
from harness.report.tables.reranking import rerank_sheets
from harness.report.tables.search_index import approximate_search
from harness.report.tables.sharing import sharing_sheet
from harness.report.tables.single_queries import single_queries
from harness.report.tables.tuning import tuning_sheet
from harness.store import Store
from harness.tuned import kept

KINDS = (".md", ".csv", ".tex")
PICTURES = (".svg", ".png")
SLIDES = "slides"  # a folder of the results folder, where it is asked for; what lies there is not checked
SHARED = ROOT / "results"  # all that lies below it shares one copy of what its pages load
SCRIPTS = "page"  # the folder of that copy
OLD = ("plotly.min.js",)  # what pages of earlier versions loaded


@dataclass(frozen=True)
class Difference:
    """How a folder differs from what its records say; paths from the folder."""

    stale: tuple[str, ...]
    missing: tuple[str, ...]
    surplus: tuple[str, ...]


@dataclass(frozen=True)
class Made:
    """Everything made of a folder: path from the folder -> bytes, and what could not be drawn."""

    tables: Mapping[str, bytes]
    figures: Mapping[str, bytes]
    page: Mapping[str, bytes]  # with what it loads
    absent: tuple[str, ...]

    @property
    def all(self) -> dict[str, bytes]:
        return {**self.tables, **self.figures, **self.page}


def make(folder: Path, groups: Sequence[Group], *, png: bool = True) -> Made:
    """Tables, figures and the page of the records.  png: whether PNGs must be those of the figures."""
    made, drawn = texts(folder, groups), gather.draw(groups, folder, png=png)
    at, command = scripts_at(folder), f"python -m harness.report {shown(folder)}"
    retrieved = (folder / overview.RETRIEVED).is_file()
    html = overview.html(folder.resolve().name, command, groups, drawn, sorted(made), at, rows_for, retrieved)
    loaded = scripts.files(overview.has_chart(groups))
    return Made(
        tables={f"tables/{name}": text.encode() for name, text in made.items()},
        figures={f"{FIGURES}/{name}": data for name, data in _pictures(drawn).items()},
        page={"index.html": html.encode()} | {f"{at}/{name}": data for name, data in loaded.items()},
        absent=drawn.absent,
    )


def scripts_at(folder: Path) -> str:
    """The folder of what the page of a results folder loads, from that folder: shared by all that lie together."""
    home = folder.resolve()
    return Path(os.path.relpath(SHARED / SCRIPTS, home)).as_posix() if home.is_relative_to(SHARED) else SCRIPTS


def _pictures(drawn: Drawn) -> dict[str, bytes]:
    return {
        f"{name}{kind}": data
        for name, picture in drawn.pictures.items()
        for kind, data in zip(PICTURES, (picture.svg, picture.png), strict=True)
    }


def texts(folder: Path, groups: Sequence[Group]) -> dict[str, str]:
    """File name -> text, the same bytes for the same records.

    Groups whose settings differ get files of their own, numbered.
    """
    suite = " ".join(sorted({asked.suite for asked in Store(folder).asked()}))
    found = {"runs.csv": csv(papers.runs_sheet(groups, suite))}
    for place, group in enumerate(groups, start=1):
        number = f"-{place}" if len(groups) > 1 else ""
        header = header_lines(group, folder)
        for name, sheet in (
            ("comparison", papers.identified(comparison.comparison(group), group, suite)),
            (
                "comparison-folds",
                (folded := comparison.fold_comparison(group)) and papers.identified(folded, group, suite),
            ),
            ("published", beside(group)),
        ):
            if sheet is not None:
                sheet = replace(sheet, header=header)
                found |= {
                    f"{name}{number}{kind}": made(sheet)
                    for kind, made in zip(KINDS, (markdown, csv, latex), strict=True)
                }
        found[f"summary{number}.md"] = markdown(replace(comparison.summary(group), header=header))
        found[f"summary{number}.tex"] = papers.summary_tex(group, header)
        first, *behind = checklist(group)
        told = [markdown(replace(first, header=header)), *(markdown(sheet, level=2) for sheet in behind)]
        found |= {f"claims{number}.md": "\n".join(told), f"claims{number}.csv": csv(first)}
        if (rounded := precision_sheet(group)) is not None:
            found[f"precision{number}.md"] = markdown(replace(rounded, header=header))
        if (operators := operators_sheet(group)) is not None:
            found[f"operators{number}.md"] = markdown(replace(operators, header=header))
        if (reranks := rerank_sheets(group.reranks)) is not None:
            few, every = reranks
            found |= {f"rerank{number}.md": markdown(replace(few, header=header)), f"rerank{number}.csv": csv(every)}
        for name, sheet in (
            ("gap-closed", gap_sheet(group)),
            ("additions", additions_sheet(group)),
            ("single-query", single_queries(group)),
            ("extended", extended_sheet(group, Store(folder))),
            ("judged", judged_sheet(group, Store(folder))),
            ("approximate-search", approximate_search(group)),
        ):
            if sheet is not None:
                found |= {
                    f"{name}{number}.md": markdown(replace(sheet, header=header)),
                    f"{name}{number}.csv": csv(sheet),
                }
        shared = replace(comparison.conditions(group), header=header)
        found[f"settings{number}.md"] = "\n".join([markdown(shared), markdown(comparison.provenance(group), level=2)])
    found |= _of_tuning(folder, groups)
    made_by = (f"Made by `python -m harness.report {shown(folder)}`.",)
    for name, sheet in ablation_sheets(groups).items():
        sheet = replace(sheet, header=(" ".join([*sheet.header, *made_by]),))
        found |= {f"ablation-{name}.md": markdown(sheet), f"ablation-{name}.csv": csv(sheet)}
    swept = comparison.sweep(groups)
    if swept is not None:
        found |= {"sweep.md": markdown(replace(swept, header=made_by)), "sweep.csv": csv(swept)}
    return found


def _of_tuning(folder: Path, groups: Sequence[Group]) -> dict[str, str]:
    """How settings were chosen and what sharing them would cost: of what the rows have them from, in a folder of trials
    of what came of those."""
    values = {value.key: value for group in groups for value in group.tuning} or kept(folder)
    found: dict[str, str] = {}
    for place, (key, value) in enumerate(sorted(values.items()), start=1):
        number = f"-{place}" if len(values) > 1 else ""
        header = (f"Trials on the dev split of {value.data['name']}, value {key}.",)
        for name, sheet in (("tuning", tuning_sheet(value)), ("sharing", sharing_sheet(value))):
            if sheet is not None:
                sheet = replace(sheet, header=header)
                found |= {f"{name}{number}.md": markdown(sheet), f"{name}{number}.csv": csv(sheet)}
    return found


def write(folder: Path, groups: Sequence[Group]) -> Made:
    """Makes all of it anew, without what no longer belongs there.  Raises OSError."""
    made = make(folder, groups)
    remove_leftovers(folder, folder / "tables", folder / FIGURES, folder / scripts_at(folder))
    for name, data in made.all.items():
        write_atomically(folder / name, lambda file, data=data: file.write(data))
    for name in _stored(folder) - made.all.keys():
        (folder / name).unlink()
    return made


def write_slides(folder: Path, groups: Sequence[Group]) -> tuple[str, ...]:
    """The figures as PNGs that fill a slide, in place of those that lie there; their names.  Raises OSError."""
    place = folder / SLIDES
    sketches, _ = gather.sketched(groups)
    drawn = {f"{name}.png": sketch.draw(slide=True).png for name, sketch in sketches.items()}
    remove_leftovers(place)
    for name, data in drawn.items():
        write_atomically(place / name, lambda file, data=data: file.write(data))
    for path in place.glob("*.png"):
        if path.name not in drawn:
            path.unlink()
    return tuple(drawn)


def check(folder: Path) -> Difference:
    """Compares what is stored with the records.  Raises RecordError and OSError.

    Figures and pages that are not there are not missing: they can be made again, and a copy may be kept without them.
    """
    whole = make(folder, collect(folder), png=False)
    made = whole.all
    stored = _stored(folder) | {name for name in made if (folder / name).is_file()}
    return Difference(
        stale=tuple(name for name in sorted(made.keys() & stored) if not _is_fresh(folder / name, name, made)),
        missing=tuple(sorted(whole.tables.keys() - stored)),
        surplus=tuple(sorted(stored - made.keys())),
    )


def _is_fresh(path: Path, name: str, made: Mapping[str, bytes]) -> bool:
    if path.suffix == ".png":
        return True
    if path.suffix == ".svg":
        return alike(unsealed(path.read_bytes()), unsealed(made[name]))
    return path.read_bytes() == made[name]


def _stored(folder: Path) -> set[str]:
    """What was made of the folder before; paths from it."""
    places = (("tables", KINDS), (FIGURES, PICTURES))
    found = {
        f"{place}/{path.name}"
        for place, kinds in places
        for path in (folder / place).glob("[!.]*")
        if path.suffix in kinds
    }
    own = [*OLD, "index.html", *(f"{SCRIPTS}/{path.name}" for path in (folder / SCRIPTS).glob("[!.]*"))]
    return found | {name for name in own if (folder / name).is_file()}
