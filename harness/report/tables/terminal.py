"""The comparison in short, for a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from pathlib import Path
from statistics import fmean

from rich import box
from rich.table import Table
from rich.text import Text

from harness.measure.estimates import difference
from harness.report.read.described import described
from harness.report.read.groups import Group, collect
from harness.report.read.rows import Row, owners
from harness.report.read.times import without_time
from harness.report.tables.comparison import END_TO_END, RATE, comparison, left_out_lines

COLUMNS = {  # heading -> column of the comparison
    "method": "method",
    "seeds": "seeds",
    "Rsum": "Rsum",
    "i2t\nR@1\n%": "i2t R@1",
    "t2i\nR@1\n%": "t2i R@1",
    "one\nquery\nms": END_TO_END,
    "in\nbatches\n/s": RATE,
    "encode\nimage\nms": "encode ms/image",
}
BEYOND = 0.975  # share of draws of images in which the best row must be above chance
UNTUNED = " (untuned)"
STYLES = {"best": "bold", "second": "underline"}


def console_table(folder: Path) -> Table:
    """Of the records of a folder.  Raises RecordError."""
    return tables(collect(folder))


def tables(groups: Sequence[Group]) -> Table:
    """One table below the other where settings differ, what is left out below each."""
    grid = Table.grid()
    for group in groups:
        grid.add_row(_table(group))
    return grid


def _table(group: Group) -> Table:
    """Best first, untuned rows, ensembles and rows trained elsewhere below; standard deviations beside Rsum alone."""
    sheet = comparison(group)
    parts = (group.data["name"], group.data["ranked"], described(group.differs).replace("`", ""))
    title = Text(", ".join(part for part in parts if part))
    below = [line for line in (*left_out_lines(group), *_chance_line(group), without_time(group.rows)) if line]
    caption = Text("\n".join(below), style="yellow") if below else None
    table = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        title=title,
        title_justify="left",
        caption=caption,
        caption_justify="left",
    )
    for heading, column in COLUMNS.items():
        name = column == "method"
        table.add_column(heading, justify="left" if name else "right", no_wrap=not name, overflow="fold")
    for place in _best_first(group):
        cells = sheet.text.iloc[place]
        marked = [STYLES.get(sheet.marks.get((place, column), ""), "") for column in COLUMNS.values()]
        shown = [
            cells[column] if column == "Rsum" else cells[column].partition(" ± ")[0] for column in COLUMNS.values()
        ]
        if _is_apart(group, group.rows[place]):
            shown[0] += UNTUNED
        table.add_row(*(Text(cell, style=style) for cell, style in zip(shown, marked, strict=True)))
    return table


def _best_first(group: Group) -> list[int]:
    """Places of the rows by mean Rsum, those without one last; below them untuned rows where others are tuned, then
    ensembles, then rows trained elsewhere."""

    def rank(place: int) -> tuple[bool, bool, bool, float]:
        row = group.rows[place]
        mean = -fmean(row.rsums.values()) if row.runs else inf
        return row.is_elsewhere, row.is_ensemble, _is_apart(group, row), mean

    return sorted(range(len(group.rows)), key=rank)


def _is_apart(group: Group, row: Row) -> bool:
    """Whether a row is untuned where others are not, and no row to rank beside them."""
    return group.is_tuned and bool(row.runs) and not (row.is_settled or row.is_scale or row.is_elsewhere)


def _chance_line(group: Group) -> list[str]:
    """Where no row is beyond chance over the images, one line; rows at chance say nothing of their methods.

    One seed of each: chance draws its own, whatever those of the others are.
    """
    chance = next((row for row in group.rows if row.is_floor and row.runs), None)
    others = [row for row in group.rows if row.runs and not (row.is_scale or row.is_elsewhere)]
    if chance is None or not others:
        return []
    best = max(others, key=lambda row: fmean(row.rsums.values()))
    known = owners([*best.runs, *chance.runs])
    ranks, by_chance = (row.ranks([min(row.rsums)]) for row in (best, chance))
    if known is None or difference(ranks, by_chance, known).positive > BEYOND:
        return []
    return [f"No row is beyond chance: {best.name}, the best, is within its noise. Train longer, or on more images."]
