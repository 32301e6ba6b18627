"""Features as whole numbers of eight bits, with one scale per fragment: a quarter of float32, half of float16.

    scale = max |x| / 127        code = round(x / scale)        x is read as code * scale

so that no feature is off by more than half a scale, 1/254 (0.4%) of the largest of its fragment.  A scale per fragment
costs four bytes and keeps a faint fragment beside a bright one; a row of zeros, which is padding, has scale 0 and stays
zero, and no other row becomes zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

LARGEST = 127


def encoded(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """features: (..., D), finite.  Returns (..., D) int8 codes and (...) float32 scales."""
    values = np.asarray(features, dtype=np.float32)
    scales = np.abs(values).max(-1) / np.float32(LARGEST)
    divisors = np.where(scales > 0, scales, 1)[..., None]
    return np.clip(np.rint(values / divisors), -LARGEST, LARGEST).astype(np.int8), scales


def decoded(codes: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """codes: (..., D) int8, scales: (...).  Returns (..., D) float32."""
    values = codes.astype(np.float32)
    values *= np.asarray(scales, dtype=np.float32)[..., None]
    return values


@dataclass(frozen=True)
class Int8:
    """A (possibly memory-mapped) store that is read like an array of float32: only what is asked for is decoded."""

    codes: np.ndarray  # (rows, R, D) int8
    scales: np.ndarray  # (rows, R) float32

    dtype = np.dtype(np.float32)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.codes.shape

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, key: Any) -> np.ndarray:
        """Float32, a copy.  key: of rows, or of rows and fragments; never of single features."""
        return decoded(np.asarray(self.codes[key]), np.asarray(self.scales[key]))
