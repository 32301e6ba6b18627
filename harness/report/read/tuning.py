"""Whose tuned settings a row has, as the run stored it: its own trials', its base's, or nobody's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from harness.record import AskedRecord
from harness.report.read.runs import Run
from harness.tuned import TunedRecord, TunedRow, is_arm

How = Literal["own", "base", "by hand", "fewer trials", "untuned", "published"]


@dataclass(frozen=True)
class Tuning:
    """Of one row."""

    how: How
    row: TunedRow | None = None  # its trials, where they are of this very row
    is_arm: bool = False  # whether it had them as an arm of an ablation

    @property
    def settled(self) -> bool:
        """Whether the row is at its best as far as is known, so that it may be ranked among others that are."""
        return self.how in ("own", "base", "published")


UNTUNED, PUBLISHED = Tuning("untuned"), Tuning("published")


def of_runs(runs: Sequence[Run], stored: Sequence[AskedRecord], values: Mapping[str, TunedRecord]) -> dict[str, Tuning]:
    """Key of a run -> whose settings it has; nothing of those that are untuned.

    values: by key, as kept in the folder.  An ensemble is what all its members are.
    """
    found: dict[str, Tuning] = {}
    for record in stored:
        for key, source in record.tuning.items():
            value = values.get(source["value"])
            row = value.rows.get(source["row"]) if value is not None else None
            less = value is not None and row is not None and _budget(row) < _most(value)
            how: How = "fewer trials" if less else source["how"]
            if key not in found or not found[key].settled:
                found[key] = Tuning(how, row if source["how"] == "own" else None, is_arm(source["row"]))
    for run in runs:
        if run.record.members and all(key in found and found[key].settled for key in run.record.members):
            found[run.record.key] = Tuning("own")
    return found


def _budget(row: TunedRow) -> int:
    """Trials that a row was given, a step outward aside."""
    return len(row["trials"]) - row["outward"]


def _most(value: TunedRecord) -> int:
    """Trials that the rows of a value were given, at most."""
    return max(map(_budget, value.without_arms.values()), default=0)


def values_of(stored: Sequence[AskedRecord], values: Mapping[str, TunedRecord]) -> dict[str, TunedRecord]:
    """The values that the stored requests name, as far as they are kept."""
    keys = {source["value"] for record in stored for source in record.tuning.values()}
    return {key: value for key, value in values.items() if key in keys}
