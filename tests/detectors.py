"""A detector small enough for a test: it finds one box in a bright picture, none in a dark one."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

SIZE, ANCHORS = 32, 21  # 4 x 4 cells of 8 pixels, 2 x 2 of 16, one of 32
BOX = (8, 8, 24, 24)  # in pixels of the input: the one cell of 32 pixels holds it


def outputs(classes: int = 1) -> np.ndarray:
    """(1, ANCHORS, 5 + classes): nothing, but `BOX` in the last row, of the first class; its object is missing."""
    found = np.zeros((1, ANCHORS, 5 + classes), dtype=np.float32)
    found[0, -1] = (0.5, 0.5, math.log(0.5), math.log(0.5), 0.0, 1.0, *[0.0] * (classes - 1))
    return found


def write(
    path: Path, found: np.ndarray | None = None, shape: tuple[int | str, ...] = (1, 3, SIZE, SIZE), kind: str = "FLOAT"
) -> Path:
    """An ONNX file.  It gives `found`, its last object raised by the mean brightness from 0 to 1."""
    from onnx import TensorProto, checker, helper, numpy_helper, save

    found = outputs() if found is None else found
    brighter = np.zeros(found.shape, dtype=np.float32)
    brighter.reshape(-1, found.shape[-1])[-1, min(4, found.shape[-1] - 1)] = 1 / 255
    element = getattr(TensorProto, kind)
    nodes = [
        helper.make_node("Cast", ["images"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels"], ["brightness"], keepdims=0),
        helper.make_node("Mul", ["brightness", "brighter"], ["more"]),
        helper.make_node("Add", ["found", "more"], ["output"]),
    ]
    graph = helper.make_graph(
        nodes,
        "detector",
        [helper.make_tensor_value_info("images", element, shape)],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, found.shape)],
        [numpy_helper.from_array(found, "found"), numpy_helper.from_array(brighter, "brighter")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    checker.check_model(model)
    save(model, path)
    return path
