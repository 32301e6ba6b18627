"""Where regions are: stored boxes, cells of a grid, and what is left of either by a module."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from harness.protocol import ImageBatch
from models.places import grid, grid_side, located

MASK = torch.ones(2, 4, dtype=torch.bool)
CELLS = [[0, 0, 1, 1], [1, 0, 2, 1], [0, 1, 1, 2], [1, 1, 2, 2]]


def test_a_grid_is_read_row_by_row():
    boxes, sizes = grid(2)
    assert boxes.tolist() == [CELLS]
    assert sizes.tolist() == [[2, 2]]
    assert (grid_side("grid", 4), grid_side("stored", 5)) == (2, 0)
    with pytest.raises(ValueError, match="boxes='grid' needs a square number of regions, got 5"):
        grid_side("grid", 5)


def test_stored_boxes_are_those_of_the_batch():
    boxes, sizes = torch.rand(2, 4, 4), torch.rand(2, 2)
    found = located(ImageBatch(mask=MASK, boxes=boxes, sizes=sizes), 0, "GSMN")
    assert found[0] is boxes
    assert found[1] is sizes


def test_regions_that_are_left_are_where_they_were():
    kept = torch.tensor([[True, False, False, True], [False, True, True, False]])
    boxes, _ = located(ImageBatch(mask=MASK[:, :2], kept=kept), 2, "GSMN")
    assert boxes.tolist() == [[CELLS[0], CELLS[3]], [CELLS[1], CELLS[2]]]


@pytest.mark.parametrize("kept", [None, torch.tensor([[True, True, False]])])
def test_regions_that_are_no_cells_are_refused(kept):
    with pytest.raises(ValueError, match="boxes='grid' was made for 4 regions, got 3"):
        located(ImageBatch(mask=MASK[:, :3] if kept is None else MASK[:1, :2], kept=kept), 2, "GSMN")


@pytest.mark.parametrize(
    ("missing", "says"),
    [
        (("boxes", "sizes"), r"no _boxes\.npy and _img_sizes\.npy beside the features; boxes='grid' is for"),
        (("boxes",), r"no _boxes\.npy beside"),
        (("sizes",), r"no _img_sizes\.npy beside"),
    ],
)
def test_missing_files_are_named(missing, says):
    there: dict[str, Any] = {name: torch.ones(2, 4) for name in ("boxes", "sizes") if name not in missing}
    with pytest.raises(ValueError, match=f"GSMN needs the place of every region, but there is {says}"):
        located(ImageBatch(mask=MASK, **there), 0, "GSMN")
