"""Where are the things in a picture?  An object detector as an ONNX file: pictures in, boxes out.  No torch here.

Read are exports of YOLOX (Ge et al., 2021) as its authors make them, and detectors of the same form:

    in   `1 x 3 x S x S` float32, blue, green, red from 0 to 255; the picture keeps its shape, grey below or beside it
    out  `1 x A x (5 + C)`, a row per anchor: x, y, width and height, how sure it is of an object, and of each class

A = (S/8)^2 + (S/16)^2 + (S/32)^2 anchors, the cells of three grids, finest first and each row by row.  Cell (i, j) of
stride s holds its centre as ((x + j) s, (y + i) s) and its extent as (s e^width, s e^height), in pixels of the input.

A box scores what the object does times its best class.  Suppression is greedy and asks for no class: a region is
shown once, whatever it is called.  onnxruntime comes with `pip install 'selfalign-harness[detector]'`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from harness.data.split import DataError

STRIDES = (8, 16, 32)
GREY = 114  # what YOLOX was trained to see where there is no picture
BOX, OBJECT = 4, 5  # columns of the output: a box, then the object, then classes

Run = Callable[[np.ndarray], np.ndarray]  # (1, 3, S, S) float32 -> (1, A, 5 + C) float32


@dataclass(frozen=True)
class Rules:
    """Which boxes are kept.  Raises DataError for numbers that say nothing."""

    boxes: int  # most of a picture
    score: float  # the least
    overlap: float  # intersection over union of two of them, at most

    def __post_init__(self) -> None:
        if self.boxes < 1:
            raise DataError(f"{self.boxes} boxes, need 1 or more")
        for name, value in (("score", self.score), ("overlap", self.overlap)):
            if not 0 <= value <= 1:  # nor is NaN
                raise DataError(f"{name} of boxes is {value}, need 0 to 1")


@dataclass(frozen=True)
class Detector:
    size: int  # S
    run: Run
    rules: Rules

    def boxes(self, picture: Image.Image) -> np.ndarray:
        """(n, 4) x1, y1, x2, y2 as shares of the width and height of an RGB picture, best first; n <= rules.boxes.

        Raises DataError where the model gives what cannot be.
        """
        pixels, (width, height) = letterboxed(picture, self.size)
        found = self.run(pixels)[0]
        check_values(found)
        boxes = np.clip(decoded(found[:, :BOX], self.size) / np.tile([width, height], 2), 0.0, 1.0)
        scores = found[:, BOX] * found[:, OBJECT:].max(1)
        wanted = (scores >= self.rules.score) & (areas(boxes) > 0)
        boxes, scores = boxes[wanted], scores[wanted]
        return boxes[suppressed(boxes, scores, self.rules.overlap, self.rules.boxes)]


# Pure parts ----------------------------------------------------------------------------------------------------------


def letterboxed(picture: Image.Image, size: int) -> tuple[np.ndarray, tuple[int, int]]:
    """The picture as large as fits into the upper left of a grey square, its shape kept.

    Returns (1, 3, size, size) float32 blue, green, red, and the width and height that the picture takes.
    """
    scale = size / max(picture.size)
    width, height = (max(1, round(side * scale)) for side in picture.size)
    square = np.full((size, size, 3), GREY, dtype=np.float32)
    square[:height, :width] = np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))
    return np.ascontiguousarray(square[:, :, ::-1].transpose(2, 0, 1))[None], (width, height)


def anchors(size: int) -> tuple[np.ndarray, np.ndarray]:
    """(A, 2) column and row of every cell, and (A, 1) its stride, in the order of the output."""
    cells, strides = [], []
    for stride in STRIDES:
        row, column = np.divmod(np.arange((size // stride) ** 2), size // stride)
        cells.append(np.stack([column, row], axis=1))
        strides.append(np.full((len(row), 1), stride))
    return np.concatenate(cells), np.concatenate(strides)


def decoded(found: np.ndarray, size: int) -> np.ndarray:
    """found: (A, 4) as the model gives it -> (A, 4) float64 x1, y1, x2, y2 in pixels of its input."""
    cells, strides = anchors(size)
    centre = (found[:, :2].astype(np.float64) + cells) * strides
    extent = np.exp(np.minimum(found[:, 2:].astype(np.float64), np.log(size))) * strides  # larger is all of it anyway
    return np.concatenate([centre - extent / 2, centre + extent / 2], axis=1)


def areas(boxes: np.ndarray) -> np.ndarray:
    """(..., 4) -> (...)."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def intersections(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Areas that boxes share.  one: (..., n, 4), other: (m, 4).  Returns (..., n, m)."""
    upper_left = np.maximum(one[..., :, None, :2], other[:, :2])
    lower_right = np.minimum(one[..., :, None, 2:], other[:, 2:])
    return np.maximum(lower_right - upper_left, 0.0).prod(-1)


