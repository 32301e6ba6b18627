"""Numbers of the published implementations, read from this folder or from the one that GOLDEN_DIR names."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

Golden = Callable[[str], Mapping[str, Tensor]]


@pytest.fixture
def golden() -> Golden:
    """`golden("scan")` -> every array of scan.npz as a tensor.  A missing file fails, it is never skipped."""

    def read(name: str) -> Mapping[str, Tensor]:
        path = Path(os.environ.get("GOLDEN_DIR") or Path(__file__).parent) / f"{name}.npz"
        if not path.is_file():
            pytest.fail(f"golden file {path} is missing")
        with np.load(path, allow_pickle=False) as arrays:
            return {key: torch.from_numpy(np.asarray(arrays[key])) for key in arrays.files}

    return read
