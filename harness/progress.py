"""What long work says of itself while it goes on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """One report from inside a job."""

    stage: str  # train | epoch (one is over, its checkpoint written) | encode | score | time | ... or what is indexed
    done: int
    total: int
    epoch: int = 0  # 0-based
    epochs: int = 0
    loss: float | None = None
    rsum: float | None = None  # of the dev split, after the last finished epoch
    losses: Mapping[str, float] | None = None  # mean of each term over an epoch that is over
    unit: str = "epoch"  # what is counted as one: an epoch, or a `part` of a length in updates


Watch = Callable[[Progress], None]
Start = Callable[[str], Watch]  # name of a job or a phase -> who is told how it goes


def counted(count: int, what: str) -> str:
    """`1 row`, `2 rows`."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def unwatched(_: Progress) -> None:
    """Nobody looks."""
