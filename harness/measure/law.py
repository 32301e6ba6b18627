"""How the time of a query grows with the gallery: a straight line through what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

FITTED = 4  # largest measured sizes the law is fitted to


@dataclass(frozen=True)
class Law:
    """Milliseconds of a query = intercept_ms + ms_per_item * items."""

    intercept_ms: float
    ms_per_item: float
    residual: float  # largest relative deviation of a fitted median from the law
    fitted: tuple[int, ...]  # sizes of the galleries it was fitted to

    def ms(self, items: int) -> float:
        return self.intercept_ms + self.ms_per_item * items


def fit_law(medians_ms: Mapping[int, float]) -> Law:
    """Least squares of relative deviations over the largest sizes, neither part negative.

    medians_ms: items -> milliseconds, at least two sizes.
    """
    sizes = sorted(medians_ms)[-FITTED:]
    if len(sizes) < 2:
        raise ValueError(f"a law needs two galleries, got {len(sizes)}")
    items, medians = np.array(sizes, float), np.array([medians_ms[size] for size in sizes])
    terms = np.stack([1 / medians, items / medians], 1)  # each row times the parts of the law should be 1
    scale = terms.max(0)  # items are many: equal columns are better conditioned
    parts = nnls(terms / scale, np.ones(len(sizes)))[0] / scale
    return Law(float(parts[0]), float(parts[1]), float(np.abs(terms @ parts - 1).max()), tuple(sizes))
