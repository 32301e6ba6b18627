"""What rows find of extended ground truths, beside their own: one line a row and truth."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean

import pandas as pd

from harness.record import Extended
from harness.report.formats import ABSENT, Sheet, decimals
from harness.report.read.groups import Group
from harness.report.read.rows import Row
from harness.store import Store

COLUMNS: Mapping[str, str] = {  # heading -> number of an entry
    "mAP@R": "map_at_r",
    "R-P": "r_precision",
    "R@1": "r1",
    "R@5": "r5",
    "R@10": "r10",
}
OF_IDENTITIES: Mapping[str, str] = {"mAP": "map", "mINP": "minp"}  # columns where a truth was measured so
NOTE = (
    "Percent, means over seeds; queries are those that were judged, the gallery is whole. mAP@R and R-Precision look "
    "at the first R places, R being the number of right answers of a query."
)


def extended_sheet(group: Group, store: Store) -> Sheet | None:
    """None where no row was measured by one."""
    lines: list[dict[str, str]] = []
    notes: dict[str, None] = {}
    found = [(row, name, entries) for row in group.rows for name, entries in _by_truth(row, store).items()]
    numbers = {number for _, _, entries in found for some in entries[0]["percent"].values() for number in some}
    columns = {**COLUMNS, **{title: number for title, number in OF_IDENTITIES.items() if number in numbers}}
    for row, name, entries in found:
        queries = "; ".join(f"{count:.0f} {way}" for way, count in entries[0]["queries"].items())
        cells = {"method": row.name, "truth": name, "queries": queries}
        for way in ("i2t", "t2i"):
            for title, number in columns.items():
                values = [e["percent"][way][number] for e in entries if number in e["percent"].get(way, ())]
                cells[f"{way} {title}"] = decimals(2)(fmean(values)) if values else ABSENT
        lines.append(cells)
        if entries[0]["note"]:
            notes[f"{name}: {entries[0]['note']}."] = None
    if not lines:
        return None
    text = pd.DataFrame(lines, dtype=str)
    return Sheet("Extended ground truths", text, text, notes=(NOTE, *notes), names=3)


def _by_truth(row: Row, store: Store) -> dict[str, list[Extended]]:
    """Entries of all runs by the name of the truth; two truths of one name are told apart by their digest."""
    records = [record for run in row.runs if (record := store.extended(run.record.key)) is not None]
    entries = [entry for record in records for entry in record.truths]
    digests: dict[str, set[str]] = {}
    for entry in entries:
        digests.setdefault(entry["name"], set()).add(entry["digest"])
    found: dict[str, list[Extended]] = {}
    for entry in entries:
        told = "" if len(digests[entry["name"]]) == 1 else f" {entry['digest'][:6]}"
        found.setdefault(entry["name"] + told, []).append(entry)
    return found
