"""Approximate search beside exact: recall, time, building and bytes of every index of every row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pandas as pd

from harness.record import IndexRecord, Searched
from harness.report.formats import ABSENT, Sheet, decimals, significant, whole
from harness.report.read.groups import Group

COLUMNS: Mapping[str, Callable[[Searched], str]] = {
    "recall": lambda entry: _shown(entry["recall"], decimals(3)),
    "ms/query": lambda entry: _shown(entry["p50_ms"], significant),
    "queries": lambda entry: _shown(len(entry["samples_ms"]) or None, whole),
    "build s": lambda entry: _shown(entry["build_s"], significant),
    "bytes/item": lambda entry: _shown(entry["bytes"] and entry["bytes"] / entry["items"], whole),
}


def approximate_search(group: Group) -> Sheet | None:
    """A line per row, gallery, index and setting; None where nothing of the group was indexed."""
    found = [(row.name, run.index) for row in group.rows for run in row.runs if run.index]
    return sheet_of(found) if found else None


def sheet_of(found: Sequence[tuple[str, IndexRecord]]) -> Sheet:
    """found: the name of a row, and what its indexes came to."""
    text = pd.DataFrame([line for name, index in found for line in _lines(name, index)], dtype=str)
    machines = {", ".join(f"{name} {value}" for name, value in sorted(index.machine.items())) for _, index in found}
    notes = [
        f"Recall is that of the first {index.neighbours} images, relative to exact search. Galleries: {index.gallery}."
        for _, index in found
    ]
    notes += [f"{name}, {entry['items']:,} items, {entry['index']}: {entry['note']}." for name, entry in _absent(found)]
    notes += [f"Times are medians of single queries ({machine})." for machine in sorted(machines)]
    return Sheet("Approximate search", text, text, notes=tuple(dict.fromkeys(notes)), names=4)


def _lines(name: str, index: IndexRecord) -> list[dict[str, str]]:
    return [
        {
            "method": name,
            "items": str(entry["items"]),
            "index": entry["index"],
            "setting": entry["setting"] or ABSENT,
            **{title: cell(entry) for title, cell in COLUMNS.items()},
        }
        for entry in index.entries
    ]


def _absent(found: Sequence[tuple[str, IndexRecord]]) -> list[tuple[str, Searched]]:
    return [(name, entry) for name, index in found for entry in index.entries if entry["note"]]


def _shown(value: float | None, show: Callable[[float], str]) -> str:
    return ABSENT if value is None else show(value)
