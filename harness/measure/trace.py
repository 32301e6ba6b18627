"""In which operators do training, encoding and scoring spend their time?  torch.profiler, one stage at a time.

A stage runs a few steps for warm-up and a few more under the profiler.  Its trace lies where TensorBoard with
torch-tb-profiler finds it (the folder is the run, the stage its worker); a short table of operators comes back.
A profiler slows what it watches: shares and the order of operators count, times are none of the timing phase.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from torch.profiler import ProfilerActivity, profile, record_function, schedule, tensorboard_trace_handler

from harness.measure.clock import synchronise

STAGES = ("train", "encode_images", "encode_texts", "score")
WARMUP, RECORDED = 2, 3  # steps of a stage
TOP = 8  # operators kept of a stage
STEP = "ProfilerStep"  # what the profiler calls the time of a whole step, ours and its own


class Event(Protocol):
    """What is read of an entry of `profile.key_averages()`; times in microseconds, over all recorded steps."""

    key: str
    count: int
    device_type: Any  # torch's enumeration, with a `name`
    cpu_time_total: float
    device_time_total: float
    self_cpu_time_total: float
    self_device_time_total: float


def trace(stage: str, step: Callable[[], object], folder: Path, device: str) -> dict[str, Any]:
    """Runs `step` WARMUP + RECORDED times, writes the trace of the last ones into `folder` and sums them up.

    Returns what `operators` does.  An older trace of the stage goes.  Raises OSError, RuntimeError where the folder
    cannot be written.
    """
    for old in folder.glob(f"{stage}.*.pt.trace.json*"):
        old.unlink()
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.startswith("cuda") else [])]
    with (
        _without_marks(),
        profile(
            activities=activities,
            schedule=schedule(wait=0, warmup=WARMUP, active=RECORDED, repeat=1),
            on_trace_ready=tensorboard_trace_handler(str(folder), worker_name=stage),
        ) as profiler,
    ):
        for _ in range(WARMUP + RECORDED):
            with record_function(stage):
                step()
                synchronise()
            profiler.step()
    return operators(stage, profiler.key_averages(), RECORDED, device)


def operators(stage: str, events: Iterable[Event], steps: int, device: str) -> dict[str, Any]:
    """What the recorded steps come to, per step: {"step_ms", "parts", "top", "outside_ms"}.

    step_ms     time of one step: the operators' own time plus what passes outside them (on CUDA: the device's own)
    parts       name -> ms of the `stage/name` ranges that the code marks, operators inside included
    top         the TOP operators by their own time: name, calls, ms, share of step_ms in percent
    outside_ms  time of marked ranges outside any operator: Python, mostly
    """
    clock = "device" if device.startswith("cuda") else "cpu"

    def own_ms(event: Event) -> float:
        return getattr(event, f"self_{clock}_time_total") / 1000 / steps

    ours, theirs, parts = [], [], {}
    for event in events:
        if event.device_type.name != "CPU" or event.key.startswith(STEP):
            continue  # kernels are counted with the operators that start them
        marked = event.key == stage or event.key.startswith(f"{stage}/")
        (ours if marked else theirs).append(event)
        if marked and event.key != stage:
            parts[event.key.removeprefix(f"{stage}/")] = getattr(event, f"{clock}_time_total") / 1000 / steps
    total = sum(map(own_ms, [*ours, *theirs]))
    theirs.sort(key=lambda event: (-own_ms(event), event.key))
    return {
        "step_ms": total,
        "parts": parts,
        "top": [
            {
                "name": event.key,
                "calls": event.count / steps,
                "ms": own_ms(event),
                "share": 100 * own_ms(event) / total if total else 0.0,
            }
            for event in theirs[:TOP]
        ],
        "outside_ms": sum(map(own_ms, ours)),
    }


@contextmanager
def _without_marks() -> Iterator[None]:
    """The profiler writes a mark to the process's standard error whenever it starts and stops; all else passes."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as written:
        os.dup2(written.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            written.seek(0)
            for line in written:
                if not line.startswith(b"USDT:"):
                    os.write(2, line)
