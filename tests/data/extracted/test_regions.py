"""Is a fragment the mean of what its box covers, and do boxes, picture and cells come in their order?"""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from harness.data.extracted import regions
from harness.data.extracted.backbones import Backbone
from harness.data.extracted.detector import Detector, Rules
from harness.data.extracted.regions import Extractor
from harness.data.split import DataError

QUARTERS = regions.cells_of((2, 2))


def test_cells_of_two_by_three() -> None:
    boxes = regions.in_pixels(regions.cells_of((2, 3)), np.array([[30, 20], [3, 2]]))
    assert boxes[0].tolist() == [
        [0, 0, 10, 10],
        [10, 0, 20, 10],
        [20, 0, 30, 10],
        [0, 10, 10, 20],
        [10, 10, 20, 20],
        [20, 10, 30, 20],
    ]
    np.testing.assert_allclose(boxes[1], boxes[0] / 10)


def test_each_picture_has_boxes_of_its_own_in_pixels() -> None:
    shares = np.array([[[0.5, 0.5, 1, 1]], [[0, 0, 0, 0]]])
    assert regions.in_pixels(shares, np.array([[30, 20], [3, 2]])).tolist() == [[[15, 10, 30, 20]], [[0, 0, 0, 0]]]


# Which places --------------------------------------------------------------------------------------------------------


def test_boxes_then_the_whole_then_cells() -> None:
    box = np.array([[0.1, 0.1, 0.3, 0.3]])
    places = regions.filled(box, QUARTERS, 6)
    np.testing.assert_array_equal(places, np.concatenate([box, regions.WHOLE, QUARTERS]))


def test_the_cells_that_boxes_cover_least_come_first_and_in_reading_order() -> None:
    box = np.array([[0.0, 0.0, 0.6, 0.5]])  # all of the upper left, a fifth of the upper right
    assert regions.filled(box, QUARTERS, 4)[2:].tolist() == QUARTERS[[2, 3]].tolist()
    assert regions.filled(box, QUARTERS, 5)[2:].tolist() == QUARTERS[[1, 2, 3]].tolist()
    assert regions.filled(box, QUARTERS, 2)[1:].tolist() == regions.WHOLE.tolist()


def test_what_is_missing_is_zeros_at_the_end() -> None:
    places = regions.filled(np.zeros((0, 4)), QUARTERS, 7)
    assert places[:5].tolist() == [*regions.WHOLE.tolist(), *QUARTERS.tolist()]
    assert not places[5:].any()


# Pooling -------------------------------------------------------------------------------------------------------------


def test_a_box_over_parts_of_cells_weighs_them_by_area() -> None:
    cells = torch.tensor([[[[1.0], [2.0]], [[4.0], [8.0]]]])  # (1, 2, 2, 1)
    places = np.array([[[0, 0, 0.5, 0.5], [0, 0, 1, 1], [0.25, 0, 1, 0.5], [0.5, 0.25, 1, 1], [0, 0, 0, 0]]])
    pooled = regions.pooled(cells, places)[0, :, 0]
    np.testing.assert_allclose(pooled, [1, 15 / 4, (1 + 2 * 2) / 3, (2 + 2 * 8) / 3, 0], rtol=1e-6)


def slow_pooled(cells: np.ndarray, box: np.ndarray) -> np.ndarray:
    """cells: (h, w, D) on a fine raster of points; the mean of the points in the box."""
    (height, width, _), fine = cells.shape, 60
    inside = []
    for i in range(fine):
        for j in range(fine):
            y, x = (i + 0.5) / fine, (j + 0.5) / fine
            if box[0] <= x < box[2] and box[1] <= y < box[3]:
                inside.append(cells[int(y * height), int(x * width)])
    return np.mean(inside, axis=0, dtype=np.float64)


@given(arrays(np.int64, (3, 4), elements=st.integers(0, 11)), st.integers(0, 9))
def test_pooling_is_its_slow_twin(corners: np.ndarray, seed: int) -> None:
    """Corners on twelfths, which are whole points of the raster for grids of 3 x 4 cells."""
    upper_left, lower_right = np.minimum(corners[:, :2], corners[:, 2:]), np.maximum(corners[:, :2], corners[:, 2:]) + 1
    places = np.concatenate([upper_left, lower_right], axis=1) / 12
    cells = np.random.default_rng(seed).random((1, 3, 4, 5), dtype=np.float32)
    expected = [slow_pooled(cells[0], box) for box in places]
    np.testing.assert_allclose(regions.pooled(torch.from_numpy(cells), places[None])[0], expected, atol=1e-5)


def test_its_own_cells_pooled_are_the_cells() -> None:
    cells = torch.rand(2, 3, 5, 7)
    places = np.broadcast_to(regions.cells_of((3, 5)), (2, 15, 4))
    torch.testing.assert_close(regions.pooled(cells, places), cells.flatten(1, 2))


# Both together -------------------------------------------------------------------------------------------------------


def columns(squares) -> torch.Tensor:
    """(B, 2, 2, 1): 0 on the left, 1 on the right."""
    return torch.tensor([[[[0.0], [1.0]], [[0.0], [1.0]]]]).expand(len(squares), -1, -1, -1)


BACKBONE = Backbone("columns", 8, (2, 2), 1, columns)


def detecting(most: int) -> Detector:
    """Finds the right half."""
    found = np.zeros((1, 21, 6), dtype=np.float32)
    found[0, 20] = (0.75, 0.5, np.log(0.5), 0, 1, 1)
    return Detector(32, lambda _: found, Rules(most, 0.5, 0.5))


def test_fragments_of_a_detector() -> None:
    extractor = regions.with_boxes(BACKBONE, detecting(2), (2, 2), 0)
    assert extractor.regions == 7
    picture = Image.new("RGB", (40, 40))
    places = extractor.places(picture)
    np.testing.assert_allclose(places[0], [0.5, 0, 1, 1], atol=1e-6)
    found = extractor.fragments([picture.resize((8, 8))], places[None])
    assert found.dtype == np.float16
    np.testing.assert_allclose(found[0, :, 0], [1, 0.5, 0, 1, 0, 1, 0], atol=1e-3)  # the last is padding


def test_without_a_detector_fragments_are_the_cells() -> None:
    extractor = Extractor(BACKBONE)
    assert extractor.regions == 4
    places = extractor.places(Image.new("RGB", (40, 30)))
    np.testing.assert_array_equal(places, QUARTERS)
    assert extractor.fragments([Image.new("RGB", (8, 8))], places[None])[0, :, 0].tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize("count", [1, 2, 8])
def test_fragments_that_have_no_room_or_too_much(count: int) -> None:
    message = rf"--fragments {count}: need from 3, 2 boxes and the whole picture, to 7, the 4 cells too"
    with pytest.raises(DataError, match=message):
        regions.with_boxes(BACKBONE, detecting(2), (2, 2), count)
