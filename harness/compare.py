"""Two results folders side by side, of another machine, another commit: what changed, and is it beyond noise?

python -m harness.compare results/full-scenes elsewhere/full-scenes                  to the terminal
python -m harness.compare results/full-scenes elsewhere/full-scenes --out FILE.md    and as Markdown
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness import doors
from harness.commands import HELP
from harness.record import write_atomically
from harness.report.compare.differences import sheets
from harness.report.formats import Sheet, markdown
from harness.report.outputs import shown
from harness.report.read.groups import collect

app = doors.Door()
out = Console(highlight=False, markup=False)
UNBROKEN = ("seeds", "Rsum A", "Rsum B", "B - A", "time")
WIDTHS = {"over": 7, "verdict": 7}  # of their longest words


@app.command(help=(__doc__ or "").partition("\n")[0], context_settings=HELP)
def main(
    a: Annotated[Path, typer.Argument(metavar="A", help="A results folder, the one to start from.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="Another; differences are B minus A.")],
    file: Annotated[Path | None, typer.Option("--out", help="Write the same as Markdown to this file.")] = None,
) -> None:
    with doors.refusals():
        doors.check_names(a=str(a), b=str(b), out=str(file or ""))
        names = (shown(a), shown(b))
        if names[0] == names[1]:  # outside the project a folder goes by its last name alone
            names = (str(a), str(b))
        made = sheets(collect(a), collect(b), names)
        if file is not None:
            text = "\n".join(markdown(sheet, level=1 if place == 0 else 2) for place, sheet in enumerate(made))
            write_atomically(file, lambda target: target.write(text.encode()))
    for sheet in made:
        _print(sheet)


def _print(sheet: Sheet) -> None:
    out.print(Text(sheet.title, style="bold"))
    for line in sheet.header:
        out.print(line.replace("`", ""))
    if len(sheet.text):
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
        for place, column in enumerate(sheet.columns):
            left = place < sheet.names
            table.add_column(
                column,
                justify="left" if left else "right",
                no_wrap=column in UNBROKEN,
                min_width=WIDTHS.get(column),
                overflow="fold",
            )
        for cells in sheet.text.itertuples(index=False):
            # a standard deviation stands in the Markdown, and in the width of the interval
            table.add_row(*(Text(str(cell).partition(" ± ")[0]) for cell in cells))
        out.print(table)
    for note in sheet.notes:
        out.print(f"- {note}")
    out.print()


if __name__ == "__main__":
    sys.exit(app())
