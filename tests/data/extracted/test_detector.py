"""Is a box where the model says, is each thing kept once, and is a file of another form told in one line?"""

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from harness.data.extracted import detector
from harness.data.extracted.detector import Detector, Rules
from harness.data.split import DataError
from tests import detectors

ALL = Rules(boxes=100, score=0.0, overlap=1.0)


def found_in(boxes: list[tuple[int, tuple[float, ...]]]) -> np.ndarray:
    """(1, 21, 7): rows of anchors as told, nothing in the others."""
    found = np.zeros((1, detectors.ANCHORS, 7), dtype=np.float32)
    for place, row in boxes:
        found[0, place] = row
    return found


def faked(boxes: list[tuple[int, tuple[float, ...]]], rules: Rules = ALL) -> Detector:
    return Detector(detectors.SIZE, lambda _: found_in(boxes), rules)


# Decoding ------------------------------------------------------------------------------------------------------------


def test_anchors_are_the_cells_of_three_grids_finest_first() -> None:
    cells, strides = detector.anchors(32)
    assert strides[:, 0].tolist() == [8] * 16 + [16] * 4 + [32]
    assert cells[[0, 1, 4, 15]].tolist() == [[0, 0], [1, 0], [0, 1], [3, 3]]  # column, row
    assert cells[16:].tolist() == [[0, 0], [1, 0], [0, 1], [1, 1], [0, 0]]
    assert len(detector.anchors(416)[0]) == 3549


def test_boxes_are_decoded_from_their_cells() -> None:
    rows = np.zeros((21, 4), dtype=np.float32)  # a zero row: a box of one stride around the corner of its cell
    rows[6] = (0.5, 0.25, np.log(2), 0)  # cell (1, 2) of stride 8: centre (20, 10), 16 wide, 8 high
    boxes = detector.decoded(rows, 32)
    np.testing.assert_allclose(boxes[6], [12, 6, 28, 14], rtol=1e-6)
    np.testing.assert_allclose(boxes[20], [-16, -16, 16, 16])
    np.testing.assert_allclose(boxes[19], [8, 8, 24, 24])  # cell (1, 1) of stride 16


def test_an_extent_beyond_all_bounds_is_the_whole_picture() -> None:
    boxes = faked([(20, (0.5, 0.5, 1e9, 1e9, 1, 1, 0))]).boxes(Image.new("RGB", (32, 32)))
    assert boxes.tolist()[0] == [0, 0, 1, 1]


def test_the_picture_keeps_its_shape_in_blue_green_red() -> None:
    pixels, taken = detector.letterboxed(Image.new("RGB", (40, 10), (3, 2, 1)), 32)
    assert (pixels.shape, pixels.dtype, taken) == ((1, 3, 32, 32), np.float32, (32, 8))
    assert (pixels[0, :, :8] == np.array([1, 2, 3])[:, None, None]).all()
    assert (pixels[0, :, 8:] == 114).all()
    assert detector.letterboxed(Image.new("RGB", (1, 999)), 32)[1] == (1, 32)


def test_boxes_are_shares_of_the_picture_as_it_is() -> None:
    """In a picture twice as wide as high, which takes the upper half of the input; the rest of the box is cut off."""
    found = faked([(20, (0.5, 0.5, np.log(0.5), np.log(0.75), 1, 1, 0))], Rules(9, 0.5, 1.0))
    np.testing.assert_allclose(found.boxes(Image.new("RGB", (640, 320))), [[0.25, 0.25, 0.75, 1.0]], atol=1e-6)


def test_boxes_outside_the_picture_are_none() -> None:
    below = [(15, (0.5, 0.5, 0, 0, 1, 1, 0))]  # 8 x 8 pixels in the lower right
    assert len(faked(below, Rules(9, 0.5, 1.0)).boxes(Image.new("RGB", (32, 32)))) == 1
    assert len(faked(below, Rules(9, 0.5, 1.0)).boxes(Image.new("RGB", (320, 160)))) == 0


def test_a_score_is_the_objects_times_its_best_class() -> None:
    rows = [(0, (0.5, 0.5, 0, 0, 0.5, 0.2, 0.8)), (5, (0.5, 0.5, 0, 0, 0.9, 0.5, 0.1))]  # 0.4 and 0.45
    picture = Image.new("RGB", (32, 32))
    first = faked(rows, Rules(9, 0.1, 1.0)).boxes(picture)
    np.testing.assert_allclose(first, [[0.25, 0.25, 0.5, 0.5], [0, 0, 0.25, 0.25]])  # best first
    assert len(faked(rows, Rules(9, 0.42, 1.0)).boxes(picture)) == 1
    assert len(faked(rows, Rules(1, 0.1, 1.0)).boxes(picture)) == 1
    assert len(faked(rows, Rules(9, 0.5, 1.0)).boxes(picture)) == 0


# Suppression ---------------------------------------------------------------------------------------------------------


def test_of_two_boxes_on_one_thing_the_better_stays() -> None:
    boxes = np.array([[0, 0, 4, 4], [0, 0, 4, 2], [8, 8, 9, 9]], dtype=float)  # the second is half of the first
    assert detector.overlaps(boxes[0], boxes).tolist() == [1, 0.5, 0]
    scores = np.array([0.5, 0.9, 0.1])
    assert detector.suppressed(boxes, scores, 0.4, 9).tolist() == [1, 2]
    assert detector.suppressed(boxes, scores, 0.5, 9).tolist() == [1, 0, 2]  # not more than that
    assert detector.suppressed(boxes, scores, 0.5, 2).tolist() == [1, 0]
    assert detector.suppressed(boxes[:0], scores[:0], 0.5, 2).tolist() == []


