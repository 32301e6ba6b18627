"""Tables, figures and a page from stored records: what `python -m harness.report FOLDER` and the end of a run show.

The parts are imported when they are called: pandas would slow down every command that only lists or refuses.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from harness.atomic import write_atomically
from harness.record import Record
from harness.store import Store

if TYPE_CHECKING:
    from rich.table import Table


AGREEMENT = "agreement.md"  # within a results folder: its rows beside those of the repository's reference


def write(folder: Path) -> list[Path]:
    """Makes tables, figures and the page from the records.  Returns the tables.  Raises RecordError and OSError."""
    from harness.report import outputs
    from harness.report.read.groups import collect

    return [folder / name for name in outputs.write(folder, collect(folder)).tables]


def write_and_tell(folder: Path) -> Table:
    """As `write`; the comparison in short, of records that are read once.  Raises RecordError and OSError."""
    from harness.report import outputs
    from harness.report.read.groups import collect
    from harness.report.tables import terminal

    groups = collect(folder)
    outputs.write(folder, groups)
    return terminal.tables(groups)


def agreement(folder: Path, reference: Path) -> str:
    """Which rows of a folder agree with those of another, in a line; the whole comparison is written to `AGREEMENT`.

    "" where no row of both can be judged.  Raises RecordError and OSError.
    """
    from harness.report.compare.differences import AGREEING, BEYOND, as_markdown, sheets
    from harness.report.outputs import shown
    from harness.report.read.groups import collect

    made = sheets(collect(reference), collect(folder), (shown(reference), shown(folder)))
    verdicts = [pair for sheet in made if "verdict" in sheet.text for pair in sheet.text[["row", "verdict"]].to_numpy()]
    beyond = [name for name, verdict in verdicts if verdict == BEYOND]
    agreeing = sum(verdict in AGREEING for _, verdict in verdicts)
    if not (beyond or agreeing):
        return ""
    write_atomically(folder / AGREEMENT, lambda file: file.write(as_markdown(made).encode()))
    line = f"{agreeing} of {agreeing + len(beyond)} rows agree with {shown(reference)}"
    return f"{line}; beyond its noise: {', '.join(beyond)}" if beyond else line


def console_table(folder: Path) -> Table:
    """The comparison in short, one table below the other where settings differ.  Raises RecordError."""
    from harness.report.tables import terminal

    return terminal.console_table(folder)


def rsum(store: Store, record: Record) -> float | None:
    """Rsum of one record, None where it has no ranks.  Raises RecordError."""
    from harness.measure.metrics import summary

    ranks = store.ranks(record.key)
    return None if ranks is None else summary(ranks.i2t, ranks.t2i)["rsum"]
