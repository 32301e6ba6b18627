"""Are the rows of a table in the order that papers found them in?  A check of the experiment, never a target of it.

Compared are Rsum here and on Flickr30K as published: of each row the best single run of that very variant that was
printed.  SelfAlign rows are left out, for what is published of them does not name the host.  A row far from its
published place is named, for the text beside the table to ask why.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from math import ceil

from harness.measure.agreement import LEAST, Agreement, by_family
from harness.measure.intervals import mean_sd
from harness.report.formats import decimals
from harness.report.read.groups import Group
from harness.report.read.published import Published, read
from harness.report.read.rows import Row

DATA = "flickr30k"
FAR = 1 / 3  # of all rows: so many places from its published one are far
ABOUT = "Order of the rows against that published on Flickr30K (Kendall's tau of Rsum; a check, never a target): "


def order_note(group: Group, published: Sequence[Published] | None = None) -> str | None:
    """A sentence for under the table; None where nothing is published of its rows.  Raises RecordError and OSError.

    published: in place of the stored file.
    """
    lines = read() if published is None else published
    theirs = _best(lines)
    rows = [row for row in group.rows if row.runs and _plain(row) and row.model.label in theirs]
    if not rows:
        return None
    ours = {row.model.label: mean_sd(list(row.rsums.values()))[0] for row in rows}
    found = by_family(ours, theirs, {row.model.label: row.family for row in rows})
    if found["all"].n < LEAST:
        return f"{ABOUT}only {found['all'].n} of its rows are published there, too few."
    told = "; ".join(_told(name, one) for name, one in found.items() if one.n >= LEAST)
    small = [name for name, one in found.items() if one.n < LEAST]
    few = f"; too few {' and '.join(small)} rows" if small else ""
    untuned = {row.model.label for row in rows if not row.is_settled}
    return f"{ABOUT}{told}{few}. {_misplaced(ours, theirs, untuned)}"


def places(rsums: Mapping[str, float]) -> dict[str, int]:
    """Place of each row from 1, the best; equal rows share the first of their places."""
    return {name: 1 + sum(other > rsum for other in rsums.values()) for name, rsum in rsums.items()}


def _misplaced(ours: Mapping[str, float], theirs: Mapping[str, float], untuned: Collection[str]) -> str:
    """`Far from their published place (4 of 7 places or more): saem 1 here, 6 there.`, the farthest first."""
    here, there = places(ours), places({name: theirs[name] for name in ours})
    least = max(2, ceil(FAR * len(ours)))
    far = sorted(
        (name for name in here if abs(here[name] - there[name]) >= least),
        key=lambda n: (-abs(here[n] - there[n]), here[n]),
    )
    told = [f"{name}{' (untuned)' * (name in untuned)} {here[name]} here, {there[name]} there" for name in far]
    asked = f"({least} of {len(ours)} places or more)"
    return (
        f"Far from their published place {asked}: {'; '.join(told)}."
        if told
        else f"None is far from its published place {asked}."
    )


def _plain(row: Row) -> bool:
    """Whether it is a method as its file has it, alone."""
    beside = row.is_ensemble or row.is_scale or row.is_elsewhere
    return row.model.selfalign is None and not beside and row.name == row.model.label


def _best(lines: Sequence[Published]) -> dict[str, float]:
    """Label of a row -> the best Rsum printed of it."""
    found: dict[str, float] = {}
    for line in lines:
        rsum = line.figure("rsum")
        if line["dataset"] == DATA and line.label is not None and rsum is not None:
            found[line.label] = max(float(rsum), found.get(line.label, 0.0))
    return found


def _told(name: str, one: Agreement) -> str:
    """`all +0.33 (n 7, p 0.38)`"""
    if one.tau is None or one.p is None:
        return f"{name}: all tie (n {one.n})"
    return f"{name} {one.tau:+.2f} (n {one.n}, p {decimals(2)(one.p)})"
