"""The comparison in short, for a terminal."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table
from rich.text import Text

from harness.report.collect import Group, collect
from harness.report.files import described
from harness.report.tables import comparison, left_out_lines

COLUMNS = (
    "method",
    "seeds",
    "Rsum",
    "i2t R@1",
    "t2i R@1",
    "score+rank ms/query",
    "encode ms/image",
    "encode ms/caption",
)


def console_table(folder: Path) -> Table:
    """One table below the other where settings differ, what is left out below each.  Raises RecordError."""
    grid = Table.grid()
    for group in collect(folder):
        grid.add_row(_table(group))
    return grid


def _table(group: Group) -> Table:
    sheet = comparison(group)
    styles = {"best": "bold", "second": "underline"}
    title = f"{group.data['name']}, {group.data['ranked']}" + (f", {described(group.differs)}" if group.differs else "")
    caption = Text("\n".join(left_out_lines(group)), style="yellow")
    table = Table(
        title=Text(title), title_justify="left", caption=caption if group.left_out else None, caption_justify="left"
    )
    for column in COLUMNS:
        table.add_column(column, justify="left" if column == "method" else "right")
    for place, row in enumerate(sheet.text[list(COLUMNS)].itertuples(index=False)):
        marked = [styles.get(sheet.marks.get((place, column), ""), "") for column in COLUMNS]
        table.add_row(*(Text(cell, style=style) for cell, style in zip(row, marked, strict=True)))
    return table