def overlaps(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union.  box: (4,), others: (n, 4), all with an area.  Returns (n,)."""
    shared = intersections(box[None], others)[0]
    return shared / (areas(box) + areas(others) - shared)


def suppressed(boxes: np.ndarray, scores: np.ndarray, overlap: float, most: int) -> np.ndarray:
    """Places of up to `most` boxes, best first, that overlap no better one that is kept by more than `overlap`.

    boxes: (n, 4), scores: (n,); of equal scores the first is the better one.
    """
    left, kept = np.argsort(-scores, kind="stable"), []
    while len(left) and len(kept) < most:
        kept.append(left[0])
        left = left[1:][overlaps(boxes[left[0]], boxes[left[1:]]) <= overlap]
    return np.array(kept, dtype=np.int64)


def check_values(found: np.ndarray) -> None:
    """Raises DataError where the output (A, 5 + C) is not finite or its scores are none."""
    if not np.isfinite(found).all():
        raise DataError("the detector gives numbers that are NaN or infinite")
    scores = found[:, BOX:]
    if scores.min() < 0 or scores.max() > 1:
        raise DataError(f"the detector's scores are from {scores.min():g} to {scores.max():g}, need 0 to 1 (a sigmoid)")


# The file ------------------------------------------------------------------------------------------------------------


def load(path: Path, rules: Rules) -> Detector:
    """The detector in the file, tried on one black picture.

    Raises DataError, a line, where onnxruntime or the file is missing, and for a file or model of another form.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise DataError(f"--detector needs `pip install 'selfalign-harness[detector]'` ({error})") from error
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # pictures come from as many threads as there are cores
    options.log_severity_level = 4  # what fails is raised, and said here
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        inputs, outputs = session.get_inputs(), session.get_outputs()
        size = input_size([(i.type, i.shape) for i in inputs])

        def run(pixels: np.ndarray) -> np.ndarray:
            return np.asarray(session.run([outputs[0].name], {inputs[0].name: pixels})[0])

        found = run(letterboxed(Image.new("RGB", (size, size)), size)[0])
        check_shape(found.shape, size)
        check_values(found[0])
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    except Exception as error:  # onnxruntime has a class for each code of its own
        said = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise DataError(f"{path}: no ONNX model that onnxruntime runs: {said}") from error
    return Detector(size, run, rules)


def input_size(inputs: list[tuple[str, list[int | str]]]) -> int:
    """S of a model with these types and shapes of inputs.  Raises DataError where they are others."""
    needed = f"need one of float32, 1 x 3 x S x S, S a multiple of {STRIDES[-1]}"
    if len(inputs) != 1:
        raise DataError(f"the model has {len(inputs)} inputs, {needed}")
    kind, shape = inputs[0]
    fits = len(shape) == 4 and shape[1] == 3 and shape[2] == shape[3] and (shape[0] == 1 or isinstance(shape[0], str))
    side = shape[-1] if fits else None
    if kind != "tensor(float)" or not isinstance(side, int) or side <= 0 or side % STRIDES[-1]:
        raise DataError(f"the model's input is {kind} {' x '.join(map(str, shape))}, {needed}")
    return side


def check_shape(shape: tuple[int, ...], size: int) -> None:
    """Raises DataError for an output of another shape than an input of `size` leads to."""
    count = len(anchors(size)[0])
    if len(shape) != 3 or shape[:2] != (1, count) or shape[2] <= OBJECT:
        given = " x ".join(map(str, shape))
        raise DataError(f"the model's output is {given}, need 1 x {count} x (5 + classes), as YOLOX gives at {size}")
