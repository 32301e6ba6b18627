"""Fixed dimensional encodings (MUVERA, Dhulipala et al., NeurIPS 2024, section 2): sets of vectors as one vector each.

The score of late interaction is a Chamfer similarity, `sum_w max_r <w, r>` over the words of a caption and the regions
of an image.  Random hyperplanes (SimHash) cut the space into cells: a caption is the sum of its words in each cell, an
image the mean of its regions there, so that the inner product of both is near the Chamfer similarity where a word
shares a cell with its best region.  An empty cell of an image is filled with the region whose cell differs in the
fewest bits.  Each cell is projected by random signs, all of it is repeated and averaged.

Departs from the paper: where several regions are nearest to an empty cell it holds their mean, not one of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

PLANES, WIDTH, REPETITIONS = 4, 8, 20  # k_sim, d_proj and R_reps, one of the paper's best for 2,560 numbers
MOST_PLANES = 8  # cells are numbered by a byte
FAR = np.uint8(255)  # bits by which padding differs from any cell


@dataclass(frozen=True)
class Encoding:
    """Draws of hyperplanes and signs for vectors of one width, the same for the same arguments.

    Raises ValueError for a number out of range.
    """

    dim: int  # d of the fragments
    planes: int = PLANES  # 2^planes cells
    width: int = WIDTH  # numbers a cell is projected to; 0 = not projected
    repetitions: int = REPETITIONS
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.planes <= MOST_PLANES:
            raise ValueError(f"planes must be 0 to {MOST_PLANES}, got {self.planes}")
        if min(self.dim, self.repetitions) < 1 or self.width < 0:
            raise ValueError(
                f"dim and repetitions must be at least 1 and width at least 0, "
                f"got {self.dim}, {self.repetitions} and {self.width}"
            )

    def __len__(self) -> int:
        """Numbers of an encoding."""
        return self.repetitions * 2**self.planes * (self.width or self.dim)

    def caption(self, words: np.ndarray) -> np.ndarray:
        """(len(self),) float32 of the (L, d) words of one caption.  Raises ValueError for another shape."""
        self._check(words, 2)
        cells = np.zeros((self.repetitions, 2**self.planes, self.width or self.dim), np.float32)
        for cell, normals, signs in zip(cells, *self._drawn, strict=True):
            np.add.at(cell, _cells(words, normals), words @ signs)
        return cells.ravel() / self.repetitions

    def images(self, regions: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """(N, len(self)) float32 of N images.  regions: (N, R, d).  mask: (N, R), at least one region in each.

        Raises ValueError for another shape, or an image without regions.
        """
        self._check(regions, 3)
        if mask.shape != regions.shape[:2] or not mask.any(1).all():
            raise ValueError(f"a mask of {regions.shape[:2]} must name a region of every image, got {mask.shape}")
        found = np.empty((len(regions), self.repetitions, 2**self.planes, self.width or self.dim), np.float32)
        for number, (normals, signs) in enumerate(zip(*self._drawn, strict=True)):
            bits = self._bits[_cells(regions, normals)]  # (N, R, cells): by how many a region's cell differs from each
            bits[~mask] = FAR
            nearest = (bits == bits.min(1, keepdims=True)).astype(np.float32)
            nearest /= nearest.sum(1, keepdims=True)
            np.matmul(nearest.transpose(0, 2, 1), regions @ signs, out=found[:, number])
        return found.reshape(len(regions), -1)

    @cached_property
    def _drawn(self) -> tuple[np.ndarray, np.ndarray]:
        """Normals of the hyperplanes, (repetitions, d, planes), and projections, (repetitions, d, width)."""
        rng = np.random.default_rng(self.seed)
        normals = rng.standard_normal((self.repetitions, self.dim, self.planes), dtype=np.float32)
        if not self.width:
            return normals, np.broadcast_to(np.eye(self.dim, dtype=np.float32), (self.repetitions, self.dim, self.dim))
        signs = rng.choice(np.array([-1, 1], np.float32), (self.repetitions, self.dim, self.width))
        return normals, signs / np.float32(self.width**0.5)

    @cached_property
    def _bits(self) -> np.ndarray:
        """(cells, cells) uint8: by how many bits the numbers of two cells differ."""
        cells = np.arange(2**self.planes, dtype=np.uint8)
        return np.bitwise_count(cells[:, None] ^ cells)

    def _check(self, fragments: np.ndarray, axes: int) -> None:
        if fragments.ndim != axes or fragments.shape[-1] != self.dim or not fragments.shape[-2]:
            raise ValueError(f"fragments of width {self.dim} on {axes} axes are encoded, got {fragments.shape}")


def _cells(fragments: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """(...) int64 number of the cell of each fragment.  fragments: (..., d).  normals: (d, planes)."""
    return (fragments @ normals > 0) @ (1 << np.arange(normals.shape[1]))
