"""Numbers of the published implementations, read from this folder or from the one that GOLDEN_DIR names.

Every test runs on the processor and, where there is one, on a GPU.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.places import PLACES

Golden = Callable[[str], Mapping[str, Tensor]]


@pytest.fixture(autouse=True, params=PLACES)
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Where a test's tensors and modules are made; its products are in float32, not in TF32."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    with torch.device(request.param):
        yield request.param


@pytest.fixture
def golden(place: str) -> Golden:
    """`golden("scan")` -> every array of scan.npz as a tensor.  A missing file fails, it is never skipped."""

    def read(name: str) -> Mapping[str, Tensor]:
        path = Path(os.environ.get("GOLDEN_DIR") or Path(__file__).parent) / f"{name}.npz"
        if not path.is_file():
            pytest.fail(f"golden file {path} is missing")
        with np.load(path, allow_pickle=False) as arrays:
            return {key: torch.from_numpy(np.asarray(arrays[key])).to(place) for key in arrays.files}

    return read
