"""A row from files in the order of the data, whatever kind it is."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from harness.data.given import lists, matrix, vectors
from harness.data.given.lists import Lists
from harness.data.given.matrix import Scores
from harness.data.given.places import Truth
from harness.data.given.vectors import Embeddings

Given = Embeddings | Scores | Lists


def read(
    name: str,
    kind: str,
    arrays: Mapping[str, np.ndarray],
    options: Mapping[str, str],
    truth: Truth,
    room: float = math.inf,
) -> Given:
    """room: bytes that may be taken by a copy.  Raises DataError, one line, for all that does not fit the data."""
    if kind == "embeddings":
        return vectors.read(name, arrays, truth, options.get("scorer"))
    if kind == "scores":
        return matrix.read(name, arrays, truth, options.get("axes"), room)
    return lists.read(name, arrays, truth)
