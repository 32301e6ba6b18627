"""Principal components of fragments (Pearson 1901; Hotelling 1933): the K directions that keep most of their variance.

Fitted on fragments of the training split alone; every split is projected with the same mean and directions.  Rows of
zeros are padding: they do not enter the fit and stay zero.

The covariance is summed over blocks in float64, so that memory does not grow with the number of images, and its
eigenvectors are the right singular vectors of the centred fragments.  Each direction points where its largest entry is
positive, so that the same fragments give the same components.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from harness.atomic import write_atomically
from harness.data.split import DataError

FIT_AT_MOST = 1_000_000  # fragments; of more, as many images as hold these are drawn, always the same ones
BLOCK = 8192  # fragments in memory at a time, in whole images


@dataclass(frozen=True)
class Components:
    mean: np.ndarray  # (D,) float64
    directions: np.ndarray  # (K, D) float64, unit rows at right angles, of falling variance
    variance: np.ndarray  # (K,) float64 variance of the fragments along each
    explained: np.ndarray  # (K,) float64 the same as a share of the variance in all D directions
    fragments: np.ndarray  # () int64 how many they were fitted on

    def __len__(self) -> int:
        return len(self.directions)

    @property
    def digest(self) -> str:
        """sha256 of all that is stored."""
        named = hashlib.sha256()
        for field in fields(self):
            array = getattr(self, field.name)
            named.update(f"{field.name} {array.dtype} {array.shape} ".encode() + array.tobytes())
        return named.hexdigest()

    def project(self, features: np.ndarray) -> np.ndarray:
        """features: (..., D), of which rows of zeros stay zero.  Returns (..., K) float32."""
        with np.errstate(invalid="ignore"):  # of infinite features, which become NaN
            found = (features.astype(np.float64) - self.mean) @ self.directions.T
        found[~features.any(-1)] = 0.0
        return found.astype(np.float32)

    def reduced(self, fragments: np.ndarray) -> np.ndarray:
        """(B, R, D) float16 -> (B, R, K) float16, infinite where it is beyond that."""
        with np.errstate(over="ignore", invalid="ignore"):
            return self.project(fragments).astype(np.float16)

    def save(self, path: Path) -> None:
        """As .npz, whole or not at all."""
        arrays = {field.name: getattr(self, field.name) for field in fields(self)}
        write_atomically(path, lambda file: np.savez(file, **arrays))


def load(path: Path) -> Components:
    """Raises DataError where the file is missing or holds something else."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as found:
            return Components(**{field.name: found[field.name] for field in fields(Components)})
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except Exception as error:  # numpy and zipfile fail in any way
        raise DataError(f"{path}: no principal components as this program writes them") from error


def check_number(number: int, width: int, fragments: int) -> None:
    """Raises DataError where `fragments` of `width` features cannot have so many components."""
    if number > width:
        raise DataError(f"--reduce {number} is more than the {width} dimensions of the features")
    if number >= fragments:
        raise DataError(f"--reduce {number} needs more training fragments than components, there are {fragments}")


def fit(
    features: np.ndarray, number: int, most: int = FIT_AT_MOST, show: Callable[[int, int], object] = lambda *_: None
) -> Components:
    """The first `number` components of fragments that are not all zero.

    features: (N, R, D), possibly memory-mapped; read twice, in blocks.  Where these are more than `most` fragments,
    images are drawn by a fixed seed.  `show` hears how many images are read, of how many.
    Raises DataError where there are fewer features or fragments than components need, and where nothing varies.
    """
    images, regions, width = features.shape
    drawn = _drawn(images, max(1, most // regions))
    total, count = np.zeros(width), 0
    step = max(1, BLOCK // regions)
    blocks = [drawn[start : start + step] for start in range(0, len(drawn), step)]
    for place, block in enumerate(blocks, 1):
        real = _real(features[block])
        total, count = total + real.sum(0), count + len(real)
        show(place, 2 * len(blocks))
    check_number(number, width, count)
    mean, scatter = total / count, np.zeros((width, width))
    for place, block in enumerate(blocks, 1):
        centred = _real(features[block]) - mean
        scatter += centred.T @ centred
        show(len(blocks) + place, 2 * len(blocks))
    values, vectors = np.linalg.eigh(scatter / (count - 1))  # rising
    whole = np.trace(scatter) / (count - 1)
    if not whole > 0:
        raise DataError(f"--reduce {number}: all {count} training fragments are the same")
    variance = np.maximum(values[::-1][:number], 0.0)
    directions = vectors.T[::-1][:number]
    largest = np.take_along_axis(directions, np.abs(directions).argmax(1)[:, None], axis=1)
    directions = directions * np.where(largest < 0, -1.0, 1.0)
    return Components(mean, np.ascontiguousarray(directions), variance, variance / whole, np.array(count))


def _drawn(images: int, most: int) -> np.ndarray:
    """Up to `most` of the images, rising."""
    if images <= most:
        return np.arange(images)
    return np.sort(np.random.default_rng(0).choice(images, most, replace=False))


def _real(block: np.ndarray) -> np.ndarray:
    """(n, D) float64, the rows of (B, R, D) that are not all zero."""
    rows = block.reshape(-1, block.shape[-1])
    return rows[rows.any(1)].astype(np.float64)
