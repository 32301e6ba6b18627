"""Tables, figures and a page from stored records: what `python -m harness.report FOLDER` and the end of a run show.

The parts are imported when they are called: pandas would slow down every command that only lists or refuses.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from harness.record import Record
from harness.store import Store

if TYPE_CHECKING:
    from rich.table import Table


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


def console_table(folder: Path) -> Table:
    """The comparison in short, one table below the other where settings differ.  Raises RecordError."""
    from harness.report.tables import terminal

    return terminal.console_table(folder)


def rsum(store: Store, record: Record) -> float | None:
    """Rsum of one record, None where it has no ranks.  Raises RecordError."""
    from harness.measure.metrics import summary

    ranks = store.ranks(record.key)
    return None if ranks is None else summary(ranks.i2t, ranks.t2i)["rsum"]
