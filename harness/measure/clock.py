"""How long a call takes: by the wall clock on a processor, by CUDA's own events on a GPU."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import torch

T = TypeVar("T")


def timed(call: Callable[[], T], device: str) -> tuple[T, float]:
    """The result and the seconds it took, with the device's queue empty before and after.

    On CUDA the seconds are those between two events of the stream, work of the host between them included.
    """
    if not device.startswith("cuda"):
        start = time.perf_counter()
        result = call()
        return result, time.perf_counter() - start
    stream = torch.cuda.current_stream(device)
    before, after = (torch.cuda.Event(enable_timing=True) for _ in "ab")
    torch.cuda.synchronize(device)
    before.record(stream)
    result = call()
    after.record(stream)
    torch.cuda.synchronize(device)
    return result, before.elapsed_time(after) / 1000