def slow_suppressed(boxes: np.ndarray, scores: np.ndarray, overlap: float, most: int) -> list[int]:
    kept: list[int] = []
    for place in sorted(range(len(boxes)), key=lambda i: -scores[i]):
        ious = []
        for x1, y1, x2, y2 in boxes[kept]:
            width = max(0, min(x2, boxes[place][2]) - max(x1, boxes[place][0]))
            height = max(0, min(y2, boxes[place][3]) - max(y1, boxes[place][1]))
            own = (boxes[place][2] - boxes[place][0]) * (boxes[place][3] - boxes[place][1])
            ious.append(width * height / (own + (x2 - x1) * (y2 - y1) - width * height))
        if len(kept) < most and all(iou <= overlap for iou in ious):
            kept.append(place)
    return kept


@given(
    arrays(np.int64, (11, 4), elements=st.integers(0, 7)),
    arrays(np.int64, 11, elements=st.integers(0, 3)),
    st.sampled_from([0.0, 0.2, 0.45, 0.7, 1.0]),
    st.integers(1, 5),
)
def test_suppression_is_its_slow_twin(corners: np.ndarray, scores: np.ndarray, overlap: float, most: int) -> None:
    boxes = np.concatenate([corners[:, :2], corners[:, :2] + corners[:, 2:] + 1], axis=1).astype(float)
    assert detector.suppressed(boxes, scores, overlap, most).tolist() == slow_suppressed(boxes, scores, overlap, most)


# Files ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def _onnx() -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")


@pytest.mark.usefixtures("_onnx")
def test_a_file_finds_a_box_in_a_bright_picture_alone(tmp_path: Path) -> None:
    found = detector.load(detectors.write(tmp_path / "d.onnx"), Rules(9, 0.5, 0.5))
    assert found.size == 32
    np.testing.assert_allclose(found.boxes(Image.new("RGB", (64, 64), "white")), [[0.25, 0.25, 0.75, 0.75]], atol=1e-6)
    assert found.boxes(Image.new("RGB", (64, 64), "black")).shape == (0, 4)


@pytest.mark.usefixtures("_onnx")
def test_a_batch_of_any_size_is_a_batch_of_one(tmp_path: Path) -> None:
    assert detector.load(detectors.write(tmp_path / "d.onnx", shape=("n", 3, 32, 32)), ALL).size == 32


@pytest.mark.usefixtures("_onnx")
@pytest.mark.parametrize(
    ("told", "message"),
    [
        (
            {"shape": (1, 3, 40, 40)},
            r"input is tensor\(float\) 1 x 3 x 40 x 40, need one of float32, 1 x 3 x S x S, S a",
        ),
        ({"shape": (1, 3, 32, 64)}, r"input is tensor\(float\) 1 x 3 x 32 x 64, need"),
        ({"shape": (1, 32, 32, 3)}, r"input is tensor\(float\) 1 x 32 x 32 x 3, need"),
        ({"shape": (1, 3, "h", "w")}, r"input is tensor\(float\) 1 x 3 x h x w, need"),
        ({"shape": (2, 3, 32, 32)}, r"input is tensor\(float\) 2 x 3 x 32 x 32, need"),
        ({"kind": "UINT8"}, r"input is tensor\(uint8\) 1 x 3 x 32 x 32, need"),
        ({"found": detectors.outputs()[:, :20]}, r"output is 1 x 20 x 6, need 1 x 21 x \(5 \+ classes\)"),
        ({"found": detectors.outputs()[..., :5]}, r"output is 1 x 21 x 5, need"),
        ({"found": detectors.outputs()[0]}, r"output is 21 x 6, need"),
        ({"found": detectors.outputs() * np.nan}, r"numbers that are NaN or infinite"),
        ({"found": detectors.outputs() * 3}, r"scores are from 0 to 3, need 0 to 1"),
    ],
)
def test_models_of_another_form_are_one_line(tmp_path: Path, told: dict[str, object], message: str) -> None:
    path = detectors.write(tmp_path / "d.onnx", **told)
    with pytest.raises(DataError, match=message) as error:
        detector.load(path, ALL)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


@pytest.mark.usefixtures("_onnx")
@pytest.mark.parametrize("content", [b"", b"no model", b"\x08\x09" * 99])
def test_files_that_are_no_models_are_one_line(tmp_path: Path, content: bytes) -> None:
    (path := tmp_path / "d.onnx").write_bytes(content)
    with pytest.raises(DataError, match="no ONNX model that onnxruntime runs") as error:
        detector.load(path, ALL)
    assert "\n" not in str(error.value)


@pytest.mark.usefixtures("_onnx")
def test_a_missing_file_and_a_missing_library_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"none\.onnx: no such file$"):
        detector.load(tmp_path / "none.onnx", ALL)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(DataError, match=r"^--detector needs `pip install 'selfalign-harness\[detector\]'`"):
        detector.load(tmp_path / "none.onnx", ALL)


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ((0, 0.1, 0.5), "0 boxes, need 1 or more"),
        ((1, float("nan"), 0.5), "score of boxes is nan, need 0 to 1"),
        ((1, 0.1, 1.5), "overlap of boxes is 1.5, need 0 to 1"),
    ],
)
def test_rules_that_say_nothing(rules: tuple[int, float, float], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Rules(*rules)


def test_values_that_cannot_be_are_refused_while_it_runs() -> None:
    with pytest.raises(DataError, match="scores are from -1 to 1, need 0 to 1"):
        faked([(3, (0, 0, 0, 0, -1, 1, 0))]).boxes(Image.new("RGB", (8, 8)))
