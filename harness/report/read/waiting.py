"""How long one caption waits for its answer: encoded alone, then searched among encoded images.

The one place that tells tables, texts and the page what a row's time is.
"""

from __future__ import annotations

import numpy as np

from harness.record import CostRecord
from harness.report.formats import significant, whole

GALLERY = 1_000  # images, where nothing else is said
MIB = 2**20


def query_ms(cost: CostRecord | None, items: int = GALLERY) -> tuple[float, bool] | None:
    """Median ms of one caption, encoded and searched among `items` images, and whether it was measured; None where
    there is no such figure."""
    entry = next((g for g in cost.galleries if g["items"] == items), None) if cost else None
    if cost is None or entry is None or not cost.query_encode_ms:
        return None
    return float(np.median(cost.query_encode_ms)) + entry["p50_ms"], entry["measured"]


def index_mib(cost: CostRecord | None, items: int = GALLERY) -> float | None:
    """MiB kept for `items` images; None where nothing was timed."""
    return None if cost is None else cost.index_bytes_per_image * items / MIB


def shown_ms(found: tuple[float, bool]) -> str:
    """Two figures, `0.91`, `1,200`; ≈ before what was not measured."""
    ms, measured = found
    rounded = float(f"{ms:.2g}")
    return ("" if measured else "≈") + (whole(rounded) if rounded >= 100 else significant(ms, 2))
