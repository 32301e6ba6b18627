"""The comparison in short, for a terminal of 80 columns."""

from __future__ import annotations

from pathlib import Path

from rich import box
from rich.table import Table
from rich.text import Text

from harness.report.read.described import described
from harness.report.read.groups import Group, collect
from harness.report.tables.comparison import comparison, left_out_lines

COLUMNS = {  # heading -> column of the comparison
    "method": "method",
    "seeds": "seeds",
    "Rsum": "Rsum",
    "i2t\nR@1": "i2t R@1",
    "t2i\nR@1": "t2i R@1",
    "query\nms": "score+rank ms/query",
    "encode\nimage\nms": "encode ms/image",
    "encode\ncaption\nms": "encode ms/caption",
}
STYLES = {"best": "bold", "second": "underline"}


def console_table(folder: Path) -> Table:
    """One table below the other where settings differ, what is left out below each.  Raises RecordError."""
    grid = Table.grid()
    for group in collect(folder):
        grid.add_row(_table(group))
    return grid


def _table(group: Group) -> Table:
    """Standard deviations beside Rsum alone."""
    sheet = comparison(group)
    parts = (group.data["name"], group.data["ranked"], described(group.differs).replace("`", ""))
    title = Text(", ".join(part for part in parts if part))
    caption = Text("\n".join(left_out_lines(group)), style="yellow") if group.left_out else None
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
    for place, (_, cells) in enumerate(sheet.text.iterrows()):
        marked = [STYLES.get(sheet.marks.get((place, column), ""), "") for column in COLUMNS.values()]
        shown = [
            cells[column] if column == "Rsum" else cells[column].partition(" ± ")[0] for column in COLUMNS.values()
        ]
        table.add_row(*(Text(cell, style=style) for cell, style in zip(shown, marked, strict=True)))
    return table
