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
from harness.atomic import write_atomically
from harness.commands import HELP
from harness.report.compare.differences import as_markdown, sheets
from harness.report.formats import Sheet
from harness.report.outputs import shown
from harness.report.read.groups import collect

app = doors.Door()
out = Console(highlight=False, markup=False)
UNBROKEN = ("seeds", "Rsum A", "Rsum B", "B - A", "time")  # numbers are never cut: names and words wrap
WIDTHS = {"verdict": 7}  # of its longest word
MARKDOWN_ALONE = ("over",)  # follows from the seeds by the legend; leaves room for names


@app.command(help=(__doc__ or "").partition("\n")[0], context_settings=HELP)
def main(
    a: Annotated[Path, typer.Argument(metavar="A", help="A results folder, the one to start from.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="Another; differences are B minus A.")],
    file: Annotated[Path | None, typer.Option("--out", help="Write the same as Markdown to this file.")] = None,
    no_plugins: doors.NoPlugins = False,
) -> None:
    with doors.refusals():
        doors.check_names(a=str(a), b=str(b), out=str(file or ""))
        doors.choose_plugins(none_installed=no_plugins)
        names = (shown(a), shown(b))
        if names[0] == names[1]:  # outside the project a folder goes by its last name alone
            names = (str(a), str(b))
        made = sheets(collect(a), collect(b), names)
        if file is not None:
            write_atomically(file, lambda target: target.write(as_markdown(made).encode()))
    for sheet in made:
        _print(sheet)


def _print(sheet: Sheet) -> None:
    out.print(Text(sheet.title, style="bold"))
    for line in sheet.header:
        out.print(line.replace("`", ""))
    if len(sheet.text):
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
        text = sheet.text.drop(columns=[name for name in MARKDOWN_ALONE if name in sheet.text])
        for place, column in enumerate(text.columns):
            left = place < sheet.names
            table.add_column(
                column,
                justify="left" if left else "right",
                no_wrap=column in UNBROKEN,
                min_width=WIDTHS.get(column),
                overflow="fold",
            )
        for cells in text.itertuples(index=False):
            # a standard deviation stands in the Markdown, and in the width of the interval
            table.add_row(*(Text(str(cell).partition(" ± ")[0]) for cell in cells))
        out.print(table)
    for note in sheet.notes:
        out.print(f"- {note}")
    out.print()


if __name__ == "__main__":
    sys.exit(app())
