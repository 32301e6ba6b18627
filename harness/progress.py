"""What long work says of itself while it goes on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """One report from inside a job."""

    stage: str  # train | encode | score | time | query | trace | rerank
    done: int
    total: int
    epoch: int = 0  # 0-based
    epochs: int = 0
    loss: float | None = None
    rsum: float | None = None  # of the dev split, after the last finished epoch


Watch = Callable[[Progress], None]


def unwatched(_: Progress) -> None:
    """Nobody looks."""
