"""Where the regions of an image are: boxes stored with the features, or the cells of a square grid, row by row."""

from __future__ import annotations

from math import isqrt

import torch
from torch import Tensor

from harness.protocol import ImageBatch

BOXES = ("stored", "grid")


def grid_side(boxes: str, regions: int) -> int:
    """Cells along a side of the grid that the regions are, 0 where boxes are stored.

    Raises ValueError where the cells fill no square.
    """
    if boxes == "stored":
        return 0
    side = isqrt(regions)
    if side**2 != regions:
        raise ValueError(f"boxes='grid' needs a square number of regions, got {regions}")
    return side


def located(images: ImageBatch, side: int, reader: str) -> tuple[Tensor, Tensor]:
    """Boxes (B or 1, R, 4) x1, y1, x2, y2 of the regions, of no meaning where padded, and picture sizes (B or 1, 2).

    side: as of `grid_side`.  Raises ValueError where there are no boxes or sizes, naming their files, or where the
    regions are not so many as the cells.
    """
    if not side:
        return stored(images, reader)
    whole = images.mask if images.kept is None else images.kept  # (B, all regions)
    if whole.shape[1] != side**2:
        raise ValueError(f"boxes='grid' was made for {side**2} regions, got {whole.shape[1]}")
    boxes, sizes = grid(side, images.mask.device)
    if images.kept is not None:
        boxes = boxes.expand(len(whole), -1, -1)[images.kept].view(*images.mask.shape, 4)
    return boxes, sizes


def stored(images: ImageBatch, reader: str) -> tuple[Tensor, Tensor]:
    """Boxes (B, R, 4) and picture sizes (B, 2).  Raises ValueError where they were not stored."""
    if images.boxes is None or images.sizes is None:
        files = {"_boxes.npy": images.boxes, "_img_sizes.npy": images.sizes}
        missing = " and ".join(name for name, array in files.items() if array is None)
        raise ValueError(
            f"{reader} needs the place of every region, but there is no {missing} beside the features; "
            "boxes='grid' is for regions that are the cells of a square grid, never for those of a detector"
        )
    return images.boxes, images.sizes


def grid(side: int, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    """Boxes (1, side * side, 4) of all cells, each one wide and high, and the size (1, 2) of the picture."""
    cell = torch.arange(side**2, device=device)
    corner = torch.stack([cell % side, cell // side], 1)  # (cells, 2)
    return torch.cat([corner, corner + 1], 1)[None].float(), torch.full((1, 2), float(side), device=device)
