"""Tuned settings made up by hand: two rates and two warm-ups of twenty updates."""

from __future__ import annotations

from typing import Any

from harness import tuned
from harness.spec import registry
from harness.spec.job import Data, Job, Settings
from harness.spec.tuning import conditions, data_of
from harness.tuned import TunedDesign, TunedRecord, TunedRow, TunedTrial

DESIGN = TunedDesign(
    rates=[0.01, 0.02], shares=[0.25, 0.8], updates=20, parts=4, seed=0, schedule="cosine", clip=2.0, stop_below=0.5
)
KEY = "0123456789abcdef"
GRID = ((0.01, 5), (0.01, 16), (0.02, 5), (0.02, 16))


def trial(lr: float, warmup: int, rsum: float | None, **fields: Any) -> TunedTrial:
    best = None if rsum is None else 3
    made = TunedTrial(
        lr=lr, warmup_updates=warmup, dev_rsum=rsum, best_part=best, parts=4, stopped=False, key=KEY, seconds=7.0
    )
    return made | fields  # type: ignore[return-value]


def row(label: str, *rsums: float | None, doubled: float | None = None, **fields: Any) -> TunedRow:
    """Trials of the grid in its order, at these dev Rsum."""
    trials = [trial(lr, warmup, rsum) for (lr, warmup), rsum in zip(GRID, rsums, strict=False)]
    winner = tuned.best([(t["lr"], t["warmup_updates"], t["dev_rsum"]) for t in trials])
    best = trials[winner or 0]
    twice = None if doubled is None else trial(best["lr"], 2 * best["warmup_updates"], doubled)
    made = TunedRow(
        model=registry.model(label).as_dict(),
        trials=trials,
        winner=winner or 0,
        edge=tuned.edge([t["lr"] for t in trials], best["lr"]),
        outward=0,
        doubled=twice,
    )
    return made | fields  # type: ignore[return-value]


def value(data: Data, settings: Settings, **rows: TunedRow) -> TunedRecord:
    """Of these data and settings.  rows: by label, `__` for what stands before SelfAlign."""
    held = conditions(Job(data, registry.model("vsepp"), settings))
    return tuned.made(data_of(data), held, DESIGN, {label.replace("__", "+"): one for label, one in rows.items()})
