"""How long a call takes: by the wall clock on a processor, by CUDA's own events on a GPU."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, TypeVar

import torch

T = TypeVar("T")


def timed(call: Callable[[], T], device: str) -> tuple[T, float]:
    """The result and the seconds it took, with the device's queue empty before and after.

    On CUDA the seconds are those between two events of the stream, work of the host between them included.
    """
    result, (seconds,) = laps(None, [lambda _: call()], device)
    return result, seconds


def synchronise() -> None:
    """Waits until GPUs have done what they were given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def laps(value: Any, calls: Sequence[Callable[[Any], Any]], device: str) -> tuple[Any, list[float]]:
    """Calls made one after the other, each with what the one before returned: the last result, the seconds of each.

    Where one ends the next begins, so that they add up to the whole.  On CUDA the queue is emptied before the first and
    after the last alone: a call ends when the stream reaches the end of its work.
    """
    if not device.startswith("cuda"):
        marks = [time.perf_counter()]
        for call in calls:
            value = call(value)
            marks.append(time.perf_counter())
        return value, [after - before for before, after in pairwise(marks)]
    stream = torch.cuda.current_stream(device)
    events = [torch.cuda.Event(enable_timing=True) for _ in range(len(calls) + 1)]
    torch.cuda.synchronize(device)
    events[0].record(stream)
    for call, event in zip(calls, events[1:], strict=True):
        value = call(value)
        event.record(stream)
    torch.cuda.synchronize(device)
    return value, [before.elapsed_time(after) / 1000 for before, after in pairwise(events)]
