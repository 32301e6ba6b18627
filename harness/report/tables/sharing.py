"""What does sharing one learning rate cost?  From the trials alone: every row at its own best, and at one for all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from harness.report.formats import Sheet, decimals, signed
from harness.spec.tuning import Trial
from harness.tuned import TunedRecord, TunedRow

HEADINGS = (
    "row",
    "own best",
    "its lr, warm-up",
    "at the shared one",
    "cost",
    "at that of the best mean rank",
    "its cost",
)


def sharing_sheet(value: TunedRecord) -> Sheet | None:
    """One line a row; None where no settings were tried with every row, or there is but one row."""
    scores = {label: _scores(row) for label, row in value.without_arms.items()}
    shared = tried_by_all(scores)
    if len(scores) < 2 or not shared:
        return None
    by_mean, by_rank = best_by_mean(scores, shared), best_by_rank(scores, shared)
    lines = [_line(label, own, by_mean, by_rank) for label, own in scores.items()]
    text = pd.DataFrame(lines, columns=pd.Index(HEADINGS), dtype=str)
    costs = [max(own.values()) - own[by_mean] for own in scores.values()]
    note = (
        f"The settings of the best mean dev Rsum over rows are {_named(by_mean)}, those of the best mean rank "
        f"{_named(by_rank)}; the former cost a row {decimals(1)(float(np.mean(costs)))} dev Rsum on average, "
        f"{decimals(1)(max(costs))} at most. One seed, dev alone; no new runs."
    )
    return Sheet("What does sharing one rate and warm-up cost?", text, text, notes=(note,), names=1)


def tried_by_all(scores: Mapping[str, Mapping[Trial, float]]) -> list[Trial]:
    """Settings that every row was tried with and got a score, small rates first."""
    every = [set(own) for own in scores.values()]
    return sorted(set.intersection(*every)) if every else []


def best_by_mean(scores: Mapping[str, Mapping[Trial, float]], shared: Sequence[Trial]) -> Trial:
    """Of the highest mean dev Rsum over rows, the first on a tie."""
    return max(shared, key=lambda trial: float(np.mean([own[trial] for own in scores.values()])))


def best_by_rank(scores: Mapping[str, Mapping[Trial, float]], shared: Sequence[Trial]) -> Trial:
    """Of the best mean rank over rows: how many of the shared settings are better for a row."""

    def better(trial: Trial) -> int:
        return sum(own[other] > own[trial] for own in scores.values() for other in shared)

    return min(shared, key=better)


def _scores(row: TunedRow) -> dict[Trial, float]:
    """Of the trials that have one."""
    return {
        Trial(trial["lr"], trial["warmup_updates"]): score
        for trial in row["trials"]
        if (score := trial["dev_rsum"]) is not None
    }


def _line(label: str, own: Mapping[Trial, float], by_mean: Trial, by_rank: Trial) -> tuple[str, ...]:
    best = max(sorted(own), key=lambda trial: own[trial])
    told = [label, decimals(1)(own[best]), _named(best)]
    for shared in (by_mean, by_rank):
        told += [decimals(1)(own[shared]), signed(own[shared] - own[best])]
    return tuple(told)


def _named(trial: Trial) -> str:
    return f"{trial.lr:g}, {trial.warmup_updates}"
