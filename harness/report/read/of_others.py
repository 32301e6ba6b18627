"""Metrics of installed packages: numbers of the ranks of a run, each a column of the comparison."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from harness.report.read.rows import Row
from harness.spec import plugins
from harness.spec.job import SpecError

Better = Literal["higher", "lower"]


@dataclass(frozen=True)
class Metric:
    """A number of each seed of a row."""

    name: str
    better: Better | None  # what the function says of itself, `better = "higher"`
    of: Callable[[np.ndarray, np.ndarray], float]  # (N,) and (M,) int, 0-based ranks

    def values(self, row: Row) -> list[float]:
        """One a seed."""
        return [float(self.of(run.usable_ranks.i2t, run.usable_ranks.t2i)) for run in row.runs]


def metrics(rows: Sequence[Row]) -> tuple[list[Metric], list[str]]:
    """Those that give a finite number for every run of the rows, and a line for each that does not."""
    points, lines = plugins.metrics()
    sound = []
    for name, point in points.items():
        try:
            function = plugins.loaded(point)
            metric = Metric(name, getattr(function, "better", None), function)
            numbers = [number for row in rows for number in metric.values(row)]
        except SpecError as error:
            lines.append(str(error))
        except Exception as error:
            lines.append(f"{plugins.giver(point)} brings no metric {name!r}: {type(error).__name__}: {error}")
        else:
            if np.isfinite(numbers).all():
                sound.append(metric)
            else:
                lines.append(f"{plugins.giver(point)} brings no metric {name!r}: it is not finite")
    return sound, lines
