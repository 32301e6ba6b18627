"""Timing in turns: on a machine that others use, only what was timed beside each other can be compared."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping

from harness.measure.clock import timed

DEVICE = os.environ.get("BENCH_DEVICE", "cpu")  # where the calls compute
PATIENCE_S = 8.0  # for one benchmark, but for its warm-up and its first two rounds


def in_turns(
    benchmark, call: Callable[[], object], beside: Mapping[str, Callable[[], object]], rounds: int
) -> dict[str, object]:
    """Times `call`; before each round each of `beside` once, whose seconds go into `extra_info["beside"]`.

    At most `rounds` rounds, two of them however long they take.  Returns what the calls found, that of `call` as "".
    """
    seconds: dict[str, list[float]] = {name: [] for name in beside}

    def others() -> None:
        for name, other in beside.items():
            seconds[name].append(timed(other, DEVICE)[1])

    started = time.perf_counter()
    found = {"": call()} | {name: other() for name, other in beside.items()}  # all warm
    lasted = time.perf_counter() - started
    rounds = max(2, min(rounds, int(PATIENCE_S / lasted)))
    benchmark.pedantic(timed, (call, DEVICE), setup=others, rounds=rounds)  # `timed` waits for the device
    benchmark.extra_info["beside"] = seconds
    return found
