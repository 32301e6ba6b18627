"""Which stored run a command means by the name of a row, or by the key of a record."""

from __future__ import annotations

from collections.abc import Sequence

from harness.record import Record
from harness.spec.job import SpecError


def run_of(records: Sequence[Record], row: str, seed: int | None = None) -> Record:
    """The run of a row with that seed, its first by default.

    records: those of the row among them (`Store.rows`).  Raises SpecError for a seed it was not run with, and where
    several runs of it differ by their options or settings: no name says which is meant.
    """
    named = [record for record in records if row in (record.label, record.key)]
    seeds = sorted({record.job["settings"]["seed"] for record in named})
    chosen = seeds[0] if seed is None else seed
    found = [record for record in named if record.job["settings"]["seed"] == chosen]
    if not found:
        raise SpecError(f"{row} has no seed {seed}; there are {', '.join(map(str, seeds))}")
    if len(found) > 1:
        keys = ", ".join(record.key for record in found)
        raise SpecError(
            f"{row} seed {chosen} was run with {len(found)} different settings: name one by its key, {keys}"
        )
    return found[0]
