"""Where a test computes: on the processor, and on a GPU where there is one."""

import pytest
import torch

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
PLACES = ["cpu", pytest.param("cuda", marks=needs_gpu)]
