"""When what happens in a training run: its length, the learning rate of every update, and the looks at dev."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

from harness.spec.job import Settings

RATE_WARMUP = 0.05  # share of the updates over which the rate of schedule `cosine` rises


@dataclass(frozen=True)
class Plan:
    """A run as numbers of updates, counted from 0 over all epochs."""

    settings: Settings
    steps: int  # updates of an epoch

    @cached_property
    def ends(self) -> tuple[int, ...]:
        """After how many updates each part of the run ends, with a look at dev: every epoch, or equal parts."""
        if not self.settings.updates:
            return tuple(self.steps * (epoch + 1) for epoch in range(self.settings.epochs))
        parts = self.settings.parts
        return tuple(self.settings.updates * (part + 1) // parts for part in range(parts))

    def part(self, number: int) -> tuple[int, int]:
        """The updates of part `number`, from the first up to the first of the next."""
        return (self.ends[number - 1] if number else 0), self.ends[number]

    def rate(self, update: int) -> float:
        """The learning rate of an update."""
        settings = self.settings
        if settings.schedule == "step":
            return settings.lr * settings.lr_drop ** (update // self.steps // settings.drop_every)
        rising = math.ceil(RATE_WARMUP * self.ends[-1])
        if update < rising:
            return settings.lr * (update + 1) / rising
        return settings.lr * (1 + math.cos(math.pi * (update - rising) / (self.ends[-1] - rising))) / 2
