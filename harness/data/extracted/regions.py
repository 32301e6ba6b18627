"""Fragments of a picture: the cells of a backbone's grid, or its means over boxes, which a detector finds.

With a detector a picture has a fixed number of fragments, in this order:

    boxes   what the detector finds, best first
    whole   the picture as one
    cells   of a grid over the picture, row by row: as many as there is room for, those that the boxes cover least
    zeros   where that is not enough: fragments and boxes of zeros, which readers of the layout take for padding

Each is the mean of the backbone's own cells, weighted by the area of each that lies in the box, so that features have
one scale whatever a box covers.  Boxes are shares of width and height until they are stored.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from harness.data.extracted.backbones import Backbone
from harness.data.extracted.detector import Detector, intersections
from harness.data.split import DataError

WHOLE = np.array([[0.0, 0.0, 1.0, 1.0]])


def cells_of(grid: tuple[int, int]) -> np.ndarray:
    """Cells of an h x w grid over the whole picture, row by row: (h * w, 4) x1, y1, x2, y2 as shares."""
    height, width = grid
    row, column = np.divmod(np.arange(height * width), width)
    return np.stack([column / width, row / height, (column + 1) / width, (row + 1) / height], axis=1)


def in_pixels(shares: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """shares: (B, R, 4) or (R, 4) of sizes (B, 2) width, height in pixels.  Returns (B, R, 4) in pixels."""
    return shares * np.tile(sizes, 2)[:, None]


def filled(boxes: np.ndarray, cells: np.ndarray, count: int) -> np.ndarray:
    """The places of `count` fragments, as above, from the n < count boxes found.  All are shares.

    boxes: (n, 4), cells: (m, 4).  Returns (count, 4), rows of zeros last where n + 1 + m is less.
    """
    covered = intersections(boxes, cells).max(0, initial=0.0)
    room = np.sort(np.argsort(covered, kind="stable")[: count - len(boxes) - len(WHOLE)])
    places = np.concatenate([boxes, WHOLE, cells[room]])
    return np.pad(places, ((0, count - len(places)), (0, 0)))


def pooled(cells: Tensor, places: np.ndarray) -> Tensor:
    """Means over boxes, by the area of each cell that a box covers.

    cells: (B, h, w, D), places: (B, R, 4) shares; a box without area becomes zeros.  Returns (B, R, D) float32.
    """
    height, width = cells.shape[1:3]
    shared = intersections(places, cells_of((height, width)))  # (B, R, h * w)
    weights = shared / np.maximum(shared.sum(-1, keepdims=True), np.finfo(np.float64).tiny)
    return torch.from_numpy(weights).to(cells.device, torch.float32) @ cells.flatten(1, 2).float()


@dataclass(frozen=True)
class Extractor:
    """Pictures in, fragments and their places out."""

    backbone: Backbone  # with a detector all of its own cells
    detector: Detector | None = None  # None = fragments are the backbone's cells
    grid: tuple[int, int] = (0, 0)  # with a detector: the cells beside its boxes
    count: int = 0  # with a detector: fragments of a picture

    @property
    def regions(self) -> int:
        return self.count if self.detector else math.prod(self.backbone.grid)

    def places(self, picture: Image.Image) -> np.ndarray:
        """(R, 4) shares of the picture as it is.  Raises DataError where the detector fails."""
        if self.detector is None:
            return cells_of(self.backbone.grid)
        return filled(self.detector.boxes(picture), cells_of(self.grid), self.count)

    def fragments(self, squares: Sequence[Image.Image], places: np.ndarray) -> np.ndarray:
        """squares: B pictures as the backbone sees them, places: (B, R, 4).  Returns (B, R, D) float16."""
        cells = self.backbone.cells(squares)
        found = pooled(cells, places) if self.detector else cells.flatten(1, 2)
        return found.half().cpu().numpy()


def with_boxes(backbone: Backbone, detector: Detector, grid: tuple[int, int], count: int) -> Extractor:
    """count: fragments of a picture, 0 = room for all.  Raises DataError where that is too few or too many."""
    least = detector.rules.boxes + len(WHOLE)
    most = least + math.prod(grid)
    if count and not least <= count <= most:
        boxes, cells = f"{detector.rules.boxes} boxes and the whole picture", f"the {math.prod(grid)} cells"
        raise DataError(f"--fragments {count}: need from {least}, {boxes}, to {most}, {cells} too")
    return Extractor(backbone, detector, grid, count or most)
