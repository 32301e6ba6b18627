"""What is made of a results folder's records: tables, figures and the page; written, or compared with what lies there.

FOLDER/tables/*.md *.csv *.tex    FOLDER/figures/*.svg *.png    FOLDER/index.html    FOLDER/plotly.min.js

Tables and the page are the same bytes for the same records, and the figures look the same; the bytes of a PNG depend on
a compression library, so it is never compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness import ROOT
from harness.record import Store, remove_leftovers, write_atomically
from harness.report.alike import alike
from harness.report.figures import gather
from harness.report.figures.gather import Drawn
from harness.report.formats import csv, latex, markdown
from harness.report.page import overview
from harness.report.read.described import header_lines, shown
from harness.report.read.groups import Group, collect
from harness.report.read.published import rows_for
from harness.report.tables import comparison
from harness.report.tables.ablations import ablation_sheets
from harness.report.tables.claims import claims_sheet
from harness.report.tables.operators import operators_sheet
from harness.report.tables.precision import precision_sheet
from harness.report.tables.published_beside import beside
from harness.report.tables.reranking import rerank_sheets
from harness.report.tables.search_index import approximate_search
from harness.report.tables.single_queries import single_queries

KINDS = (".md", ".csv", ".tex")
PICTURES = (".svg", ".png")
SHARED = ROOT / "results" / "reference"  # results that lie together share one script, which is larger than all of them


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
    page: Mapping[str, bytes]  # with its script
    absent: tuple[str, ...]

    @property
    def all(self) -> dict[str, bytes]:
        return {**self.tables, **self.figures, **self.page}


def make(folder: Path, groups: Sequence[Group]) -> Made:
    """Tables, figures and the page of the records."""
    made, drawn = texts(folder, groups), gather.draw(groups)
    script = f"../{overview.SCRIPT}" if folder.resolve().parent == SHARED else overview.SCRIPT
    command = f"python -m harness.report {shown(folder)}"
    html = overview.html(folder.resolve().name, command, groups, drawn, sorted(made), script, rows_for)
    return Made(
        tables={f"tables/{name}": text.encode() for name, text in made.items()},
        figures={f"figures/{name}": data for name, data in _pictures(drawn).items()},
        page={"index.html": html.encode()} | ({script: overview.script()} if overview.has_chart(groups) else {}),
        absent=drawn.absent,
    )


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
    found: dict[str, str] = {}
    for place, group in enumerate(groups, start=1):
        number = f"-{place}" if len(groups) > 1 else ""
        header = header_lines(group, folder)
        for name, sheet in (
            ("comparison", comparison.comparison(group)),
            ("comparison-folds", comparison.fold_comparison(group)),
            ("published", beside(group)),
        ):
            if sheet is not None:
                sheet = replace(sheet, header=header)
                found |= {
                    f"{name}{number}{kind}": made(sheet)
                    for kind, made in zip(KINDS, (markdown, csv, latex), strict=True)
                }
        found[f"summary{number}.md"] = markdown(replace(comparison.summary(group), header=header))
        claims = replace(claims_sheet(group), header=header)
        found |= {f"claims{number}.md": markdown(claims), f"claims{number}.csv": csv(claims)}
        if (rounded := precision_sheet(group)) is not None:
            found[f"precision{number}.md"] = markdown(replace(rounded, header=header))
        if (operators := operators_sheet(group)) is not None:
            found[f"operators{number}.md"] = markdown(replace(operators, header=header))
        if (reranks := rerank_sheets(group.reranks)) is not None:
            few, every = reranks
            found |= {f"rerank{number}.md": markdown(replace(few, header=header)), f"rerank{number}.csv": csv(every)}
        for name, sheet in (
            ("single-query", single_queries(group)),
            ("approximate-search", approximate_search(group, Store(folder))),
        ):
            if sheet is not None:
                found |= {
                    f"{name}{number}.md": markdown(replace(sheet, header=header)),
                    f"{name}{number}.csv": csv(sheet),
                }
        shared = replace(comparison.conditions(group), header=header)
        found[f"settings{number}.md"] = "\n".join([markdown(shared), markdown(comparison.provenance(group), level=2)])
    made_by = (f"Made by `python -m harness.report {shown(folder)}`.",)
    for name, sheet in ablation_sheets(groups).items():
        sheet = replace(sheet, header=(" ".join([*sheet.header, *made_by]),))
        found |= {f"ablation-{name}.md": markdown(sheet), f"ablation-{name}.csv": csv(sheet)}
    swept = comparison.sweep(groups)
    if swept is not None:
        found |= {"sweep.md": markdown(replace(swept, header=made_by)), "sweep.csv": csv(swept)}
    return found


def write(folder: Path, groups: Sequence[Group]) -> Made:
    """Makes all of it anew, without what no longer belongs there.  Raises OSError."""
    made = make(folder, groups)
    remove_leftovers(folder, folder / "tables", folder / "figures", SHARED)
    for name, data in made.all.items():
        write_atomically(folder / name, lambda file, data=data: file.write(data))
    for name in _stored(folder) - made.all.keys():
        (folder / name).unlink()
    return made


def check(folder: Path) -> Difference:
    """Compares what is stored with the records.  Raises RecordError and OSError.

    Figures and pages that are not there are not missing: they can be made again, and a copy may be kept without them.
    """
    whole = make(folder, collect(folder))
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
        return alike(path.read_bytes(), made[name])
    return path.read_bytes() == made[name]


def _stored(folder: Path) -> set[str]:
    """What was made of the folder before; paths from it."""
    places = (("tables", KINDS), ("figures", PICTURES))
    found = {
        f"{place}/{path.name}"
        for place, kinds in places
        for path in (folder / place).glob("[!.]*")
        if path.suffix in kinds
    }
    return found | {name for name in ("index.html", overview.SCRIPT) if (folder / name).is_file()}
