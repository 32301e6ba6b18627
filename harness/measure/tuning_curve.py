"""What a row is worth by the effort spent on it: its expected best score on dev after n trials.

Dodge et al. 2019 (*Show Your Work*) as Tang et al. 2020 correct it: the mean over all choices of n of the N trials that
were run, without replacement, which does not flatter a row that was given few.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import comb

import numpy as np


def tuning_curve(scores: Sequence[float]) -> np.ndarray:
    """(N,): the expected best of n trials, n = 1 .. N, from the mean of all to the best of all.

    Raises ValueError for no score, or one that is not finite.
    """
    if not len(scores) or not np.isfinite(scores).all():
        raise ValueError(f"finite scores needed, got {list(scores)}")
    total = len(scores)
    # the i-th smallest (0-based) is the best of n where the other n - 1 are among the i below it
    shares = [[comb(i, n - 1) / comb(total, n) for i in range(total)] for n in range(1, total + 1)]
    return np.array(shares) @ np.sort(scores)
