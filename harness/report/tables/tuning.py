"""What the trials of every row came to: the winner, where it lies, and what training twice as long would add."""

from __future__ import annotations

from textwrap import fill

import pandas as pd
from rich import box
from rich.table import Table

from harness.report.formats import ABSENT, Sheet, decimals, signed
from harness.tuned import TunedRecord, TunedRow

HEADINGS = (
    "row",
    "trials",
    "lr",
    "warm-up",
    "dev Rsum",
    "best at the edge",
    "best part",
    "twice as long adds",
    "seconds",
)
NARROW = 8  # characters of a heading's line in a terminal


def tuning_sheet(value: TunedRecord) -> Sheet:
    """One line a row, in the order of labels."""
    text = pd.DataFrame(
        [_line(label, row, value.design["updates"]) for label, row in value.rows.items()],
        columns=pd.Index(HEADINGS),
        dtype=str,
    )
    return Sheet("How settings were chosen", text, text, notes=(note(value),), names=1)


def note(value: TunedRecord) -> str:
    design = value.design
    rates = ", ".join(f"{rate:g}" for rate in design["rates"])
    shares = " or ".join(f"{share:.0%}" for share in design["shares"])
    return (
        f"The same trials for every row: rates {rates}, hinge warm-up of {shares} of {design['updates']} updates, seed "
        f"{design['seed']}, schedule {design['schedule']}, gradient clip {design['clip']:g}; the best of "
        f"{design['parts']} looks at dev counts.  Where the best rate was the lowest or highest, one trial further out "
        "was run (+1).  Twice as long: dev Rsum of one run of twice the updates, less that of the winner."
    )


def at_edge(row: TunedRow) -> str:
    """`no`, `low`, `high`; with the steps outward that were taken."""
    return (row["edge"] or "no") + (f" (+{row['outward']})" if row["outward"] else "")


def adds(row: TunedRow) -> float | None:
    """Dev Rsum at twice the length less that of the winner."""
    double, best = row["doubled"], row["trials"][row["winner"]]["dev_rsum"]
    return None if double is None or double["dev_rsum"] is None or best is None else double["dev_rsum"] - best


def _line(label: str, row: TunedRow, updates: int) -> tuple[str, ...]:
    best, more = row["trials"][row["winner"]], adds(row)
    runs = [*row["trials"], *([row["doubled"]] if row["doubled"] else [])]
    return (
        label,
        str(len(row["trials"])),
        f"{best['lr']:g}",
        f"{best['warmup_updates']} of {updates}",
        ABSENT if best["dev_rsum"] is None else decimals(1)(best["dev_rsum"]),
        at_edge(row),
        f"{best['best_part']} of {best['parts']}",
        ABSENT if more is None else signed(more),
        decimals(0)(sum(run["seconds"] for run in runs)),
    )


def terminal(value: TunedRecord) -> Table:
    """The same for a terminal, without the seconds: numbers stay whole at 80 columns, long labels break."""
    text = tuning_sheet(value).text[list(HEADINGS[:-1])].replace(" of ", "/", regex=True)
    table = Table(box=box.SIMPLE_HEAD, padding=0, title="Winners on dev", title_justify="left")
    table.add_column(HEADINGS[0], overflow="fold")
    for heading in text.columns[1:]:
        table.add_column(fill(heading, NARROW), justify="right", no_wrap=True)
    for cells in text.itertuples(index=False):
        table.add_row(*map(str, cells))
    return table
