"""The table files of a results folder: their text from the records, written, or compared with what lies there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness import ROOT
from harness.record import Store, write_atomically
from harness.report import tables
from harness.report.claims import claims_sheet
from harness.report.collect import Group, collect
from harness.report.index_tables import approximate_search
from harness.report.query_tables import single_queries
from harness.report.sheet import ABSENT, csv, latex, markdown

KINDS = (".md", ".csv", ".tex")


@dataclass(frozen=True)
class Difference:
    """How FOLDER/tables differs from what the records say; file names."""

    stale: tuple[str, ...]
    missing: tuple[str, ...]
    surplus: tuple[str, ...]


def texts(folder: Path, groups: Sequence[Group]) -> dict[str, str]:
    """File name -> text, the same bytes for the same records.

    Groups whose settings differ get files of their own, numbered.
    """
    found: dict[str, str] = {}
    for place, group in enumerate(groups, start=1):
        number = f"-{place}" if len(groups) > 1 else ""
        header = header_lines(group, folder)
        for name, sheet in (
            ("comparison", tables.comparison(group)),
            ("comparison-folds", tables.fold_comparison(group)),
        ):
            if sheet is not None:
                sheet = replace(sheet, header=header)
                found |= {
                    f"{name}{number}{kind}": made(sheet)
                    for kind, made in zip(KINDS, (markdown, csv, latex), strict=True)
                }
        found[f"summary{number}.md"] = markdown(replace(tables.summary(group), header=header))
        claims = replace(claims_sheet(group), header=header)
        found |= {f"claims{number}.md": markdown(claims), f"claims{number}.csv": csv(claims)}
        for name, sheet in (
            ("single-query", single_queries(group)),
            ("approximate-search", approximate_search(group, Store(folder))),
        ):
            if sheet is not None:
                found |= {
                    f"{name}{number}.md": markdown(replace(sheet, header=header)),
                    f"{name}{number}.csv": csv(sheet),
                }
        shared = replace(tables.conditions(group), header=header)
        found[f"settings{number}.md"] = "\n".join([markdown(shared), markdown(tables.provenance(group), level=2)])
    swept = tables.sweep(groups)
    if swept is not None:
        made_by = (f"Made by `python -m harness.report {shown(folder)}`.",)
        found |= {"sweep.md": markdown(replace(swept, header=made_by)), "sweep.csv": csv(swept)}
    return found


def header_lines(group: Group, folder: Path) -> tuple[str, ...]:
    """Which data, which seeds, how to make the file again; and in what this group differs from the others."""
    ranked = group.data["ranked"]
    counts = next((run.record.data[ranked] for run in [*group.runs, *group.left_out] if ranked in run.record.data), {})
    seeds = sorted({run.seed for run in group.runs})
    what = (
        f"Data {group.data['name']}, split {ranked}: "
        f"{counts.get('images', ABSENT)} images, {counts.get('captions', ABSENT)} captions; "
        f"seeds {', '.join(map(str, seeds)) or ABSENT}. Made by `python -m harness.report {shown(folder)}`."
    )
    lines = [what]
    if group.differs:
        lines.append(f"Only records with {described(group.differs)}.")
    if group.data["name"] != "scenes":
        lines.append("Not comparable with published numbers unless features and splits are the published ones.")
    return tuple(lines)


def described(differs: Mapping[str, object]) -> str:
    """`settings.lr=0.0002`, fingerprints by their first digits."""
    return ", ".join(
        f"`{name}={str(value)[: 8 if name.endswith('.fingerprint') else None]}`" for name, value in differs.items()
    )


def shown(folder: Path) -> str:
    """As typed from the project's folder; results elsewhere by the name of their folder alone."""
    folder = folder.resolve()
    return folder.relative_to(ROOT).as_posix() if folder.is_relative_to(ROOT) else f"results/{folder.name}"


def write(folder: Path, groups: Sequence[Group]) -> list[Path]:
    """Makes FOLDER/tables anew, without what no longer belongs there.  Raises OSError."""
    made = texts(folder, groups)
    for name, text in made.items():
        write_atomically(folder / "tables" / name, lambda file, text=text: file.write(text.encode()))
    for name in _stored(folder) - made.keys():
        (folder / "tables" / name).unlink()
    return [folder / "tables" / name for name in made]


def check(folder: Path) -> Difference:
    """Compares the stored tables with the records, byte for byte.  Raises RecordError and OSError."""
    made, stored = texts(folder, collect(folder)), _stored(folder)
    return Difference(
        stale=tuple(
            n for n in sorted(made.keys() & stored) if (folder / "tables" / n).read_bytes() != made[n].encode()
        ),
        missing=tuple(sorted(made.keys() - stored)),
        surplus=tuple(sorted(stored - made.keys())),
    )


def _stored(folder: Path) -> set[str]:
    return {path.name for path in (folder / "tables").glob("[!.]*") if path.suffix in KINDS}
